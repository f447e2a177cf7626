"""Converts a Lightning checkpoint to a checkpoint of the zoo, without running any code in the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from datamodules import LOCATIONS
from lightning_modules.runtime.checkpoint_io import DamagedCheckpoint, UnusableCheckpoint, read_checkpoint
from lightning_modules.runtime.loaded import AVERAGES_KEY
from lightning_modules.runtime.resuming import CLI_KEYS, METHOD
from lightning_modules.runtime.run_folder import CHECKPOINTS
from zoo.cards import CONFIG_FILE, Card
from zoo.data_record import plain_arguments
from zoo.errors import ZooError
from zoo.json_values import not_plain
from zoo.loading import build, compare_layouts, layout, set_data_spec
from zoo.paths import listed
from zoo.record import TrainingRecord
from zoo.saving import save_state


def export(
    ckpt: Path,
    folder: Path,
    *,
    name: str | None = None,
    method: str | None = None,
    recipe: str | None = None,
    averaged_only: bool = False,
) -> Card:
    """Writes the contents of a ``.ckpt`` as a checkpoint of the zoo: weights, averages, hyperparameters, data spec.

    Args:
        ckpt: File written by Lightning.
        folder: Folder of the checkpoint; an existing checkpoint there is replaced.
        name: Name in the card; the folder's by default.
        method: Class of the module; files of this library contain it.
        recipe: Name of the recipe that trained it.
        averaged_only: As in ``zoo.save``.

    Raises:
        ZooError: If the file is missing, damaged or holds code, or its method is not known.
    """
    checkpoint = _read(ckpt)
    hyperparameters = checkpoint.get("hyper_parameters", {})
    method = method or str(checkpoint.get(METHOD) or hyperparameters.get("_class_path", "")).rpartition(".")[2]
    if not method:
        raise ZooError(f"{ckpt} does not name its method; give it, as in --method WGANGP.")
    plain = {key: value for key, value in hyperparameters.items() if key not in CLI_KEYS}
    state = checkpoint["state_dict"]
    expected = layout(build(method, plain, device="meta", max_tensors=len(state)))
    # Loading converts types, such as those of a run in bfloat16; names and shapes must agree.
    found = {key: (tuple(value.shape), expected.get(key, ((), value.dtype))[1]) for key, value in state.items()}
    compare_layouts(ckpt, expected, found)
    module = build(method, plain)
    module.load_state_dict(state)
    if checkpoint.get("data_spec") is not None:
        set_data_spec(module, checkpoint["data_spec"], ckpt)
    batches = checkpoint.get("global_step")
    record = _record(ckpt, checkpoint)
    return save_state(
        module,
        folder,
        _averages(ckpt, checkpoint),
        datamodule=_data_record(checkpoint),
        name=name,
        recipe=recipe,
        batches=batches,
        planned_batches=record.planned,
        metrics=record.last_metrics(),
        training=record.cost(module, batches or 0) if record.examples else None,
        curve=record.curve(),
        averaged_only=averaged_only,
    )


def _data_record(checkpoint: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns what rebuilds the datamodule, without a digest: where the user's own data lie is asked for."""
    arguments = checkpoint.get("datamodule_hyper_parameters")
    if not isinstance(arguments, Mapping) or not all(isinstance(key, str) for key in arguments):
        return None
    named = str(arguments.get("_class_path", "")).rpartition(".")[2]
    (name,) = {named} & set(LOCATIONS) or {key for key in LOCATIONS if key in checkpoint} or {""}
    if not name or not_plain(plain := plain_arguments(name, arguments)):
        return None
    return {"class": name, "arguments": plain, "digest": None}


def _read(ckpt: Path) -> dict[str, Any]:
    if ckpt.is_dir():
        raise ZooError(f"{ckpt} is a folder: give a file in it that Lightning wrote.{_files_in(ckpt)}")
    if not ckpt.is_file():
        raise ZooError(f"There is no file {ckpt}.")
    try:
        return read_checkpoint(ckpt, needed=("state_dict",))
    except (DamagedCheckpoint, UnusableCheckpoint) as error:
        raise ZooError(f"{error} No code in it was run.") from error


def _files_in(folder: Path) -> str:
    """Returns the checkpoints of Lightning at or below a folder, for an error message."""
    if (folder / CONFIG_FILE).is_file():
        return " This one is a checkpoint of the zoo already."
    found = sorted(map(str, [*folder.glob("*.ckpt"), *folder.glob(f"{CHECKPOINTS}/*.ckpt")]))
    return f" It has {listed(found)}." if found else " It has no file that ends in .ckpt."


def _record(ckpt: Path, checkpoint: dict[str, Any]) -> TrainingRecord:
    """Returns the record of the run, empty if the file has none."""
    record = TrainingRecord()
    if "TrainingRecord" in checkpoint.get("callbacks", {}):
        try:
            record.load_state_dict(checkpoint["callbacks"]["TrainingRecord"])
            if not isinstance(record.planned, int | None):
                raise TypeError(f"planned={record.planned!r}")
        except (KeyError, TypeError) as error:
            raise ZooError(f"{ckpt}: its TrainingRecord is damaged ({error!r}).") from error
    return record


def _averages(ckpt: Path, checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Returns the averages of the first EMA callback."""
    own = checkpoint["state_dict"]
    averages: Mapping[str, torch.Tensor] = checkpoint.get("callbacks", {}).get(AVERAGES_KEY, {}).get("averages", {})
    if strange := [name for name in averages if name not in own]:
        raise ZooError(f"{ckpt}: its EMA callback averages {strange[0]!r}, which is not in its state_dict.")
    return {name: value.to(own[name].dtype) for name, value in averages.items()}
