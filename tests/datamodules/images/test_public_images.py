"""Public image data sets, built from small files in their formats, and the real Fashion-MNIST."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from datamodules import CIFAR10, KMNIST, MNIST, SVHN, FashionMNIST
from datamodules.images.public_images import PublicImages, resized
from datamodules.sources.find import ENVIRONMENT_VARIABLE, DamagedDataError, DataNotFoundError, find
from datamodules.sources.public_files import FASHION_MNIST, PublicDataset
from tests.datamodules.loaders import loader_of
from tests.datamodules.small_data import (
    TEST,
    TRAIN,
    cifar_files,
    described,
    idx_files,
    random_images,
    svhn_files,
    written,
)


@pytest.fixture
def fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small data set that passes for Fashion-MNIST."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = idx_files()
    monkeypatch.setattr(FashionMNIST, "dataset", described("Small", files))
    return written(tmp_path / "data", files)


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
    for split, total in (("train", sizes[0] - 8), ("val", 8), ("test", sizes[1])):
        batches = list(loader_of(data, split))
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
    everything = as_set(torch.from_numpy(random_images(TRAIN, 28, 28)[0])[:, None])
    assert train | val == everything


def as_set(images: Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_labels_stay_with_their_images_through_the_split(fashion: Path) -> None:
    data = FashionMNIST(data_dir=str(fashion), batch_size=4, val_size=10)
    stored, digits = random_images(TRAIN, 28, 28)
    label_of = {image.tobytes(): digit for image, digit in zip(stored, digits, strict=True)}
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
    assert next(iter(data.train_dataloader())).x.shape == (4, 1, 32, 32)
    assert data.images("test")[0].shape == (TEST, 1, 32, 32)
    same = FashionMNIST(data_dir=str(fashion), val_size=10, image_size=28)
    assert same.spec.preprocessing == ""


def test_resizing_agrees_with_pillow() -> None:
    """Two implementations of the antialiased bilinear filter; they round differently by at most one level."""
    images = torch.from_numpy(random_images(3, 3, 20, 20)[0])
    for image, result in zip(images, resized(images, 12), strict=True):
        pixels = Image.fromarray(image.permute(1, 2, 0).numpy())
        theirs = np.asarray(pixels.resize((12, 12), Image.Resampling.BILINEAR))
        assert np.abs(theirs.astype(int) - result.permute(1, 2, 0).numpy().astype(int)).max() <= 1


@pytest.mark.parametrize("val_size", [TRAIN, TRAIN + 1])
def test_a_validation_split_that_takes_everything_is_refused(fashion: Path, val_size: int) -> None:
    with pytest.raises(ValueError, match=rf"val_size={val_size} .*\b{TRAIN}\b"):
        FashionMNIST(data_dir=str(fashion), val_size=val_size).setup()


def test_a_batch_larger_than_the_data_is_refused_before_training(fashion: Path) -> None:
    with pytest.raises(ValueError, match=r"batch_size=31 .*\b31 .*\b30\b"):
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
    with pytest.raises(DamagedDataError, match=r"t10k-images-idx3-ubyte\.gz"):
        FashionMNIST(data_dir=str(fashion), val_size=10).setup()


def test_the_real_fashion_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known facts: sizes, balance, and the mean and deviation (0.2860, 0.3530) that are commonly used."""
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
