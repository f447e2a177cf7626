"""What is found below a folder: through links, past loops, and nothing that is no regular file."""

import os
import socket
import warnings
from pathlib import Path

import pytest

from datamodules import ImageFolder
from datamodules.images.folder_files import MOST_NAMED, list_images
from tests.datamodules.small_data import image_folder, random_image

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of thirty images in three classes."""
    return image_folder(tmp_path / "pets")


def names_of(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in list_images(folder)]


def classes(folder: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    data = ImageFolder(str(folder), image_size=4, val_size=0, test_size=0)
    data.setup()
    return data.spec.class_names, data.spec.class_counts


def test_classes_that_are_links_are_read(images: Path, tmp_path: Path) -> None:
    (images / "owl").rename(tmp_path / "birds")
    (images / "owl").symlink_to(tmp_path / "birds")
    (images / "dog").rename(tmp_path / "hounds")
    (images / "dog").symlink_to("../hounds")
    (tmp_path / "linked").symlink_to(images)
    assert classes(images) == (("cat", "dog", "owl"), (10, 10, 10))
    assert classes(tmp_path / "linked") == (("cat", "dog", "owl"), (10, 10, 10))


def test_links_below_a_class_and_links_to_files_are_read(images: Path, tmp_path: Path) -> None:
    (tmp_path / "more/deep").mkdir(parents=True)
    random_image(50).save(tmp_path / "more/deep/50.png")
    (images / "cat/more").symlink_to(tmp_path / "more")
    random_image(51).save(tmp_path / "51.png")
    (images / "dog/link.png").symlink_to(tmp_path / "51.png")
    assert classes(images) == (("cat", "dog", "owl"), (11, 11, 10))


def test_two_classes_may_share_a_folder(images: Path) -> None:
    (images / "feline").symlink_to("cat")
    with pytest.warns(UserWarning, match="read more than once, by links, because .* the same: feline and cat. Remove"):
        assert classes(images) == (("cat", "dog", "feline", "owl"), (10, 10, 10, 10))


def test_folders_within_a_shared_one_are_not_named_too(images: Path) -> None:
    (images / "cat/inner").mkdir()
    random_image(50).save(images / "cat/inner/50.png")
    (images / "cat/hounds").symlink_to("../dog")
    (images / "feline").symlink_to("cat")
    with pytest.warns(UserWarning, match="the same: dog and cat/hounds, feline and cat. Remove"):
        assert len(list_images(images)) == 30 + 1 + 10 + 10 + 1 + 10


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("cat/again", "."),
        ("cat/up", ".."),
        ("cat/out", "../.."),
        ("loop", "."),
        ("all", "/"),
        ("cat/sub/back", ".."),
    ],
)
def test_links_in_circles_are_left_out_and_named(images: Path, link: str, target: str) -> None:
    before = names_of(images)
    (images / link).parent.mkdir(exist_ok=True)
    (images / link).symlink_to(target)
    with pytest.warns(UserWarning, match=rf"pets.* 1 .*{link}"):
        assert names_of(images) == before


def test_classes_that_link_to_one_another_are_read_once_each(images: Path) -> None:
    for one in ("cat", "dog", "owl"):
        for other in {"cat", "dog", "owl"} - {one}:
            (images / one / other).symlink_to(f"../{other}")
    with pytest.warns(UserWarning, match="pets"):
        assert classes(images)[1] == (30, 30, 30)


def test_what_is_no_regular_file_is_left_out_and_named(images: Path) -> None:
    before = names_of(images)
    os.mkfifo(images / "cat/pipe.png")
    (images / "dog/broken.png").symlink_to("nowhere.png")
    (images / "fox").symlink_to("nowhere")
    (images / "self").symlink_to("self")
    (images / "owl/folder.png").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(images)  # the name of a socket is short
        server.bind("socket.jpg")
        with pytest.warns(UserWarning, match="pets: 5 ") as caught:
            assert names_of(images) == before
    for name in ("cat/pipe.png", "dog/broken.png", "fox", "self", "socket.jpg"):
        assert name in str(caught[0].message)


def test_a_warning_names_the_first_twenty(images: Path) -> None:
    for number in range(MOST_NAMED + 3):
        (images / f"cat/x{number:02}.png").symlink_to("nowhere")
    with pytest.warns(UserWarning, match=r"pets: 23 .*x19\.png and 3 more") as caught:
        list_images(images)
    assert "x20.png" not in str(caught[0].message)


def test_a_folder_that_cannot_be_read_is_not_dropped(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refused(folder: Path) -> object:
        if folder.name == "dog":
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(ValueError, match=r"pets/dog .*Permission denied"):
        list_images(images)


def test_the_classes_are_known_before_the_images_are_read(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFolder, "read", lambda self: pytest.fail("it read the images"))
    data = ImageFolder(str(images))
    assert (data.spec.num_classes, data.spec.class_names) == (3, ("cat", "dog", "owl"))
    assert data.binarized().spec.value_range == (0.0, 1.0)
    with pytest.raises(ValueError, match="nowhere"):
        _ = ImageFolder(str(images / "nowhere")).spec


def test_names_that_are_not_utf8_can_be_written_down(images: Path) -> None:
    os.rename(images / "cat", os.fsencode(images) + b"/caf\xe9")
    os.rename(images, os.fsencode(images.parent) + b"/\xff")
    data = ImageFolder(os.fsdecode(os.fsencode(images.parent) + b"/\xff"), image_size=4)
    assert data.spec.class_names == ("caf\ufffd", "dog", "owl")
    assert data.spec.name == "\ufffd"


def test_without_links_nothing_is_said(images: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list_images(images)) == 30
