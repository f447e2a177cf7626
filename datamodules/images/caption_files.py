"""Reads the captions of the images in a folder: ``captions.jsonl``, or a text file beside each image.

A line of ``captions.jsonl`` is ``{"file": "pets/1.png", "caption": "a sleeping cat"}``; ``file_name`` and ``text``, as
in other collections, mean the same.
"""

import json
import os
import warnings
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

    Texts beside no image, which may be of other use, are named in a warning.

    Raises:
        ValueError: If an image has no caption, or a caption no image, two or no words; if an image or a text lies
            outside the folder, by ``..`` or by a link; if captions cannot be read or are not UTF-8, or the file of
            captions has another form or names an image twice.
    """
    outside = [path for path in paths if not _lies_in(folder, path)]
    if outside:
        raise ValueError(
            f"{folder}: {_few(folder, outside)} lead out of the folder by links: put copies in their place."
        )
    listed = folder / CAPTIONS_FILE
    has_list = os.path.lexists(listed)  # a link that leads nowhere is said to be one
    captions = _of_list(folder, listed) if has_list else _of_texts(folder, paths)
    if without := [path for path in paths if path not in captions]:
        where = f"in {CAPTIONS_FILE}" if has_list else f"in a .txt beside them, and no {CAPTIONS_FILE}"
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
    for number, line in enumerate(_text(folder, listed).split("\n"), start=1):
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
        pairs: Any = json.loads(line, object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not JSON ({error}).") from error
    if isinstance(pairs, tuple):
        values = dict(pairs)
        if len(values) < len(pairs):
            raise ValueError(f"{place} has a key twice, {line.strip()[:80]}: keep one of them.")
        named = [values.get(key) for key in FILE_KEYS if key in values]
        said = [values.get(key) for key in CAPTION_KEYS if key in values]
        if len(named) == len(said) == 1 and isinstance(named[0], str) and isinstance(said[0], str):
            _check_characters(place, named[0], said[0])
            return named[0], said[0]
    raise ValueError(f'{place} must be {{"file": "name.png", "caption": "what it shows"}}, not {line.strip()[:80]}.')


def _check_characters(place: str, *texts: str) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{place}: {text!r:.80} has half of a character, {text[error.start]!r}: correct it."
            ) from error


def _of_texts(folder: Path, paths: Sequence[Path]) -> dict[Path, str]:
    found, beside = {}, dict[Path, Path]()
    for path in paths:
        if os.path.lexists(text := path.with_suffix(".txt")):
            if text in beside:
                raise ValueError(
                    f"{folder}: {_few(folder, [beside[text], path])} share the caption {text.name}: rename one of the "
                    f"images, with a text of its own, or describe them in {CAPTIONS_FILE}."
                )
            beside[text], found[path] = path, _text(folder, text).strip()
    texts = {text for place in {path.parent for path in paths} for text in place.glob("[!.]*.txt")}
    if found and (others := sorted(texts - beside.keys())):
        warnings.warn(f"{folder}: {_few(folder, others)} lie beside no image, so they are no captions.", stacklevel=2)
    return found


def _text(folder: Path, path: Path) -> str:
    if not _lies_in(folder, path):
        raise ValueError(f"{path} leads out of the folder by a link: put a copy in its place.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): put a file of text in its place.") from error
    try:
        return content.decode("utf-8-sig")  # without the mark that some editors put before the first word
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte {content[error.start]:#04x} at position {error.start}. Save it as UTF-8."
        ) from error


def _lies_in(folder: Path, path: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(folder.resolve())  # Path.resolve fails for links in a circle


def _few(folder: Path, paths: Sequence[Path]) -> str:
    names = ", ".join(str(path.relative_to(folder)) for path in paths[:MOST_NAMED])
    return names + (f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else "")
