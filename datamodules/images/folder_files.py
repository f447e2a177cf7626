"""Lists the images below a folder and their classes: links are followed without going in circles."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from datamodules.sources.file_names import legible

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
SPLIT_NAMES = {"train", "val", "valid", "validation", "test"}
"""Names of sub-folders that mean splits and not classes."""
MOST_NAMED = 20
"""Number of files that a message names."""

Place = tuple[int, int]
"""A folder by its device and its number there, which are the same for all names and links that lead to it."""


def list_images(folder: Path) -> list[Path]:
    """Returns all images below a folder, sorted; they are known by their extension.

    Links to files and to folders are followed. Within one sub-folder of ``folder``, which may be a class, each folder
    is read once, and a link to a folder that holds ``folder`` or is read already is left out: it leads in a circle. A
    warning names such links, and what is no regular file: broken links, pipes, sockets. Another one names sub-folders
    that are, or hold, the same folder, whose images are read for each of them.

    Raises:
        ValueError: If there is no such folder, a folder cannot be read, or there is no image in it.
    """
    if not folder.is_dir():
        raise ValueError(f"data_dir={str(folder)!r} is not a folder.")
    home = folder.resolve()
    above = {_place(place): place for place in (home, *home.parents)}
    found: list[Path] = []
    circles: list[Path] = []
    irregular: list[Path] = []
    first: dict[Place, Path] = {}
    shared: dict[Path, Path] = {}
    files, folders = _entries(folder, irregular)
    found += files
    for entry in folders:
        seen = dict(above)
        found += _images(entry, seen, circles, irregular)
        for place in seen.keys() - above.keys():
            if first.setdefault(place, seen[place]) != seen[place]:
                shared[seen[place]] = first[place]
    if irregular:
        _say(folder, "no regular files (broken links, pipes or sockets)", irregular)
    if circles:
        _say(folder, "links to folders that are read already", circles)
    if pairs := [pair for pair in sorted(shared.items()) if pair[0].parent not in shared]:
        _say_shared(folder, pairs)
    if not found:
        raise ValueError(f"{folder} has no images: expected files ending in {', '.join(EXTENSIONS)}.")
    return sorted(found)


def _images(folder: Path, seen: dict[Place, Path], circles: list[Path], irregular: list[Path]) -> Iterator[Path]:
    """Yields the images below a folder; adds to ``seen`` the folders read, and to the lists what was left out."""
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        if (place := _place(current)) in seen:
            circles.append(current)
            continue
        seen[place] = current
        files, folders = _entries(current, irregular)
        yield from files
        waiting += reversed(folders)


def _entries(folder: Path, irregular: list[Path]) -> tuple[list[Path], list[Path]]:
    """Returns the images in a folder and its sub-folders, these before links to folders; none of them is hidden."""
    files, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path, is_image = folder / entry.name, entry.name.lower().endswith(EXTENSIONS)
                if _is(entry, "is_dir"):
                    folders.append((entry.is_symlink(), path))
                elif _is(entry, "is_file"):
                    files += [path] if is_image else []
                elif is_image or entry.is_symlink():
                    irregular.append(path)
    except OSError as error:
        raise ValueError(f"{folder} cannot be read ({error.strerror}): change its permissions or remove it.") from error
    return files, [path for _, path in sorted(folders)]


def _is(entry: "os.DirEntry[str]", kind: str) -> bool:
    try:
        return bool(getattr(entry, kind)())
    except OSError:  # a link to itself
        return False


def _place(folder: Path) -> Place:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _say(folder: Path, what: str, paths: list[Path]) -> None:
    names = ", ".join(str(path.relative_to(folder)) for path in sorted(paths)[:MOST_NAMED])
    more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
    warnings.warn(f"{folder}: {len(paths)} left out, which are {what}: {names}{more}.", UserWarning, stacklevel=3)


def _say_shared(folder: Path, pairs: list[tuple[Path, Path]]) -> None:
    names = ", ".join(f"{one.relative_to(folder)} and {other.relative_to(folder)}" for one, other in pairs[:MOST_NAMED])
    more = f" and {len(pairs) - MOST_NAMED} more" if len(pairs) > MOST_NAMED else ""
    warnings.warn(
        f"{folder}: images are read more than once, by links, because these are the same: {names}{more}. Remove one of "
        "each if that is not meant.",
        UserWarning,
        stacklevel=3,
    )


def classes_of(folder: Path, paths: list[Path]) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Returns the label of each image by its sub-folder, int64 (N,), and the names of the classes.

    The labels are 0, and there are no names, where there are fewer than two sub-folders or an image lies in none.

    Raises:
        ValueError: If the sub-folders are splits rather than classes, by their names.
    """
    parts = [path.relative_to(folder).parts for path in paths]
    names = sorted({part[0] for part in parts if len(part) > 1})
    if len(names) < 2 or any(len(part) == 1 for part in parts):
        return torch.zeros(len(paths), dtype=torch.int64), ()
    if set(names) <= SPLIT_NAMES:
        raise ValueError(
            f"The sub-folders of {folder} are named {', '.join(names)}, which are splits and not classes: give one of "
            "them as data_dir (its images are split by seed)."
        )
    numbers = {name: number for number, name in enumerate(names)}
    return torch.tensor([numbers[part[0]] for part in parts]), tuple(map(legible, names))
