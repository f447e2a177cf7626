"""Saves a module as a checkpoint: a folder that is written atomically."""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from safetensors.torch import save as to_bytes
from torch import Tensor

import lightning_modules
from lightning_modules.base import GenerativeModule, ZooModule
from lightning_modules.callbacks.ema import EMA
from lightning_modules.parts.checks import not_finite
from lightning_modules.parts.files import replace_file
from lightning_modules.rendering.modules import render_samples
from lightning_modules.rendering.renderers import BETWEEN_TEXTS, renderer_of
from lightning_modules.runtime.flags import planned_batches
from lightning_modules.runtime.resuming import CLI_KEYS
from zoo.bounds import check_arguments, check_counts
from zoo.cards import CONFIG_FILE, README_FILE, SAMPLE_FILES, WEIGHTS_FILE, Card, checked_file, read_card
from zoo.checkpoint_folder import replacing
from zoo.data_record import record_of
from zoo.errors import ZooError
from zoo.json_values import not_plain
from zoo.loading import AVERAGED, build, file_sha256, layout, load_folder, network_of
from zoo.model_card import readme
from zoo.record import hardware_of, library_versions

MAX_TEXT_BYTES = 1 << 20


def save(
    module: ZooModule,
    folder: str | Path,
    *,
    name: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    recipe: str | None = None,
    overrides: Sequence[str] = (),
    training: Mapping[str, float] | None = None,
    notes: str | None = None,
    curve: Sequence[Mapping[str, float]] = (),
    samples: bool = True,
    averaged_only: bool = False,
    large: bool = False,
    trainer: Trainer | None = None,
    artists: Sequence[str] = (),
) -> Card:
    """Writes a module as a checkpoint that ``zoo.load`` reads, and returns its card.

    All networks are written, and also the averaged weights if the trainer has an ``EMA`` callback. The new checkpoint
    is loaded for a check before it replaces an older one; on any failure the older one is kept.

    A class of your own is refused unless it is registered in ``lightning_modules/__init__.py``. To know before a long
    training, call ``zoo.saving.check_saveable(module)``, as the command does; ``Trainer.fit`` does not ask.

    Args:
        module: A method of ``lightning_modules`` built from its plain hyperparameters.
        folder: Folder of the checkpoint; an existing checkpoint there is replaced.
        name: Name in the card; the folder's by default.
        metrics: Metrics; each name contains its protocol, as in ``fid-fashion_mnist-10k``.
        recipe: Name of the recipe that trained it.
        overrides: Arguments of the training that replaced those of the recipe, ``["--model.width", "64"]``.
        training: Cost of the training, such as ``{"examples": 512000, "minutes": 15.2}``.
        notes: Limitations, for the reader of the model card.
        curve: Rows of the training curve for the model card, such as ``{"batches": 1000, "fid": 40.1}``.
        samples: Whether to write ``samples.png`` and, for sequences, a file in a format for their kind; skipped for a
            module that cannot sample, and for sequences whose data are not recorded.
        averaged_only: Whether to leave out the weights of the last step of every network that has averaged ones, which
            samples do not use. The file of a GAN is about half as large then; ``zoo.load(..., weights="raw")`` is an
            error, and fine-tuning starts from the average.
        large: Whether wheels of the zoo leave out the weights.
        trainer: The trainer whose EMA callback is used; the module's own by default.
        artists: Artists of images that the weights at the start of the training were made from, ``["noto"]``, beside
            those of its data; see ``zoo.licences``.

    Raises:
        ZooError: If the module is not a method of the registry, has hyperparameters that are not JSON values, holds
            weights that are not finite, the training has a cost or the curve a count that is none, or ``folder`` is
            something other than a checkpoint.
    """
    _identity(module)
    given: dict[str, Any] = {"name": name, "metrics": metrics, "recipe": recipe, "overrides": overrides}
    given |= {"training": training, "notes": notes, "curve": curve, "samples": samples, "trainer": trainer}
    given |= {"averaged_only": averaged_only, "large": large, "artists": artists}
    check_arguments(save, folder=folder, **given)
    if trainer is None and module._trainer is not None:
        trainer = module.trainer
    return save_state(
        module,
        folder,
        _averaged_state(module, trainer),
        datamodule=None if trainer is None else record_of(getattr(trainer, "datamodule", None)),
        batches=None if trainer is None else trainer.global_step,
        planned_batches=None if trainer is None else planned_batches(trainer),
        precision=None if trainer is None else str(trainer.precision),
        hardware=None if trainer is None else hardware_of(trainer),
        name=name,
        metrics=metrics,
        recipe=recipe,
        overrides=overrides,
        training=training,
        notes=notes,
        curve=curve,
        samples=samples,
        averaged_only=averaged_only,
        large=large,
        artists=artists,
    )


def save_state(
    module: ZooModule,
    folder: str | Path,
    averaged: Mapping[str, Tensor],
    *,
    name: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    recipe: str | None = None,
    overrides: Sequence[str] = (),
    batches: int | None = None,
    planned_batches: int | None = None,
    precision: str | None = None,
    hardware: str | None = None,
    training: Mapping[str, float] | None = None,
    notes: str | None = None,
    curve: Sequence[Mapping[str, float]] = (),
    samples: bool = True,
    averaged_only: bool = False,
    large: bool = False,
    datamodule: Mapping[str, Any] | None = None,
    artists: Sequence[str] = (),
) -> Card:
    """Saves a checkpoint as ``save`` does, with the averaged weights and the record of the data as arguments."""
    method, hyperparameters = _identity(module)
    folder = Path(folder).expanduser()
    expected = layout(build(method, hyperparameters, device="meta"))
    state = _in_types_of(expected, plain_state(module.state_dict()))
    _check_rebuilds(method, expected, state)
    if strange := sorted(set(averaged) - set(state)):
        raise ZooError(f"The averaged weights have {strange[0]!r}, which {method} does not have.")
    averaged = _in_types_of(expected, plain_state(averaged))
    only = _wholly_averaged(state, averaged) if averaged_only else ()
    state = {key: value for key, value in state.items() if network_of(key) not in only}
    state |= {AVERAGED + key: value for key, value in averaged.items()}
    _check_finite(state)
    card = Card(
        name=name or folder.resolve().name,
        path=folder,
        method=method,
        hyperparameters=hyperparameters,
        sha256="",
        data_spec=module.data_spec.to_json() if module.has_data_spec else None,
        averaged=bool(averaged),
        averaged_only=only,
        large=large,
        networks=parameter_counts(module),
        metrics=_as_numbers(metrics or {}),
        recipe=recipe,
        overrides=tuple(overrides),
        batches=batches or None,
        planned_batches=(planned_batches or None) if batches else None,
        precision=precision if batches else None,
        hardware=hardware if batches else None,
        training=dict(training or {}),
        notes=" ".join(filter(None, [notes, *module.changes])),
        curve=tuple(dict(row) for row in curve),
        versions=library_versions(),
        datamodule=datamodule,
        artists=tuple(artists),
    )
    if reason := not_plain(card.to_json()):
        raise ZooError(f"The config of the checkpoint would not be valid JSON: {reason}")
    check_counts(folder, card.to_json())
    with replacing(folder) as temporary:
        replace_file(temporary / WEIGHTS_FILE, to_bytes(state, metadata={"format": "pt"}))
        card = replace(card, sha256=file_sha256(temporary / WEIGHTS_FILE))
        _write_config(temporary, card)
        loaded = load_folder(temporary)
        if samples and isinstance(loaded, GenerativeModule) and (renderer := renderer_of(loaded)) is not None:
            rendering = render_samples(loaded)
            for extension in renderer.extensions:
                replace_file(temporary / f"samples{extension}", rendering.content(extension))
        _write_readme(temporary, card)
    return read_card(folder)


def update_metrics(folder: Path, metrics: Mapping[str, float], other_seed: int | None = None) -> Card:
    """Adds metrics, or those of a run with another seed, to a checkpoint's config and model card, each atomically."""
    card = read_card(folder)
    if other_seed is None:
        card = replace(card, metrics=dict(card.metrics) | _as_numbers(metrics))
    else:
        beside = dict(card.other_seeds.get(str(other_seed), {})) | _as_numbers(metrics)
        card = replace(card, other_seeds={**card.other_seeds, str(other_seed): beside})
    _write_config(folder, card)
    _write_readme(folder, card)
    return read_card(folder)


def _as_numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Returns metrics, also of numpy and tensors without dimensions, as numbers."""
    numbers = {}
    for key, value in metrics.items():
        try:
            numbers[key] = float(value)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise ZooError(f"metrics: {str(key)!r} is {str(value)[:80]!r}, which is not a number.") from error
    return numbers


def plain_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns contiguous CPU copies that share no memory, as safetensors requires.

    Channels-last weights become contiguous, tied weights become equal copies.
    """
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise ZooError(f"{key!r} in the module's state is a {type(value).__name__}; only tensors can be saved.")
    return {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in state.items()}


def parameter_counts(module: LightningModule) -> dict[str, int]:
    """Returns the number of parameters of each network of a module."""
    counts = {name: sum(p.numel() for p in child.parameters()) for name, child in module.named_children()}
    if own := sum(p.numel() for p in module.parameters(recurse=False)):
        counts["module"] = own
    return {name: count for name, count in counts.items() if count}


def _identity(module: ZooModule) -> tuple[str, dict[str, Any]]:
    method = type(module).__name__
    if not isinstance(module, ZooModule) or lightning_modules.METHODS.get(method) is not type(module):
        raise ZooError(
            f"{method} is not one of the zoo's methods ({', '.join(sorted(lightning_modules.METHODS))}), so it could "
            "not be rebuilt from its config. Save its state_dict with torch.save, or register the class in "
            "lightning_modules/__init__.py."
        )
    hyperparameters = {key: value for key, value in module.hparams.items() if key not in CLI_KEYS}
    for key, value in hyperparameters.items():
        if reason := not_plain(value, key):
            raise ZooError(
                f"{method} was built with a hyperparameter that JSON cannot represent: {reason} "
                "Build it from plain numbers, strings and lists; other networks can be trained, but not saved here."
            )
    known = inspect.signature(type(module)).parameters
    if not hyperparameters and any(p.default is inspect.Parameter.empty for p in known.values()):
        raise ZooError(f"{method} did not save its hyperparameters; call self.save_hyperparameters() in its __init__.")
    return method, json.loads(json.dumps(hyperparameters))  # tuples become lists here as in the file


def check_saveable(module: ZooModule) -> None:
    """Checks that a module can be saved, so that a long training does not fail at the end.

    Raises:
        ZooError: If it is no method of the registry, or has hyperparameters that are not JSON values or do not rebuild
            it.
    """
    method, hyperparameters = _identity(module)
    expected = layout(build(method, hyperparameters, device="meta"))
    _check_rebuilds(method, expected, _in_types_of(expected, module.state_dict()))


def _averaged_state(module: LightningModule, trainer: Trainer | None) -> dict[str, Tensor]:
    callbacks = [] if trainer is None else trainer.callbacks  # type: ignore[attr-defined]
    average = next((callback for callback in callbacks if isinstance(callback, EMA)), None)
    return average.averaged_state_dict(module) if average is not None and average.is_started else {}


def _wholly_averaged(state: Mapping[str, Tensor], averaged: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Returns the networks all of whose tensors have an average."""
    networks = {network: None for key in averaged if (network := network_of(key)) is not None}
    without = {network_of(key) for key in state if key not in averaged}
    return tuple(network for network in networks if network not in without)


def _in_types_of(expected: Mapping[str, tuple[Any, torch.dtype]], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # A run in float64 or bfloat16 has other types than the checkpoint, which is of float32.
    def typed(key: str, value: Tensor) -> Tensor:
        dtype = expected[key][1] if key in expected else value.dtype
        return value.to(dtype) if value.is_floating_point() and dtype.is_floating_point else value

    return {key: typed(key, value) for key, value in state.items()}


def _check_rebuilds(method: str, expected: Mapping[str, tuple[Any, torch.dtype]], state: Mapping[str, Tensor]) -> None:
    own = {key: (tuple(value.shape), value.dtype) for key, value in state.items()}
    wrong = sorted(key for key in set(own) | set(expected) if own.get(key) != expected.get(key))
    if wrong:
        raise ZooError(
            f"The saved hyperparameters of this {method} do not rebuild it: {', '.join(wrong[:5])} would differ. "
            "Were its networks changed after it was built?"
        )


def _check_finite(state: Mapping[str, Tensor]) -> None:
    for key in not_finite(state):
        raise ZooError(f"{key!r} holds values that are not finite: the training has diverged. Nothing was saved.")


def _write_config(folder: Path, card: Card) -> None:
    replace_file(folder / CONFIG_FILE, (json.dumps(card.to_json(), indent=2, allow_nan=False) + "\n").encode())


def _write_readme(folder: Path, card: Card) -> None:
    samples = [name for name in SAMPLE_FILES if (folder / name).is_file()]
    quoted = ""
    if "samples.txt" in samples:
        content = checked_file(folder, "samples.txt", MAX_TEXT_BYTES).read_bytes()
        quoted = content.decode(errors="replace").split(BETWEEN_TEXTS)[0]
    replace_file(folder / README_FILE, readme(card, samples=samples, quoted=quoted).encode())
