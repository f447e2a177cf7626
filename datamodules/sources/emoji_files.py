"""The files of the emoji: a table of their names, and images in each style, from whatever holds them.

They lie in ``emoji-64.zip``, in a folder with its content, or in the archives of two packages of npm. Members of an
archive are taken by their exact names, and nothing is unpacked to the disk.
"""

import gzip
import json
import lzma
import re
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from datamodules.sources.find import DamagedDataError, DataNotFoundError, find
from datamodules.sources.public_files import EMOJI_64, EMOJI_TABLE, NOTO_EMOJI, TWEMOJI, PublicDataset

STYLES = {"noto": ("google", NOTO_EMOJI), "twemoji": ("twitter", TWEMOJI)}
"""Name of a style -> its folder in archives, and the package of npm that holds it alone."""
TEXTS = ("name", "unified", "image", "category", "subcategory")
"""What an entry of the table must say, as texts; of its skin tones, the second and third."""
CODES = re.compile("[0-9A-Fa-f]+(-[0-9A-Fa-f]+)*")
BROKEN = (
    BadZipFile,
    tarfile.TarError,
    EOFError,
    OSError,  # also of gzip
    RuntimeError,  # an encrypted member, or a compression that is not known
    lzma.LZMAError,
    struct.error,
    zlib.error,
)
"""What readers of archives raise on damaged ones."""
CHUNK = 1 << 20
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
        packages = {style: STYLES[style][1] for style in styles}
        # Packages in the folder that was named go before an archive elsewhere.
        has_whole = any(_holds(data_dir, dataset) for dataset in (EMOJI_64, EMOJI_TABLE))
        own = {
            style: find(package, data_dir)[0]
            for style, package in packages.items()
            if _holds(data_dir, package) and not has_whole
        }
        whole = None if len(own) == len(packages) else _all_in_one(data_dir)
        self.places = {
            style: own.get(style) or whole or find(package, data_dir)[0] for style, package in packages.items()
        }

    def table(self) -> Table:
        """Returns the entries of ``emoji.json``, one for each emoji with all its skin tones.

        Raises:
            DamagedDataError: If it cannot be read, or is no such table.
        """
        place = self.places[self.styles[0]]
        with _opened(place) as read:
            try:
                table: Any = json.loads(read("emoji.json"))
            except (KeyError, OSError, ValueError, RecursionError) as error:
                raise DamagedDataError(f"{place}: its emoji.json cannot be read ({error}): get it again.") from error
        entries = table if isinstance(table, list) else [table]
        if wrong := [entry for entry in entries or [table] if not _is_entry(entry)]:
            raise DamagedDataError(f"{place}: its emoji.json has no emoji in {wrong[0]!r:.80}: get it again.")
        return entries

    def images(self, style: str, names: Mapping[str, str]) -> dict[str, bytes]:
        """Returns the PNG files of a style.

        Args:
            style: One of ``styles``.
            names: Name of a file, ``"1f600.png"``, to the name of its emoji.

        Raises:
            DamagedDataError: If an archive is broken, or an emoji has no image in this style; the message names the
                first twenty.
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


def _holds(data_dir: str | None, dataset: PublicDataset) -> bool:
    """Returns whether the folder that was named has the files of a data set, which may be damaged."""
    folder = Path(data_dir or "").expanduser()
    places = (folder, *(folder / name for name in dataset.folders)) if data_dir else ()
    return any(all((place / file.name).is_file() for file in dataset.files) for place in places)


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
    except BROKEN as error:
        raise DamagedDataError(f"{place} is not a complete archive ({error}): get it again.") from error


def _is_entry(entry: Any) -> bool:
    """Returns whether an entry of the table says what captions and images need of an emoji and its skin tones."""
    if not isinstance(entry, dict) or not isinstance(tones := entry.get("skin_variations", {}), dict):
        return False
    forms = [entry, *tones.values()]
    return all(
        isinstance(form, dict)
        and all(isinstance(form.get(key), str) for key in keys)
        and CODES.fullmatch(form["unified"]) is not None
        for form, keys in zip(forms, [TEXTS] + [TEXTS[1:3]] * len(tones), strict=True)
    )


def _members(place: Path, beginning: str) -> dict[str, bytes]:
    """Reads the members whose names begin so, by their names in ``emoji-64.zip``; in one pass over a tar archive."""
    found = {}
    with gzip.open(place) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        for member in _files(archive):
            if member.name.startswith(beginning) and (file := archive.extractfile(member)) is not None:
                folder, _, name = member.name.removeprefix("package/").removeprefix("img/").rpartition("/")
                found[f"{folder.removesuffix('/64')}/{name}".lstrip("/")] = file.read()
        # Where a header is damaged, tarfile sees the end of the archive; and it does not read the checksum of gzip.
        while rest := stream.read(CHUNK):
            if rest.strip(b"\0"):
                raise tarfile.ReadError("the header of a member is damaged")
    return found


def _files(archive: tarfile.TarFile) -> Iterable[tarfile.TarInfo]:
    return (member for member in archive if member.isfile())  # no links, which could lead out of the archive
