"""The files of the emoji: a table of their names, and images in each style, from whatever holds them.

They lie in ``emoji-64.zip``, in a folder with its content, or in the archives of two packages of npm. Members of an
archive are taken by their exact names, and nothing is unpacked to the disk.
"""

import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from datamodules.sources.find import DamagedDataError, DataNotFoundError, find
from datamodules.sources.public_files import EMOJI_64, EMOJI_TABLE, NOTO_EMOJI, TWEMOJI, PublicDataset

STYLES = {"noto": ("google", NOTO_EMOJI), "twemoji": ("twitter", TWEMOJI)}
"""Name of a style -> its folder in archives, and the package of npm that holds it alone."""
MOST_NAMED = 20
"""Number of missing images that a message names."""

Table = list[dict[str, Any]]
Read = Callable[[str], bytes]
"""Reads a member by its name; raises KeyError or FileNotFoundError if there is none."""


class EmojiFiles:
    """Where the table and the images of the chosen styles lie; they are looked for, or fetched, when it is built.

    Args:
        styles: Names in ``STYLES``.
        data_dir: As in ``find``.

    Raises:
        DataNotFoundError: If they were not found and cannot be fetched; the message says what to do.
        DamagedDataError: If an archive is truncated or changed.
    """

    def __init__(self, styles: Sequence[str], data_dir: str | None = None) -> None:
        self.styles = tuple(styles)
        whole = _all_in_one(data_dir)
        self.places = {style: whole or find(STYLES[style][1], data_dir)[0] for style in styles}

    def table(self) -> Table:
        """Returns the entries of ``emoji.json``, one for each emoji with all its skin tones.

        Raises:
            DamagedDataError: If it cannot be read.
        """
        place = self.places[self.styles[0]]
        with _opened(place) as read:
            try:
                table: Table = json.loads(read("emoji.json"))
            except (KeyError, OSError, ValueError) as error:
                raise DamagedDataError(f"{place}: its emoji.json cannot be read ({error}): get it again.") from error
        return table

    def images(self, style: str, names: Mapping[str, str]) -> dict[str, bytes]:
        """Returns the PNG files of a style.

        Args:
            style: One of ``styles``.
            names: Name of a file, ``"1f600.png"``, to the name of its emoji.

        Raises:
            DamagedDataError: If an emoji has no image in this style; the message names the first twenty.
        """
        found, place = {}, self.places[style]
        with _opened(place, style) as read:
            for name in names:
                try:
                    found[name] = read(f"{STYLES[style][0]}/{name}")
                except (KeyError, FileNotFoundError):
                    continue
        if missing := [f"{title} ({name})" for name, title in names.items() if name not in found]:
            more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
            raise DamagedDataError(
                f"{place} has no image in the style {style} of {', '.join(missing[:MOST_NAMED])}{more}: get it again, "
                "or leave out the style."
            )
        return found


def _all_in_one(data_dir: str | None) -> Path | None:
    """Returns ``emoji-64.zip``, or the table in a folder with its content; ``None`` if neither was found."""
    for dataset in (EMOJI_64, EMOJI_TABLE):
        try:
            return find(dataset, data_dir)[0]
        except DataNotFoundError:
            if _lies_elsewhere(dataset):
                raise  # the folder that was named does not exist, and nothing has to be fetched into it
    return None


def _lies_elsewhere(dataset: PublicDataset) -> bool:
    try:
        return bool(find(dataset))
    except DataNotFoundError:
        return False


@contextmanager
def _opened(place: Path, style: str = "") -> Iterator[Read]:
    """Yields a function that reads members by their names in ``emoji-64.zip``."""
    try:
        if place.suffix == ".zip":
            with ZipFile(place) as archive:
                yield archive.read
        elif place.suffix == ".tgz":
            wanted = f"package/img/{STYLES[style][0]}/64/" if style else "package/emoji.json"
            yield _members(place, wanted).__getitem__
        else:
            yield lambda name: (place.parent / name).read_bytes()
    except (BadZipFile, tarfile.TarError, EOFError) as error:
        raise DamagedDataError(f"{place} is not a complete archive ({error}): get it again.") from error


def _members(place: Path, beginning: str) -> dict[str, bytes]:
    """Reads the members whose names begin so, by their names in ``emoji-64.zip``; in one pass over a tar archive."""
    found = {}
    with tarfile.open(place) as archive:
        for member in _files(archive):
            if member.name.startswith(beginning) and (file := archive.extractfile(member)) is not None:
                folder, _, name = member.name.removeprefix("package/").removeprefix("img/").rpartition("/")
                found[f"{folder.removesuffix('/64')}/{name}".lstrip("/")] = file.read()
    return found


def _files(archive: tarfile.TarFile) -> Iterable[tarfile.TarInfo]:
    return (member for member in archive if member.isfile())  # no links, which could lead out of the archive
