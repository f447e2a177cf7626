"""Hyperparameters on resume: those that fit the weights of the checkpoint are used, others are refused."""

import inspect
import json
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

CLI_KEYS = ("_class_path", "_instantiator")
"""What LightningCLI adds to hyperparameters for itself."""
Changes = dict[str, tuple[Any, Any]]
"""Name of a hyperparameter to its value in the checkpoint and its value now."""


def is_resuming(trainer: Trainer | None) -> bool:
    """Returns whether a checkpoint that is read now is continued, rather than loaded or measured."""
    return trainer is not None and trainer.state.fn == "fit"


def changed_hyperparameters(module: LightningModule, checkpoint: Mapping[str, Any]) -> Changes:
    """Compares the hyperparameters of a checkpoint with those of the module, as JSON values.

    A hyperparameter that the checkpoint does not have, because it was added later, had its default value.

    Args:
        module: A module that saved its hyperparameters; one that did not has none to compare.
        checkpoint: What Lightning wrote, with the current names of hyperparameters.
    """
    former = checkpoint.get("hyper_parameters", {})
    if not former or not module.hparams:
        return {}
    parameters = inspect.signature(type(module)).parameters
    defaults = {key: p.default for key, p in parameters.items() if p.default is not inspect.Parameter.empty}
    former = defaults | dict(former)
    pairs = {key: (former[key], value) for key, value in module.hparams.items() if key in former}
    return {key: pair for key, pair in pairs.items() if key not in CLI_KEYS and _json(pair[0]) != _json(pair[1])}


def check_weights_fit(module: LightningModule, checkpoint: Mapping[str, Any], changes: Changes) -> None:
    """Refuses a checkpoint whose weights do not fit the module, before any of them is loaded.

    Raises:
        ValueError: Naming the method or the hyperparameters that differ, each with both values, or else a tensor.
    """
    name, written_by = type(module).__name__, checkpoint.get("method")
    if written_by is not None and written_by != name:
        raise ValueError(f"The checkpoint is of a {written_by}, not of a {name}: resume it with the former.")
    own: Mapping[str, Tensor] = module.state_dict()
    saved: Mapping[str, Tensor] | None = checkpoint.get("state_dict")  # a sharded checkpoint has none
    if saved is None or not module.strict_loading:
        return
    wrong = [key for key in own.keys() | saved.keys() if _shape(own.get(key)) != _shape(saved.get(key))]
    if not wrong:
        return
    if changes:
        listed = " and ".join(f"{key}={before} (now {now})" for key, (before, now) in changes.items())
        reason = f"was trained with {listed}, and its weights do not fit this {name}; these values cannot change"
    else:
        key = min(wrong)
        reason = f"has {key} of shape {_shape(saved.get(key))}, and this {name} has {_shape(own.get(key))}"
    raise ValueError(f"The checkpoint {reason}. Build the method as it was, or start a new run.")


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=repr))  # tuples become lists


def _shape(tensor: Tensor | None) -> list[int] | None:
    return None if tensor is None else list(tensor.shape)
