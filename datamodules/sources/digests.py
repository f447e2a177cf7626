"""Digests of the user's files, by which data are known again."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

BEGINNING = 1 << 16
"""Bytes of each of many files that are read: all of a small image, and enough of a large one."""


def digest_of_file(path: Path) -> str:
    """Returns the sha256 of a file, hexadecimal.

    Raises:
        ValueError: If it is no regular file.
    """
    if not path.is_file():
        raise ValueError(f"path={str(path)!r} is not a file.")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digest_of_files(folder: Path, paths: Sequence[Path]) -> str:
    """Returns the sha256, hexadecimal, of the names, sizes and first 64 KiB of files below a folder, in their order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            beginning, size = file.read(BEGINNING), os.fstat(file.fileno()).st_size
        name = os.fsencode(path.relative_to(folder).as_posix())
        digest.update(b"%d %d %d " % (len(name), size, len(beginning)) + name + beginning)
    return digest.hexdigest()
