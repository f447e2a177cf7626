"""Files that are complete or absent, and errors that name them."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Adds the path to an ``OSError`` of the block that has none: a failed write does not know its file."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def flush_folder(folder: Path) -> None:
    """Writes the entries of a folder to the disk; without it a power failure could undo the renaming of a file."""
    if os.name == "posix":  # Windows cannot open folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_file(path: str | Path, content: bytes) -> None:
    """Writes a file, and creates missing folders; on any failure an older file is kept, and none is left half written.

    Raises:
        NotADirectoryError: If the folder is a file, or in one.
        OSError: If the disk is full or the folder cannot be written to; the error names the file.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        reason = f"it is not a folder that {path.name} could be in"
        raise NotADirectoryError(errno.ENOTDIR, reason, str(path.parent)) from error
    partial = path.with_name(f".{path.name}.partial")
    try:
        with naming(path):
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def cache_folder(kind: str) -> Path:
    """Returns ``$GENERATIVE_ZOO_CACHE/<kind>``, or the same under the user's cache folder; it may not exist."""
    if folder := os.environ.get("GENERATIVE_ZOO_CACHE"):
        return Path(folder) / kind
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "generative-zoo" / kind


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
