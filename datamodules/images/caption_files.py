"""Reads the captions of the images in a folder: ``captions.jsonl``, or a text file beside each image.

A line of ``captions.jsonl`` is ``{"file": "pets/1.png", "caption": "a sleeping cat"}``; ``file_name`` and ``text``, as
in other collections, mean the same.
"""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.spec import words_of

CAPTIONS_FILE = "captions.jsonl"
FILE_KEYS, CAPTION_KEYS = ("file", "file_name"), ("caption", "text")
MOST_NAMED = 20


def read_captions(folder: Path, paths: Sequence[Path]) -> list[str]:
    """Returns the caption of each image.

    Args:
        folder: The folder of the images.
        paths: All images in it.

    Raises:
        ValueError: If an image has no caption, or a caption no image or no words; if an image or a text lies outside
            the folder, by ``..`` or by a link; if captions are not UTF-8, or the file of captions has another form or
            names an image twice.
    """
    outside = [path for path in paths if not _lies_in(folder, path)]
    if outside:
        raise ValueError(
            f"{folder}: {_few(folder, outside)} lead out of the folder by links: put copies in their place."
        )
    listed = folder / CAPTIONS_FILE
    captions = _of_list(folder, listed) if listed.exists() else _of_texts(folder, paths)
    if without := [path for path in paths if path not in captions]:
        where = f"in {CAPTIONS_FILE}" if listed.exists() else f"in a .txt beside them, and no {CAPTIONS_FILE}"
        raise ValueError(
            f"{folder}: {len(without)} of {len(paths)} images have no caption {where}: {_few(folder, without)}. "
            "Describe them, or move them out."
        )
    if absent := sorted(set(captions) - set(paths)):
        raise ValueError(
            f"{listed} names {len(absent)} image(s) that the folder does not have: {_few(folder, absent)}. Add the "
            "images, or remove their lines."
        )
    if wordless := [path for path in paths if not words_of(captions[path])]:
        raise ValueError(f"{folder}: the caption of {_few(folder, wordless)} has no words: describe what is shown.")
    return [captions[path] for path in paths]


def _of_list(folder: Path, listed: Path) -> dict[Path, str]:
    found: dict[Path, tuple[int, str]] = {}
    for number, line in enumerate(_text(folder, listed).splitlines(), start=1):
        if not line.strip():
            continue
        name, caption = _entry(f"{listed}, line {number}", line)
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or PurePosixPath(name).is_absolute():
            raise ValueError(f"{listed}, line {number}: {name!r} leads out of the folder: name files inside of it.")
        path = folder.joinpath(*parts)
        if path in found:
            raise ValueError(f"{listed}: lines {found[path][0]} and {number} both name {name!r}: keep one of them.")
        found[path] = number, caption
    return {path: caption for path, (_, caption) in found.items()}


def _entry(place: str, line: str) -> tuple[str, str]:
    try:
        values: Any = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place} is not JSON ({error}).") from error
    if isinstance(values, dict):
        named = [values.get(key) for key in FILE_KEYS if key in values]
        said = [values.get(key) for key in CAPTION_KEYS if key in values]
        if len(named) == len(said) == 1 and isinstance(named[0], str) and isinstance(said[0], str):
            return named[0], said[0]
    raise ValueError(f'{place} must be {{"file": "name.png", "caption": "what it shows"}}, not {line.strip()[:80]}.')


def _of_texts(folder: Path, paths: Sequence[Path]) -> dict[Path, str]:
    found = {}
    for path in paths:
        if (text := path.with_suffix(".txt")).exists():
            found[path] = _text(folder, text).strip()
    return found


def _text(folder: Path, path: Path) -> str:
    if not _lies_in(folder, path):
        raise ValueError(f"{path} leads out of the folder by a link: put a copy in its place.")
    content = path.read_bytes()
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte {content[error.start]:#04x} at position {error.start}. Save it as UTF-8."
        ) from error


def _lies_in(folder: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _few(folder: Path, paths: Sequence[Path]) -> str:
    names = ", ".join(str(path.relative_to(folder)) for path in paths[:MOST_NAMED])
    return names + (f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else "")
