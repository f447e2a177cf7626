"""Checkpoint files: written atomically, and checked before they are read.

A run may be killed at any moment, also while it writes. The file is written under a temporary name in the same
folder, flushed to the disk and then renamed, which is atomic in the file system. So under the final name there is
always a complete checkpoint, the new one or the previous one.

A file that was damaged afterwards is found before anything of it is used: torch itself does not compare the checksums
of the entries, and would resume from zeros.

NOTE: To keep one file that a run resumes from, ``ModelCheckpoint(every_n_train_steps=500, save_top_k=0,
save_last=True)`` writes ``last.ckpt`` in place; its steps are batches, for every method. Its
``train_time_interval`` never saves under manual optimization (Lightning 2.6).
"""

import os
import pickle
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.cloud_io import _load
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch import Trainer
from lightning.pytorch.plugins import TorchCheckpointIO

from lightning_modules.parts.files import flush_folder, naming
from lightning_modules.runtime.checkpoint_entries import wrong_entry

ALWAYS_IN_A_CHECKPOINT = ("state_dict", "global_step", "pytorch-lightning_version")
PICKLE, OF_TORCHSCRIPT = "/data.pkl", "/constants.pkl"  # entries of the archives that torch writes


class DamagedCheckpoint(RuntimeError):
    """A checkpoint file cannot be read to its end, or its content is not what was written."""


class UnusableCheckpoint(ValueError):
    """A file is intact, but it is no checkpoint of Lightning that may be loaded."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically, and reads none that is damaged or something else than a checkpoint.

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

        Raises:
            OSError: If the disk is full or the folder cannot be written to; the error names the file.
        """
        if storage_options is not None or not _is_local(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        try:
            with naming(target), partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        flush_folder(target.parent)

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
            UnusableCheckpoint: If it is something else than a checkpoint of Lightning.
        """
        with readable(path), _unpickling(path):
            checkpoint: Any = super().load_checkpoint(path, map_location, weights_only)
        check_is_checkpoint(checkpoint, path)
        return checkpoint


@contextmanager
def readable(path: Any) -> Iterator[None]:
    """Checks a local file before the block reads it, and says what is wrong where torch refuses to read it.

    Remote files, and files that are open already, are not checked.

    Raises:
        DamagedCheckpoint: If the file was cut short or overwritten; the checksum of every entry is compared.
        UnusableCheckpoint: If the path is a folder, or the file is of another kind, or holds weights only, or objects
            whose loading could run code.
    """
    if isinstance(path, (str, Path)) and _is_local(path):
        _check_file(Path(path))
    try:
        yield
    except pickle.UnpicklingError as error:
        raise UnusableCheckpoint(
            f"{path} holds objects other than tensors, numbers, strings and lists; loading them could run code, so it "
            "was not loaded. Have its owner save its state_dict and plain numbers only."
        ) from error


@contextmanager
def _unpickling(path: Any) -> Iterator[None]:
    """Says that a file is damaged where torch cannot make sense of its entries."""
    try:
        yield
    except (RuntimeError, EOFError, LookupError, ValueError, TypeError) as error:
        if isinstance(error, (DamagedCheckpoint, UnusableCheckpoint)):
            raise
        raise DamagedCheckpoint(_damaged(path)) from error


def read_checkpoint(path: Path, needed: Sequence[str]) -> dict[str, Any]:
    """Returns the content of a local file, which holds tensors and plain values only, on the CPU.

    Args:
        path: The file.
        needed: Entries without which it is refused.

    Raises:
        FileNotFoundError: If there is no such file.
        DamagedCheckpoint: If the file was cut short or overwritten.
        UnusableCheckpoint: If it is something else than a checkpoint of Lightning, or lacks an entry.
    """
    with readable(path), _unpickling(path):
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    check_is_checkpoint(content, path, needed)
    return dict(content)


def hyperparameters_of(path: Any, weights_only: bool | None = None) -> dict[str, Any]:
    """Returns the hyperparameters in a checkpoint.

    Args:
        path: A local or remote file, or an open one, which is rewound.
        weights_only: Whether to refuse files with objects other than tensors and plain values; ``None`` for yes.

    Raises:
        UnusableCheckpoint: If the file is something else than a checkpoint of Lightning.
    """
    only = weights_only is not False
    with _unpickling(path):
        if isinstance(path, (str, Path)) and Path(path).is_file():
            content = torch.load(path, map_location="cpu", weights_only=only, mmap=True)
        else:
            content = _load(path, map_location="cpu", weights_only=only)
    if hasattr(path, "seek"):
        path.seek(0)
    check_is_checkpoint(content, path)
    return dict(content.get("hyper_parameters") or {})


def check_is_checkpoint(checkpoint: Any, path: _PATH, needed: Sequence[str] = ALWAYS_IN_A_CHECKPOINT) -> None:
    """Raises ``UnusableCheckpoint`` unless a file holds what a checkpoint does, and all entries have their types."""
    if isinstance(checkpoint, dict) and all(key in checkpoint for key in needed):
        if problem := wrong_entry(checkpoint):
            raise UnusableCheckpoint(f"{path} was not written by Lightning, or was changed: {problem}.")
        return
    found = f"a {type(checkpoint).__name__}"
    if isinstance(checkpoint, dict):
        missing = next(key for key in needed if key not in checkpoint)
        tensors = checkpoint and all(isinstance(value, torch.Tensor) for value in checkpoint.values())
        found = "a state_dict, weights alone" if tensors else f"a dictionary without {missing!r}"
    raise UnusableCheckpoint(
        f"{path} is not a checkpoint of Lightning: it holds {found}. A run resumes from the .ckpt files that it has "
        "written; weights alone are loaded with load_state_dict."
    )


def write_atomically(trainer: Trainer) -> None:
    """Replaces Lightning's default writer by ``AtomicCheckpointIO``; a writer that the user chose is kept."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()


def _check_file(path: Path) -> None:
    if path.is_dir():
        of_the_zoo = (path / "model.safetensors").is_file()
        weights = " It is a checkpoint of the zoo, whose weights zoo.load loads." if of_the_zoo else ""
        raise UnusableCheckpoint(f"{path} is a folder, not a checkpoint file (.ckpt) of a run.{weights}")
    if not path.is_file():
        return  # Lightning says that it is missing
    if not zipfile.is_zipfile(path):
        if _is_safetensors(path):
            raise UnusableCheckpoint(
                f"{path} is a safetensors file: it holds weights, but no optimizers and no state of a run to resume. "
                "Weights are loaded with zoo.load or load_state_dict."
            )
        raise DamagedCheckpoint(_no_archive(path))
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
            # All zero: written under torch.serialization.set_crc32_options(False), without checksums.
            wrong = file.testzip() if any(entry.CRC for entry in file.infolist()) else None
    except Exception as error:  # bytes that were overwritten can make any part of the archive invalid
        raise DamagedCheckpoint(_damaged(path)) from error
    if wrong is not None:
        raise DamagedCheckpoint(f"{_damaged(path)} (The checksum of its entry {wrong} is wrong.)")
    if not any(name.endswith(PICKLE) for name in names) or any(name.endswith(OF_TORCHSCRIPT) for name in names):
        raise UnusableCheckpoint(
            f"{path} is not a checkpoint of Lightning, but another archive: it begins with {names[0]!r}."
            if names
            else f"{path} is not a checkpoint of Lightning, but an empty archive."
        )


def _damaged(path: _PATH) -> str:
    return (
        f"The checkpoint {path} is damaged (cut short or overwritten). Resume from an earlier one "
        "in the same folder, or start anew."
    )


def _no_archive(path: Path) -> str:
    """Says what a file is that is no zip archive, as all checkpoints are that were written to their end."""
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"PK\x03\x04":
        return _damaged(path)
    found = "it is empty" if not start else "it does not begin as one"
    of_torch = ", but as a pickle or a file of torch before 1.6" if start[:1] == b"\x80" else ""
    return (
        f"{path} is no checkpoint that this version reads, or its beginning was overwritten: {found}{of_torch}. "
        "Resume from another file, or start anew."
    )


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors: the length of a JSON header, and its opening brace."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _is_local(path: _PATH) -> bool:
    return "://" not in str(path)
