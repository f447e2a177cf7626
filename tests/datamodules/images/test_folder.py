"""Folders of images as data sets: classes, splits, and folders that cannot be used."""

from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules import ImageFolder
from datamodules.images import folder
from datamodules.images.folder_files import list_images
from datamodules.images.streaming import fitted
from tests.datamodules.small_data import image_folder, random_image


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of thirty images in three classes."""
    return image_folder(tmp_path / "pets")


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_folder_yields_what_its_spec_says(images: Path, in_memory: bool) -> None:
    data = ImageFolder(str(images), image_size=8, batch_size=4, val_size=6, test_size=5, in_memory=in_memory)
    data.setup()
    assert (data.spec.name, data.spec.shape, data.spec.class_names) == ("pets", (3, 8, 8), ("cat", "dog", "owl"))
    assert sum(data.spec.class_counts) == 19
    assert len(data.train_dataloader()) == 4
    assert [len(x) for x, _ in data.val_dataloader()] == [4, 2]
    assert [len(x) for x, _ in data.test_dataloader()] == [4, 1]
    for x, y in data.train_dataloader():
        assert (x.shape, x.dtype, y.dtype) == ((4, 3, 8, 8), torch.float32, torch.int64)


def test_the_split_is_seeded_and_complete(images: Path) -> None:
    def parts(seed: int) -> list[set[bytes]]:
        data = ImageFolder(str(images), image_size=8, val_size=7, test_size=3, seed=seed)
        return [{image.numpy().tobytes() for image in data.images(split)[0]} for split in ("train", "val", "test")]

    first = parts(0)
    assert [len(part) for part in first] == [20, 7, 3]
    assert len(set.union(*first)) == 30
    assert parts(0) == first
    assert parts(1) != first


def test_labels_follow_the_sub_folders(images: Path) -> None:
    data = ImageFolder(str(images), image_size=10, val_size=0, test_size=0)
    pixels, labels = data.images("train")
    expected = {}
    for number in range(30):
        square = fitted(random_image(number), 10, grey=False)
        expected[np.asarray(square).transpose(2, 0, 1).tobytes()] = number % 3
    assert [expected[image.contiguous().numpy().tobytes()] for image in pixels] == labels.tolist()


def test_images_outside_sub_folders_have_no_classes(images: Path) -> None:
    random_image(99).save(images / "loose.png")
    data = ImageFolder(str(images), image_size=8)
    data.setup()
    assert data.spec.num_classes is None
    assert data.images("train")[1].unique().tolist() == [0]
    single = ImageFolder(str(images / "cat"), image_size=8)
    single.setup()
    assert single.spec.num_classes is None


def test_hidden_and_other_files_are_skipped(images: Path) -> None:
    (images / ".thumbs").mkdir()
    random_image(0).save(images / ".thumbs/a.png")
    random_image(0).save(images / ".hidden.png")
    (images / "notes.txt").write_text("not an image")
    assert len(list_images(images)) == 30


def test_arguments_and_folders_that_cannot_work_are_refused(images: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "splits/train").mkdir(parents=True)
    (tmp_path / "splits/test").mkdir()
    random_image(0).save(tmp_path / "splits/train/a.png")
    random_image(1).save(tmp_path / "splits/test/b.png")
    for place, arguments, message in (
        (tmp_path / "nowhere", {}, "data_dir='.*nowhere'"),
        (tmp_path / "empty", {}, r"empty .*\.png"),
        (tmp_path / "splits", {}, "splits .*test, train.*data_dir"),
        (images, {"val_size": 20, "test_size": 10}, r"val_size=20 .*test_size=10 .*pets .*\b30\b"),
        (images, {"image_size": 0}, "image_size=0"),
        (images, {"test_size": -1}, "test_size=-1"),
        (images, {"val_size": -1}, "val_size=-1"),
        (images, {"batch_size": 25}, r"batch_size=25 .*\b25 .*\b24\b"),
    ):
        with pytest.raises(ValueError, match=message):
            ImageFolder(str(place), **arguments).train_dataloader()  # type: ignore[arg-type]


def test_a_folder_too_large_for_memory_is_refused(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MEMORY_LIMIT", 30 * 3 * 8 * 8 - 1)
    with pytest.raises(ValueError, match="in_memory=False.*image_size"):
        ImageFolder(str(images), image_size=8).setup()
    ImageFolder(str(images), image_size=8, in_memory=False).setup()
