"""Readers of the file formats of data sets. Files have been checked before, but readers check the content again."""

import gzip
import hashlib
import io
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.io import loadmat
from torch import Tensor

CIFAR_RECORD = 1 + 3 * 32 * 32

LOWEST_NOTE, NUM_NOTES = 21, 88  # the keys of a piano, A0 to C8, as MIDI notes
PUBLISHED_SPLITS = {"train": "train", "val": "valid", "test": "test"}
"""Split -> its name in the published files of sequences."""


def read_idx(path: Path) -> Tensor:
    """Reads an IDX file of unsigned bytes, gzipped or not (http://yann.lecun.com/exdb/mnist/).

    Returns:
        The values, uint8, of the shape that the file states.

    Raises:
        ValueError: If it is not such a file, or is truncated.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        content = stream.read()
    if len(content) < 4 or content[:3] != b"\x00\x00\x08" or len(content) < 4 + 4 * content[3]:
        raise ValueError(
            f"{path} is not an IDX file of unsigned bytes: it begins with {content[:4].hex() or 'nothing'}."
        )
    shape = struct.unpack(f">{content[3]}I", content[4 : 4 + 4 * content[3]])
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * content[3])
    if values.size != np.prod(shape, dtype=np.int64):
        raise ValueError(f"{path} states the shape {shape} but has {values.size} values: get a complete copy.")
    return torch.from_numpy(values.reshape(shape).copy())


def read_cifar_binary(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Reads CIFAR-10's binary version, which unlike the Python version has no pickles.

    Returns:
        For "train" and "test": images (N, 3, 32, 32) uint8 and labels (N,) int64.

    Raises:
        ValueError: If the archive lacks a file, or a file is not a whole number of records.
    """
    names = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
    batches: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            if (name := Path(member.name).name).endswith(".bin") and (stream := archive.extractfile(member)):
                batches[name] = stream.read()
    splits = {}
    for split, files in names.items():
        if missing := [name for name in files if name not in batches]:
            raise ValueError(f"{path} lacks {', '.join(missing)}: it is not CIFAR-10's binary version.")
        for name in files:
            if not batches[name] or len(batches[name]) % CIFAR_RECORD:
                raise ValueError(f"{name} in {path} has {len(batches[name])} bytes, not a multiple of {CIFAR_RECORD}.")
        content = np.frombuffer(b"".join(batches[name] for name in files), np.uint8)
        records = torch.from_numpy(content.reshape(-1, CIFAR_RECORD).copy())
        splits[split] = (records[:, 1:].reshape(-1, 3, 32, 32).contiguous(), records[:, 0].long())
    return splits


def read_svhn(path: Path) -> tuple[Tensor, Tensor]:
    """Reads a file of SVHN's cropped digits (format 2).

    Returns:
        Images (N, 3, 32, 32) uint8 and labels (N,) int64; the digit 0, which the file calls 10, is 0.

    Raises:
        ValueError: If the arrays are missing or have other shapes.
    """
    content = loadmat(path)
    if not {"X", "y"} <= set(content):
        raise ValueError(f"{path} has no arrays X and y: it is not a file of SVHN's cropped digits.")
    images, labels = content["X"], content["y"].reshape(-1)
    if images.ndim != 4 or images.shape[:3] != (32, 32, 3) or images.shape[3] != len(labels):
        raise ValueError(
            f"{path} has images of shape {images.shape} and {len(labels)} labels: expected (32, 32, 3, N)."
        )
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(3, 2, 0, 1)))
    return pixels, torch.from_numpy(labels.astype(np.int64) % 10)


def read_chorales(path: Path) -> dict[str, list[Tensor]]:
    """Reads songs in JSON: for each split a list of songs, each a list of steps, each a list of MIDI note numbers.

    Returns:
        For each split, piano rolls (T, 88) of zeros and ones, uint8; column 0 is MIDI note 21.

    Raises:
        ValueError: If the file is not JSON, lacks a split, or has a note that a piano does not have.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # not JSON, not Unicode, or lists nested too deeply
        raise ValueError(f"{path} cannot be read as JSON ({error}): get a complete copy.") from error
    _check_splits(path, content, PUBLISHED_SPLITS.values())
    return {split: [_roll(path, song) for song in content[key]] for split, key in PUBLISHED_SPLITS.items()}


def read_piano_rolls(path: Path) -> dict[str, list[Tensor]]:
    """Reads songs in a MATLAB file: for each split a cell array of matrices (T, 88) of zeros and ones.

    The arrays are named ``traindata``, ``validdata`` and ``testdata``.

    Returns:
        As ``read_chorales``.

    Raises:
        ValueError: If it is not such a file, lacks a split, or a matrix has another shape or other values.
    """
    try:
        content = loadmat(path)
    except Exception as error:  # scipy raises many kinds of errors for a damaged file
        raise ValueError(f"{path} cannot be read as a MATLAB file ({error}): get a complete copy.") from error
    _check_splits(path, content, [f"{key}data" for key in PUBLISHED_SPLITS.values()])
    songs = {split: list(content[f"{key}data"].flat) for split, key in PUBLISHED_SPLITS.items()}
    for song in (song for part in songs.values() for song in part):
        if (
            getattr(song, "ndim", 0) != 2
            or song.shape[1] != NUM_NOTES
            or not len(song)
            or not np.isin(song, (0, 1)).all()
        ):
            raise ValueError(f"{path} has a song that is not a matrix (T, {NUM_NOTES}) of zeros and ones.")
    return {split: [torch.from_numpy(song.astype(np.uint8)) for song in part] for split, part in songs.items()}


def read_strokes(path: Path, sha256: str) -> dict[str, list[Tensor]]:
    """Reads pen drawings in an NPZ file of object arrays ``train``, ``valid`` and ``test``, one (T, 3) per drawing.

    Such arrays are pickles, which can run any code when they are read. So the digest of exactly those bytes that are
    unpickled is compared first.

    Args:
        path: The file.
        sha256: SHA-256 of the published file, hexadecimal.

    Returns:
        For each split, drawings (T, 3), int16: the movement of the pen in x and y, and 1 where it is lifted afterwards.

    Raises:
        ValueError: If the digest differs, the file lacks a split, or a drawing has another type or shape.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(
            f"{path} is not the published file (its SHA-256 differs) and is not unpickled: get a complete copy."
        )
    try:
        with np.load(io.BytesIO(content), allow_pickle=True, encoding="latin1") as archive:
            arrays = dict(archive.items())
    except Exception as error:  # a pickle may raise any error
        raise ValueError(f"{path} cannot be read as an NPZ file ({error}): get a complete copy.") from error
    _check_splits(path, arrays, PUBLISHED_SPLITS.values())
    for drawing in (drawing for key in PUBLISHED_SPLITS.values() for drawing in arrays[key]):
        if (
            getattr(drawing, "dtype", None) != np.int16
            or drawing.ndim != 2
            or drawing.shape[1] != 3
            or not len(drawing)
        ):
            raise ValueError(f"{path} has a drawing that is not an int16 array (T, 3).")
    return {split: [torch.from_numpy(drawing) for drawing in arrays[key]] for split, key in PUBLISHED_SPLITS.items()}


def _check_splits(path: Path, content: Any, keys: Any) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{path} has a {type(content).__name__} instead of {', '.join(keys)}: get the published file.")
    if missing := [key for key in keys if not _num_entries(content.get(key))]:
        raise ValueError(f"{path} lacks {', '.join(missing)}: get the published file.")


def _num_entries(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.size if value.ndim else 0
    return len(value) if isinstance(value, list) else 0


def _roll(path: Path, song: Any) -> Tensor:
    if not isinstance(song, list) or not song or not all(isinstance(step, list) for step in song):
        raise ValueError(
            f"{path} has a song that is not a list of steps, each a list of notes: get the published file."
        )
    roll = torch.zeros(len(song), NUM_NOTES, dtype=torch.uint8)
    for step, notes in enumerate(song):
        for note in notes:
            if type(note) is not int or not LOWEST_NOTE <= note < LOWEST_NOTE + NUM_NOTES:
                raise ValueError(
                    f"{path} has the note {note!r}; a piano has {LOWEST_NOTE}..{LOWEST_NOTE + NUM_NOTES - 1}."
                )
            roll[step, note - LOWEST_NOTE] = 1
    return roll
