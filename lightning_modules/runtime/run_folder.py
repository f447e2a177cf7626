"""The folder of a run: what belongs to the run in it, and how a new run moves an earlier one aside.

A folder has one run at its plain names, always the newest: ``checkpoints/last.ckpt`` is the file that it continues
from. The runs before are kept whole, each in a folder ``earlier-1``, ``earlier-2``, ... inside.
"""

import os
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info

from lightning_modules.runtime.tracking_state import open_run

CHECKPOINTS, TABLE, HYPERPARAMETERS = "checkpoints", "metrics.csv", "hyperparameters.json"
CONFIG, ORIGIN, RESULT = "config.yaml", "run.json", "zoo"  # of runs of the command line
EARLIER = "earlier"
LAST_CHECKPOINT = "last.ckpt"
IMAGES = "step-*.png"  # what callbacks that render write into folders of their own


def set_aside(folder: Path) -> Path | None:
    """Moves the run in a folder to a folder ``earlier-<n>`` in it, and says so.

    Only files and folders that a run writes are moved, because the folder may be one of the user's that holds other
    things. ``wandb/`` stays: its runs have folders of their own.

    Args:
        folder: Folder of the run.

    Returns:
        The folder that the earlier run was moved to, or ``None`` if there was none.
    """
    found = _parts(folder)
    if not found:
        return None
    number = 1
    while (aside := folder / f"{EARLIER}-{number}").exists():
        number += 1
    aside.mkdir()
    for path in found:
        os.replace(path, aside / path.name)
    rank_zero_info(f"The earlier run in {folder} was moved to {aside}: {', '.join(path.name for path in found)}.")
    return aside


def newest_checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints of the run in a folder, the file that was written last first."""
    files = (folder / CHECKPOINTS).glob("*.ckpt") if folder.is_dir() else ()
    return sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name == LAST_CHECKPOINT), reverse=True)


def checkpoints_dir_of(trainer: Trainer) -> Path:
    """Returns the folder that a trainer writes its checkpoints to; every process must call it."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is not None:
            return Path(callback.dirpath)
    return Path(trainer.log_dir or trainer.default_root_dir) / CHECKPOINTS


class PlainNames(Callback):
    """Gives the files of a run their plain names, before the first of them is written."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the record of the run, which moves an earlier run aside, and keeps the name of the last checkpoint."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, ModelCheckpoint):
                    callback.save_last = False  # Lightning would save it at the end, although it says that it does not
            return
        open_run(trainer)
        keep_plain_name(trainer)


def keep_plain_name(trainer: Trainer) -> None:
    """Makes this run write ``last.ckpt`` under its plain name, where Lightning would write ``last-v1.ckpt``.

    A resumed run replaces the file: it continues that run. A new run gives the file of the run before the free name
    ``last-v<n>.ckpt``; that is needed in folders of the user's own only, see ``set_aside``. Every process must call it,
    after the states of callbacks were restored.
    """
    for callback in trainer.checkpoint_callbacks:
        if not isinstance(callback, ModelCheckpoint) or not callback.save_last or callback.dirpath is None:
            continue
        last = Path(callback.dirpath) / f"{callback.CHECKPOINT_NAME_LAST}{callback.FILE_EXTENSION}"
        if "{" in last.name or "://" in str(callback.dirpath):
            continue  # a name that contains metrics is another file each time
        if trainer.ckpt_path is not None:
            callback.last_model_path = str(last)
        elif trainer.is_global_zero and last.exists():
            number = callback.STARTING_VERSION
            while (former := last.with_stem(f"{last.stem}-v{number}")).exists():
                number += 1
            os.replace(last, former)
            rank_zero_info(f"The file {last} of an earlier run was renamed to {former.name}.")


def _parts(folder: Path) -> list[Path]:
    """Returns what a run has written into its folder; nothing unless it has got as far as a table or a checkpoint."""
    result = [folder / RESULT] if (folder / RESULT / "config.json").is_file() else []
    if not (result or (folder / TABLE).is_file() or any((folder / CHECKPOINTS).glob("*.ckpt"))):
        return []
    names = (CHECKPOINTS, TABLE, HYPERPARAMETERS, CONFIG, ORIGIN)
    images = sorted({path.parent for path in folder.glob(f"*/{IMAGES}")})
    return [path for path in (folder / name for name in names) if path.exists()] + images + result
