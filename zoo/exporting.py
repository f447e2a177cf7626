"""From a Lightning checkpoint to a checkpoint of the zoo, without running any code that the file may hold."""

import pickle
from pathlib import Path
from typing import Any

import torch

from datamodules.spec import DataSpec
from zoo.cards import Card
from zoo.errors import ZooError
from zoo.loading import build
from zoo.record import TrainingRecord
from zoo.saving import CLI_KEYS, save_state


def export(
    ckpt: Path, folder: Path, *, name: str | None = None, method: str | None = None, recipe: str | None = None
) -> Card:
    """Writes what a ``.ckpt`` holds as a checkpoint of the zoo: weights, averages, hyperparameters, data spec.

    Args:
        ckpt: File written by Lightning.
        folder: Where to write; an existing checkpoint there is replaced.
        name: Name in the card; the folder's by default.
        method: Class of the module; files written by a LightningCLI run say it themselves.
        recipe: Name of the recipe that trained it.

    Raises:
        ZooError: If the file is missing, damaged or holds code, or does not say what it is of.
    """
    checkpoint = _read(ckpt)
    hyperparameters = dict(checkpoint.get("hyper_parameters", {}))
    method = method or str(hyperparameters.get("_class_path", "")).rpartition(".")[2]
    if not method:
        raise ZooError(f"{ckpt} does not say which method it is of; give it, as --method WGANGP.")
    plain = {key: value for key, value in hyperparameters.items() if key not in CLI_KEYS}
    module = build(method, plain)
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except (KeyError, RuntimeError) as error:
        raise ZooError(f"{ckpt} does not fit {method} with its hyperparameters: {error}") from error
    if checkpoint.get("data_spec") is not None:
        module.data_spec = DataSpec.from_json(checkpoint["data_spec"])
    batches = checkpoint.get("global_step")
    record = _record(checkpoint)
    return save_state(
        module,
        folder,
        _averages(checkpoint),
        name=name,
        recipe=recipe,
        batches=batches,
        metrics={key: value for key, value in (record.rows or [{}])[-1].items() if key != "batches"},
        training=record.cost(module, batches or 0) if record.examples else None,
        curve=record.curve(),
    )


def _read(ckpt: Path) -> dict[str, Any]:
    if not ckpt.is_file():
        raise ZooError(f"There is no file {ckpt}.")
    try:
        checkpoint = torch.load(ckpt, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ZooError(
            f"{ckpt} is no Lightning checkpoint of plain tensors and numbers: it is damaged, something else, or holds "
            "objects whose loading could run code. Nothing of it was run."
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ZooError(f"{ckpt} is no checkpoint of Lightning: it has no state_dict.")
    return checkpoint


def _record(checkpoint: dict[str, Any]) -> TrainingRecord:
    """Returns the record of the run, empty if the file has none."""
    record = TrainingRecord()
    if "TrainingRecord" in checkpoint.get("callbacks", {}):
        record.load_state_dict(checkpoint["callbacks"]["TrainingRecord"])
    return record


def _averages(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Finds the state of the EMA callback, which Lightning files under the class's name."""
    for key, state in checkpoint.get("callbacks", {}).items():
        if key.startswith("EMA"):
            own = checkpoint["state_dict"]
            return {name: value.to(own[name].dtype) for name, value in state["averages"].items()}
    return {}
