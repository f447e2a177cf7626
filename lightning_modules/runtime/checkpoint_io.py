"""Atomic checkpoint files: a checkpoint is complete or absent.

A run may be killed at any moment, also while it writes. The file is written under a temporary name in the same
folder, flushed to the disk and then renamed, which is atomic in the file system. So under the final name there is
always a complete checkpoint, the new one or the previous one.

NOTE: To keep one file that a run resumes from, ``ModelCheckpoint(every_n_train_steps=500, save_top_k=0,
save_last=True)`` writes ``last.ckpt`` in place; its steps are batches, for every method. Its
``train_time_interval`` never saves under manual optimization (Lightning 2.6).
"""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch import Trainer
from lightning.pytorch.plugins import TorchCheckpointIO


class DamagedCheckpoint(RuntimeError):
    """A checkpoint file cannot be read to its end."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically and raises a clear error when one is damaged.

    Lightning's own writer uses the system's temporary folder, from where a move to another disk is a copy that can be
    interrupted. Remote paths (``s3://...``) are left to Lightning. Methods of this library use it by default
    (``write_atomically``).

    Example:
        >>> trainer = Trainer(plugins=[AtomicCheckpointIO()])                     # doctest: +SKIP
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Writes ``checkpoint`` to ``path``.

        The partial file has a fixed name, so that the next write of the same checkpoint replaces the partial file of
        a killed one.
        """
        if storage_options is not None or not _is_local(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        try:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _flush_folder(target.parent)

    def load_checkpoint(
        self,
        path: _PATH,
        map_location: Callable[..., Any] | None = lambda storage, location: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Reads a checkpoint.

        Raises:
            FileNotFoundError: If there is no such file.
            DamagedCheckpoint: If the file was cut short or overwritten.
        """
        damaged = (
            f"The checkpoint {path} is damaged (cut short or overwritten). Resume from an earlier one "
            "in the same folder, or start anew."
        )
        if _is_local(path) and Path(path).is_file() and not zipfile.is_zipfile(path):
            raise DamagedCheckpoint(damaged)
        try:
            return super().load_checkpoint(path, map_location, weights_only)
        except (RuntimeError, EOFError) as error:
            raise DamagedCheckpoint(damaged) from error


def write_atomically(trainer: Trainer) -> None:
    """Replaces Lightning's default writer by ``AtomicCheckpointIO``; a writer that the user chose is kept."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()


def _is_local(path: _PATH) -> bool:
    return "://" not in str(path)


def _flush_folder(folder: Path) -> None:
    # Without it a power failure could undo the renaming. Windows cannot open folders.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
