"""The folder of a checkpoint is written atomically: it is the new one, complete, or the one that was there before."""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_modules.parts.files import flush_folder
from zoo.cards import CONFIG_FILE
from zoo.errors import ZooError


def check_target(folder: str | Path) -> None:
    """Checks that a checkpoint can be written to ``folder``, so that a long training does not fail at the end.

    Raises:
        ZooError: If ``folder`` exists and is neither empty nor a checkpoint, or is not in a writable folder.
    """
    folder = Path(folder).expanduser()
    if folder.exists() and not (folder.is_dir() and ((folder / CONFIG_FILE).is_file() or not any(folder.iterdir()))):
        raise ZooError(f"{folder} exists and is not a checkpoint of the zoo; it is kept. Choose another folder.")
    home = next(parent for parent in folder.resolve().parents if parent.exists())
    if not home.is_dir() or not os.access(home, os.W_OK | os.X_OK):
        raise ZooError(f"{folder} cannot be created: {home} is not a writable folder. Choose another folder.")


def check_update(folder: Path) -> None:
    """Checks that the card of a checkpoint can be rewritten, so that a long measurement does not fail at the end.

    Raises:
        ZooError: If its folder is not writable.
    """
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ZooError(f"{folder} is not writable: measure without --write, or a copy of it in a folder of your own.")


def announce_replacement(folder: str | Path) -> None:
    """Says on the error stream that a checkpoint will be replaced, if there is one."""
    if (Path(folder).expanduser() / CONFIG_FILE).is_file():
        print(f"The checkpoint in {folder} will be replaced at the end of this training.", file=sys.stderr)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yields an empty folder that replaces ``folder`` when the block ends without an error.

    The replacement consists of two renames. If the process is killed between them, there is no ``folder``, but the
    older checkpoint is intact in ``.<name>.saving-<random>/old`` in the same parent folder, where readers do not look.
    The next save to ``folder`` restores it, and removes the files of killed saves. So two processes must not save to
    one folder at the same time.

    Raises:
        ZooError: If no checkpoint can be written to ``folder``; see ``check_target``.
    """
    check_target(folder)
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    _recover(folder)
    # In the same parent folder, so that both renames stay in one file system.
    scratch = Path(tempfile.mkdtemp(prefix=_scratch_prefix(folder), dir=folder.parent))
    fresh, old = scratch / "new", scratch / "old"
    try:
        fresh.mkdir()
        yield fresh
        flush_folder(fresh)
        if folder.exists():
            folder.rename(old)
        try:
            fresh.rename(folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise
        flush_folder(folder.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _scratch_prefix(folder: Path) -> str:
    return f".{folder.name}.saving-"


def _recover(folder: Path) -> None:
    """Restores an older checkpoint that a killed save has left in its scratch folder, and removes such folders."""
    pattern = re.compile(re.escape(_scratch_prefix(folder)) + r"[a-z0-9_]{8}")
    leftovers = [path for path in folder.parent.iterdir() if pattern.fullmatch(path.name) and path.is_dir()]
    for scratch in sorted(leftovers, key=lambda path: path.stat().st_mtime, reverse=True):
        if not folder.exists() and (scratch / "old" / CONFIG_FILE).is_file():
            (scratch / "old").rename(folder)
        shutil.rmtree(scratch, ignore_errors=True)
