"""Checks that a checkpoint fits the module that continues from it, before any weight is loaded.

Lightning would list the tensors that do not fit, or stop at the first key of the file that it misses.
"""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor

from lightning_modules.parts.checks import not_finite
from lightning_modules.runtime.checkpoint_entries import wrong_entry
from lightning_modules.runtime.loaded import LoadedModule
from lightning_modules.runtime.resuming import METHOD, changed_hyperparameters, is_resuming

NEEDED_TO_RESUME = ("loops", "optimizer_states", "lr_schedulers")


class MismatchedCheckpoint(ValueError):
    """A checkpoint is of another method, of networks of another size, or holds too little to resume from."""


def check_fits(module: LoadedModule, checkpoint: Mapping[str, Any], trainer: Trainer | None) -> None:
    """Compares a checkpoint with the module that loads it, and with what the trainer is about to do.

    Args:
        module: The module that was built.
        checkpoint: The content of the file.
        trainer: The trainer that resumes or evaluates, or ``None`` where a checkpoint is only loaded.

    Raises:
        MismatchedCheckpoint: If the method differs, or a tensor is missing, superfluous or of another shape; the
            message has the two values of each hyperparameter that differs. Also if a run is to be resumed, and the
            file holds weights only.
    """
    path = None if trainer is None else trainer.ckpt_path
    checkpoint_name = "The checkpoint" if path is None else f"The checkpoint {path}"
    datamodule = getattr(trainer, "datamodule", None)
    own = () if datamodule is None else (type(datamodule).__qualname__,)  # where Lightning keeps its state
    if problem := wrong_entry(checkpoint, *own):  # also of a file that a writer of the user's own has read
        raise MismatchedCheckpoint(f"{checkpoint_name} was not written by Lightning, or was changed: {problem}.")
    if module.strict_loading and (difference := _difference(module, checkpoint)):
        raise MismatchedCheckpoint(f"{checkpoint_name} does not fit: {difference}")
    if not is_resuming(trainer):
        return
    saved = checkpoint.get("state_dict") or {}
    if broken := not_finite({name: saved[name] for name, _ in module.named_parameters() if name in saved}):
        raise MismatchedCheckpoint(
            f"{checkpoint_name} cannot be resumed from: its weights {', '.join(broken[:3])} are NaN or infinite, as "
            "its training had diverged. Resume from an earlier one."
        )
    missing = [key for key in NEEDED_TO_RESUME if key not in checkpoint]
    if missing or "fit_loop" not in checkpoint["loops"]:
        raise MismatchedCheckpoint(
            f"{checkpoint_name} cannot be resumed from: it holds weights, but not the state of a training "
            f"({(missing or ['loops/fit_loop'])[0]!r} is missing). It was saved with save_weights_only=True, or by "
            "another program; its weights alone are loaded with load_state_dict."
        )
    if not checkpoint["loops"]["fit_loop"]:
        raise MismatchedCheckpoint(f"{checkpoint_name} cannot be resumed from: its state of the training is empty.")


def _difference(module: LoadedModule, checkpoint: Mapping[str, Any]) -> str | None:
    """Returns the first difference of class or of layout, as a sentence, or ``None``."""
    state: Mapping[str, Tensor] | None = checkpoint.get("state_dict")
    if state is None:  # a sharded checkpoint
        return None
    own = module.state_dict()
    settings = module.current_names(checkpoint.get("hyper_parameters") or {})
    name, written_by = type(module).__name__, checkpoint.get(METHOD)
    written_by = written_by or str(settings.get("_class_path", "")).rpartition(".")[2] or None
    if written_by not in (None, name):
        return f"it was written by {written_by}, but this run is of {name}."
    keys = next(iter(sorted(own.keys() ^ state.keys())), None)
    shapes = next((key for key in own if key in state and _shape(own[key]) != _shape(state[key])), None)
    if keys is None and shapes is None:
        return None
    if changes := changed_hyperparameters(module, {**checkpoint, "hyper_parameters": settings}):
        listed = " and ".join(f"{key}={before} (now {value})" for key, (before, value) in changes.items())
        return f"it was trained with {listed}, and its weights do not fit this {name}."
    if shapes is not None:
        return f"its tensor {shapes!r} has shape {_shape(state[shapes])}, but here {name} has {_shape(own[shapes])}."
    return f"its tensor {keys!r} is not in {name}." if keys in state else f"it has no tensor {keys!r}, as {name} has."


def _shape(value: Any) -> list[int]:
    return list(value.shape) if isinstance(value, Tensor) else []
