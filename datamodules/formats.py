"""Readers of the file formats that picture data sets come in. They are given checked files and trust nothing else."""

import gzip
import struct
import tarfile
from pathlib import Path

import numpy as np
import torch
from scipy.io import loadmat
from torch import Tensor

CIFAR_RECORD = 1 + 3 * 32 * 32


def read_idx(path: Path) -> Tensor:
    """Reads an IDX file of unsigned bytes, gzipped or not (http://yann.lecun.com/exdb/mnist/).

    Returns:
        uint8, of the shape that the file states.

    Raises:
        ValueError: If it is no such file, or is truncated.
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
        raise ValueError(f"{path} states the shape {shape} but holds {values.size} values: get a whole copy.")
    return torch.from_numpy(values.reshape(shape).copy())


def read_cifar_binary(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Reads CIFAR-10's binary version, which unlike the Python version holds no pickle.

    Returns:
        For "train" and "test": images (N, 3, 32, 32) uint8 and labels (N,) int64.

    Raises:
        ValueError: If the archive lacks a batch or a batch is no whole number of records.
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
                raise ValueError(f"{name} in {path} has {len(batches[name])} bytes, no multiple of {CIFAR_RECORD}.")
        content = np.frombuffer(b"".join(batches[name] for name in files), np.uint8)
        records = torch.from_numpy(content.reshape(-1, CIFAR_RECORD).copy())
        splits[split] = (records[:, 1:].reshape(-1, 3, 32, 32).contiguous(), records[:, 0].long())
    return splits


def read_svhn(path: Path) -> tuple[Tensor, Tensor]:
    """Reads a file of SVHN's cropped digits (format 2).

    Returns:
        Images (N, 3, 32, 32) uint8 and labels (N,) int64; the digit 0, which the file calls 10, is 0.

    Raises:
        ValueError: If the arrays are not there or have other shapes.
    """
    content = loadmat(path)
    if not {"X", "y"} <= set(content):
        raise ValueError(f"{path} has no arrays X and y: it is not a file of SVHN's cropped digits.")
    images, labels = content["X"], content["y"].reshape(-1)
    if images.ndim != 4 or images.shape[:3] != (32, 32, 3) or images.shape[3] != len(labels):
        raise ValueError(
            f"{path} holds pictures of shape {images.shape} and {len(labels)} labels: expected (32, 32, 3, N)."
        )
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(3, 2, 0, 1)))
    return pixels, torch.from_numpy(labels.astype(np.int64) % 10)
