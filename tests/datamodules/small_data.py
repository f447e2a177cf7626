"""Small data sets in the formats of the public ones: with them, every datamodule can be built without its data."""

import gzip
import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from datamodules import DATAMODULES, FashionMNIST, Strokes, ZooDataModule
from datamodules.images import celeba
from datamodules.sequences import moving_images
from datamodules.sources import emoji_files, public_files
from datamodules.sources.public_files import PublicDataset, PublicFile

TRAIN, TEST = 40, 12
"""Images in the files of the public image data sets."""
PARTITION = {"0": 12, "1": 5, "2": 3}
"""Images in each part of the small CelebA, by the number of the part."""
DRAWINGS = {"train": 300, "valid": 40, "test": 30}
"""Drawings in each part of the small Omniglot."""
LONGEST_DRAWING = 29


def described(title: str, files: dict[str, bytes]) -> PublicDataset:
    """Returns the entry of files with these contents in the table of public files."""
    entries = (PublicFile(name, len(body), hashlib.sha256(body).hexdigest()) for name, body in files.items())
    return PublicDataset(title, (title.lower(),), tuple(entries), instructions="By hand")


def written(folder: Path, files: dict[str, bytes]) -> Path:
    """Writes files into a folder and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in files.items():
        (folder / name).write_bytes(body)
    return folder


def idx(values: np.ndarray) -> bytes:
    """Returns an IDX file of unsigned bytes."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


def random_images(total: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns images, uint8 (total, *shape), and labels, int64 (total,); a function of the number."""
    generator = np.random.default_rng(total)
    return generator.integers(0, 256, (total, *shape), np.uint8), np.arange(total) % 10


def idx_files() -> dict[str, bytes]:
    files = {}
    for prefix, total in (("train", TRAIN), ("t10k", TEST)):
        images, labels = random_images(total, 28, 28)
        files[f"{prefix}-images-idx3-ubyte.gz"] = gzip.compress(idx(images), mtime=0)
        files[f"{prefix}-labels-idx1-ubyte.gz"] = gzip.compress(idx(labels), mtime=0)
    return files


def cifar_files() -> dict[str, bytes]:
    buffer = io.BytesIO()
    images, labels = random_images(6 * 5, 3, 32, 32)
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for number in range(6):
            part = slice(5 * number, 5 * number + 5)
            body = np.concatenate([labels[part, None].astype(np.uint8), images[part].reshape(5, -1)], axis=1).tobytes()
            name = f"data_batch_{number + 1}.bin" if number < 5 else "test_batch.bin"
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return {"cifar-10-binary.tar.gz": buffer.getvalue()}


def svhn_files() -> dict[str, bytes]:
    files = {}
    for split, total in (("train", TRAIN), ("test", TEST)):
        images, labels = random_images(total, 32, 32, 3)
        buffer = io.BytesIO()
        savemat(buffer, {"X": images.transpose(1, 2, 3, 0), "y": (labels + 10 * (labels == 0))[:, None]})
        files[f"{split}_32x32.mat"] = buffer.getvalue()
    return files


def random_image(seed: int, width: int = 12, height: int = 10) -> Image.Image:
    """Returns a colour image that is a function of the seed."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def image_folder(folder: Path) -> Path:
    """Writes thirty images in three classes and returns the folder."""
    for number in range(30):
        path = folder / ("cat", "dog", "owl")[number % 3] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        random_image(number).save(path)
    return folder


def celeba_files(partition: str | None = None) -> tuple[dict[str, bytes], list[np.ndarray]]:
    """Returns a small archive with its partition, and the stored images, uint8 (218, 178, 3) each."""
    stored, numbers = [], [number for number, size in PARTITION.items() for _ in range(size)]
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as archive:
        for i in range(len(numbers)):
            image = io.BytesIO()
            random_image(i, 178, 218).save(image, "JPEG", quality=90)
            archive.writestr(f"img_align_celeba/{i:06}.jpg", image.getvalue())
            stored.append(np.asarray(Image.open(image)))
    if partition is None:
        partition = "".join(f"{i:06}.jpg {number}\n" for i, number in enumerate(numbers))
    return {"img_align_celeba.zip": buffer.getvalue(), "list_eval_partition.txt": partition.encode()}, stored


def chorales(**changed: Any) -> dict[str, Any]:
    """Returns the content of a JSON file of songs: by split, song and step, the MIDI notes."""
    return {"train": [[[21, 108], []]], "valid": [[[60]]], "test": [[[61, 61]]], **changed}


def cells(*songs: np.ndarray) -> np.ndarray:
    """Returns a MATLAB cell array."""
    array = np.empty((1, len(songs)), object)
    for i, song in enumerate(songs):
        array[0, i] = song
    return array


def matlab_songs(**changed: Any) -> dict[str, Any]:
    """Returns the content of a MATLAB file of piano rolls."""
    song = np.eye(3, 88)
    return {"traindata": cells(song, song[:1]), "validdata": cells(song), "testdata": cells(song), **changed}


def as_objects(drawings: Sequence[object]) -> np.ndarray:
    """Returns an object array."""
    array = np.empty(len(drawings), object)
    array[:] = drawings
    return array


def random_drawings(num: int) -> list[np.ndarray]:
    """Returns drawings, int16 (T, 3) each; a function of the number."""
    generator = np.random.default_rng(num)
    lengths = generator.integers(2, LONGEST_DRAWING + 1, num)
    return [
        np.column_stack([generator.integers(-90, 91, (length, 2)), generator.integers(0, 2, length)]).astype(np.int16)
        for length in lengths
    ]


def stroke_arrays() -> dict[str, np.ndarray]:
    """Returns the content of an NPZ file of drawings."""
    return {name: as_objects(random_drawings(size)) for name, size in DRAWINGS.items()}


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Trap:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def stroke_files(name: str = "small.npz", backwards: bool = False) -> dict[str, bytes]:
    """Returns a file of drawings, whose steps may be in reverse order."""
    buffer, arrays = io.BytesIO(), stroke_arrays()
    if backwards:
        arrays = {split: as_objects([drawing[::-1] for drawing in part]) for split, part in arrays.items()}
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return {name: buffer.getvalue()}


def symbols_and_sheep(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Writes small files that pass for both sets of drawings, and returns their folder; sheep are symbols backwards."""
    files, sheep = stroke_files(), stroke_files("sheep.npz", backwards=True)
    monkeypatch.setitem(Strokes.datasets, "omniglot", (described("Small", files), LONGEST_DRAWING, 52.0))
    monkeypatch.setitem(Strokes.datasets, "aaron_sheep", (described("Sheep", sheep), LONGEST_DRAWING, 52.0))
    return str(written(folder, files | sheep))


def song_files(name: str) -> dict[str, bytes]:
    if name == "JSBChorales":
        return {"songs.json": json.dumps(chorales(train=[[[60, 64], [62]], [[65]]] * 4)).encode()}
    buffer = io.BytesIO()
    savemat(buffer, matlab_songs(traindata=cells(*[np.eye(3, 88), np.eye(2, 88)] * 4)))
    return {"songs.mat": buffer.getvalue()}


PUBLIC_IMAGES = {
    "FashionMNIST": idx_files,
    "MNIST": idx_files,
    "KMNIST": idx_files,
    "StackedFashionMNIST": idx_files,
    "CIFAR10": cifar_files,
    "SVHN": svhn_files,
}
POEM = "Who is it that says most, which can say more,\n" * 20


def small(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> ZooDataModule:
    """Builds a datamodule with small data, which is written below a folder and passes for the public data.

    Args:
        name: Name of a class in ``DATAMODULES``.
        folder: Where files are written.
        monkeypatch: Puts the small files into the table of public files.
        **arguments: Further arguments of the class.
    """
    settings: dict[str, Any] = {"batch_size": 4}

    def place(files: dict[str, bytes]) -> PublicDataset:
        settings["data_dir"] = str(written(folder / name, files))
        return described("Small", files)

    if name in PUBLIC_IMAGES:
        settings["val_size"] = 8
        monkeypatch.setattr(DATAMODULES[name], "dataset", place(PUBLIC_IMAGES[name]()))
    elif name == "PixelSequence":
        settings["val_size"] = 8
        monkeypatch.setattr(FashionMNIST, "dataset", place(idx_files()))
    elif name == "MovingFashionMNIST":
        settings |= {"train_size": 9, "val_size": 6, "test_size": 5}
        monkeypatch.setattr(FashionMNIST, "dataset", place(idx_files()))
        monkeypatch.setattr(moving_images, "FashionMNIST", partial(FashionMNIST, val_size=8))
    elif name == "CelebA":
        settings |= {"val_size": 3, "image_size": 8}
        monkeypatch.setattr(celeba, "CELEBA", place(celeba_files()[0]))
    elif name == "ImageFolder":
        settings |= {"data_dir": str(image_folder(folder / name)), "image_size": 8}
    elif name == "SingleImage":
        settings |= {"path": str(image_folder(folder / name) / "cat" / "00.png"), "steps_per_epoch": 8}
    elif name == "CaptionedFolder":
        from tests.datamodules.small_emoji import captioned_folder

        settings |= {"data_dir": str(captioned_folder(folder / name)), "image_size": 8}
    elif name == "Emoji":
        from tests.datamodules.small_emoji import emoji_zip

        settings |= {"image_size": 16, "val_size": 8}
        monkeypatch.setattr(emoji_files, "EMOJI_64", place(emoji_zip()))
    elif name == "SyntheticImages":
        settings |= {"shape": [3, 8, 8], "num_classes": 4, "size": 20, "val_size": 6, "test_size": 5}
    elif name in ("Ring", "Grid", "SwissRoll", "TwoMoons", "MarkovSource"):
        settings |= {"train_size": 20, "val_size": 6, "test_size": 5}
    elif name == "TextFile":
        settings |= {"path": str(written(folder / name, {"poem.txt": POEM.encode()}) / "poem.txt"), "window": 8}
    elif name == "TinyShakespeare":
        settings["window"] = 8
        monkeypatch.setattr(public_files, "TINY_SHAKESPEARE", place({"poem.txt": POEM.encode()}))
    elif name in ("JSBChorales", "Nottingham"):
        monkeypatch.setattr(DATAMODULES[name], "dataset", place(song_files(name)))
    elif name == "Strokes":
        monkeypatch.setitem(Strokes.datasets, "omniglot", (place(stroke_files()), LONGEST_DRAWING, 52.0))
    else:
        raise ValueError(f"There are no small data for {name}: describe them here.")
    return DATAMODULES[name](**{**settings, **arguments})
