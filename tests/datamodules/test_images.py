"""The file formats, on small files written here, and the public datamodules built on them."""

import gzip
import hashlib
import io
import os
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torch import Tensor

from datamodules import CIFAR10, KMNIST, MNIST, SVHN, FashionMNIST
from datamodules.find import ENVIRONMENT_VARIABLE, DamagedDataError, DataNotFoundError, find
from datamodules.formats import read_cifar_binary, read_idx, read_svhn
from datamodules.image_base import split_indices
from datamodules.images import PublicImages, resized
from datamodules.public_files import FASHION_MNIST, PublicDataset, PublicFile

TRAIN, TEST = 40, 12


def idx(values: np.ndarray) -> bytes:
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


def described(title: str, files: dict[str, bytes]) -> PublicDataset:
    """The table's entry for files of these bytes."""
    entries = (PublicFile(name, len(body), hashlib.sha256(body).hexdigest()) for name, body in files.items())
    return PublicDataset(title, (title.lower(),), tuple(entries))


def written(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in files.items():
        (folder / name).write_bytes(body)
    return folder


def random_pictures(total: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(total)
    return generator.integers(0, 256, (total, *shape), np.uint8), np.arange(total) % 10


def idx_files() -> dict[str, bytes]:
    files = {}
    for prefix, total in (("train", TRAIN), ("t10k", TEST)):
        images, labels = random_pictures(total, 28, 28)
        files[f"{prefix}-images-idx3-ubyte.gz"] = gzip.compress(idx(images))
        files[f"{prefix}-labels-idx1-ubyte.gz"] = gzip.compress(idx(labels))
    return files


def cifar_files() -> dict[str, bytes]:
    buffer = io.BytesIO()
    images, labels = random_pictures(6 * 5, 3, 32, 32)
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
        images, labels = random_pictures(total, 32, 32, 3)
        buffer = io.BytesIO()
        savemat(buffer, {"X": images.transpose(1, 2, 3, 0), "y": (labels + 10 * (labels == 0))[:, None]})
        files[f"{split}_32x32.mat"] = buffer.getvalue()
    return files


@pytest.fixture
def fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small data set that passes for Fashion-MNIST."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(FashionMNIST, "dataset", described("Small", idx_files()))
    return written(tmp_path / "data", idx_files())


def test_idx_files_are_read_packed_and_plain(tmp_path: Path) -> None:
    values = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    (tmp_path / "plain").write_bytes(idx(values))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(idx(values)))
    for name in ("plain", "packed.gz"):
        result = read_idx(tmp_path / name)
        assert result.dtype == torch.uint8
        assert torch.equal(result, torch.from_numpy(values).to(torch.uint8))


@pytest.mark.parametrize(
    "body",
    [b"", b"\x00\x00", b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00", idx(np.zeros((2, 3)))[:-1], idx(np.zeros(4)) + b"0"],
)
def test_what_is_no_idx_file_is_named(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "strange").write_bytes(body)
    with pytest.raises(ValueError, match=r"strange (is not an IDX file|states the shape)"):
        read_idx(tmp_path / "strange")


def test_cifar_is_read_in_order(tmp_path: Path) -> None:
    written(tmp_path, cifar_files())
    splits = read_cifar_binary(tmp_path / "cifar-10-binary.tar.gz")
    images, labels = random_pictures(30, 3, 32, 32)
    assert torch.equal(splits["train"][0], torch.from_numpy(images[:25]))
    assert torch.equal(splits["test"][0], torch.from_numpy(images[25:]))
    assert splits["train"][1].tolist() + splits["test"][1].tolist() == labels.tolist()


@pytest.mark.parametrize(("name", "body"), [("data_batch_9.bin", b""), ("test_batch.bin", b"short")])
def test_an_incomplete_cifar_archive_is_named(tmp_path: Path, name: str, body: bytes) -> None:
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as archive:
        names = [f"data_batch_{number}.bin" for number in range(1, 6)] if body else []
        for entry, content in ((name, body), *((entry, b"\x00" * 3073) for entry in names)):
            member = tarfile.TarInfo(entry)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(ValueError, match=r"c\.tar\.gz (lacks data_batch_1|has 5 bytes)"):
        read_cifar_binary(tmp_path / "c.tar.gz")


def test_svhn_is_read_with_ten_as_zero(tmp_path: Path) -> None:
    written(tmp_path, svhn_files())
    images, labels = read_svhn(tmp_path / "train_32x32.mat")
    expected, digits = random_pictures(TRAIN, 32, 32, 3)
    assert torch.equal(images, torch.from_numpy(expected).permute(0, 3, 1, 2))
    assert labels.tolist() == digits.tolist()


@pytest.mark.parametrize("content", [{"z": np.zeros(2)}, {"X": np.zeros((32, 32, 3, 4)), "y": np.zeros(3)}])
def test_other_matlab_files_are_named(tmp_path: Path, content: dict[str, np.ndarray]) -> None:
    savemat(tmp_path / "other.mat", content)
    with pytest.raises(ValueError, match=r"other\.mat (has no arrays|holds pictures of shape)"):
        read_svhn(tmp_path / "other.mat")


@pytest.mark.parametrize(
    ("kind", "files", "sizes"),
    [
        (FashionMNIST, idx_files(), (TRAIN, TEST)),
        (MNIST, idx_files(), (TRAIN, TEST)),
        (KMNIST, idx_files(), (TRAIN, TEST)),
        (CIFAR10, cifar_files(), (25, 5)),
        (SVHN, svhn_files(), (TRAIN, TEST)),
    ],
)
def test_public_sets_yield_what_their_spec_says(
    kind: type[PublicImages],
    files: dict[str, bytes],
    sizes: tuple[int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kind, "dataset", described("Small", files))
    data = kind(data_dir=str(written(tmp_path / "data", files)), batch_size=5, val_size=8)
    shape = data.spec.shape
    assert shape == kind.shape
    assert data.spec.class_counts == ()
    data.prepare_data()
    data.setup("fit")
    assert data.spec.num_classes == 10
    assert sum(data.spec.class_counts) == sizes[0] - 8
    for loader, total in (
        (data.train_dataloader(), sizes[0] - 8),
        (data.val_dataloader(), 8),
        (data.test_dataloader(), sizes[1]),
    ):
        batches = list(loader)
        assert all(x.shape[1:] == shape and x.dtype == torch.float32 and y.dtype == torch.int64 for x, y in batches)
        assert all(x.min() >= -1 and x.max() <= 1 for x, _ in batches)
        assert abs(sum(len(x) for x, _ in batches) - total) < 5


def test_validation_is_held_out_by_seed(fashion: Path) -> None:
    def split(seed: int) -> tuple[set[bytes], set[bytes]]:
        data = FashionMNIST(data_dir=str(fashion), batch_size=4, val_size=10, seed=seed)
        return as_set(data.images("train")[0]), as_set(data.images("val")[0])

    train, val = split(0)
    assert (len(train), len(val)) == (TRAIN - 10, 10)
    assert not train & val
    assert split(0) == (train, val)
    assert split(1)[1] != val
    everything = as_set(torch.from_numpy(random_pictures(TRAIN, 28, 28)[0])[:, None])
    assert train | val == everything


def as_set(images: Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_labels_stay_with_their_pictures_through_the_split(fashion: Path) -> None:
    data = FashionMNIST(data_dir=str(fashion), batch_size=4, val_size=10)
    pictures, digits = random_pictures(TRAIN, 28, 28)
    label_of = {picture.tobytes(): digit for picture, digit in zip(pictures, digits, strict=True)}
    for split in ("train", "val"):
        images, labels = data.images(split)
        assert [label_of[image.numpy().tobytes()] for image in images] == labels.tolist()
    for x, y in data.train_dataloader():
        pixels = x.add(1).mul(127.5).round().to(torch.uint8)
        assert [label_of[image.numpy().tobytes()] for image in pixels] == y.tolist()


def test_resizing_happens_once_and_is_named(fashion: Path) -> None:
    data = FashionMNIST(data_dir=str(fashion), batch_size=4, val_size=10, image_size=32)
    assert data.spec.shape == (1, 32, 32)
    assert data.spec.preprocessing == "resized-32"
    assert next(iter(data.train_dataloader()))[0].shape == (4, 1, 32, 32)
    assert data.images("test")[0].shape == (TEST, 1, 32, 32)
    same = FashionMNIST(data_dir=str(fashion), val_size=10, image_size=28)
    assert same.spec.preprocessing == ""


def test_resizing_agrees_with_pillow() -> None:
    """Two implementations of the antialiased bilinear filter; they round differently by at most one level."""
    images = torch.from_numpy(random_pictures(3, 3, 20, 20)[0])
    for image, result in zip(images, resized(images, 12), strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        theirs = np.asarray(picture.resize((12, 12), Image.Resampling.BILINEAR))
        assert np.abs(theirs.astype(int) - result.permute(1, 2, 0).numpy().astype(int)).max() <= 1


@pytest.mark.parametrize("val_size", [TRAIN, TRAIN + 1])
def test_a_validation_split_that_takes_everything_is_refused(fashion: Path, val_size: int) -> None:
    with pytest.raises(ValueError, match=f"val_size={val_size} leaves nothing to train on: there are {TRAIN}"):
        FashionMNIST(data_dir=str(fashion), val_size=val_size).setup()


def test_a_batch_larger_than_the_data_is_refused_before_training(fashion: Path) -> None:
    with pytest.raises(ValueError, match="batch_size=31 needs at least 31 training examples, but there are 30"):
        FashionMNIST(data_dir=str(fashion), val_size=10, batch_size=31).train_dataloader()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"image_size": 0}, "image_size=0"), ({"batch_size": 0}, "batch_size=0"), ({"val_size": -1}, "val_size=-1")],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FashionMNIST(**arguments)  # type: ignore[arg-type]


def test_a_truncated_file_is_named_at_setup(fashion: Path) -> None:
    path = fashion / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DamagedDataError, match=r"t10k-images-idx3-ubyte\.gz is damaged"):
        FashionMNIST(data_dir=str(fashion), val_size=10).setup()


def test_splits_are_disjoint_and_complete() -> None:
    train, val = split_indices(100, 30, 5)
    assert sorted(train.tolist() + val.tolist()) == list(range(100))


def test_the_real_fashion_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of the data: sizes, balance, and the mean and deviation (0.2860, 0.3530) that everybody uses."""
    local = PublicDataset(**{**vars(FASHION_MNIST), "mirrors": (), "debian_package": ""})
    monkeypatch.setattr(FashionMNIST, "dataset", local)
    try:
        find(local)
    except DataNotFoundError:
        place = os.environ.get(ENVIRONMENT_VARIABLE, "nothing")
        pytest.skip(f"Fashion-MNIST is not on this machine ({ENVIRONMENT_VARIABLE} names {place}).")
    data = FashionMNIST()
    train, labels = data.images("train")
    val, test = data.images("val")[0], data.images("test")[0]
    assert (train.shape, val.shape, test.shape) == ((55000, 1, 28, 28), (5000, 1, 28, 28), (10000, 1, 28, 28))
    whole = torch.cat([train, val]).float() / 255
    assert whole.mean().item() == pytest.approx(0.2860, abs=1e-4)
    assert whole.std().item() == pytest.approx(0.3530, abs=1e-4)
    assert (labels.bincount() + data.images("val")[1].bincount()).tolist() == [6000] * 10
    assert data.images("test")[1].bincount().tolist() == [1000] * 10
