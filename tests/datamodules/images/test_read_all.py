"""All images are read before training: one report of all that cannot be read, and progress by time."""

import re
import time
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from datamodules import ImageFolder
from datamodules.images import read_all, streaming
from datamodules.images.streaming import FileSource
from tests.datamodules.small_data import image_folder, random_image


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of thirty images in three classes."""
    return image_folder(tmp_path / "pets")


def spoil(folder: Path, number: int) -> list[str]:
    names = sorted(path.name for path in folder.rglob("*.png"))[:number]
    for path in folder.rglob("*.png"):
        if path.name in names:
            path.write_bytes(b"<html>not found</html>")
    return names


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("number", [2, 20, 25])
def test_all_files_that_cannot_be_read_are_reported_at_once(images: Path, number: int, in_memory: bool) -> None:
    names = spoil(images, number)
    with pytest.raises(ValueError, match=rf"^{number} of 30 ") as caught:
        ImageFolder(str(images), image_size=8, in_memory=in_memory).setup()
    shown = re.findall(r"\d\d\.png", str(caught.value))
    assert len(shown) == min(number, 20)
    assert set(shown) <= set(names)
    assert ("and 5 more" in str(caught.value)) == (number == 25)
    assert "\n" not in str(caught.value)


def test_damage_met_while_training_is_reported_for_the_whole_batch(images: Path) -> None:
    for path in images.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:200])  # the header is whole
    data = ImageFolder(str(images), image_size=8, batch_size=6, in_memory=False)
    with pytest.raises(ValueError, match="^6 of 6 "):
        list(data.train_dataloader())


@pytest.mark.parametrize("error", [KeyError("x"), IndexError(), EOFError(), TypeError("y"), RuntimeError("z")])
def test_whatever_a_decoder_raises_is_reported_by_file(
    images: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(streaming, "fitted", broken)
    with pytest.raises(ValueError, match=r"^30 of 30 .*\.png"):
        ImageFolder(str(images), image_size=8).setup()


def test_damaged_members_of_an_archive_are_reported(tmp_path: Path) -> None:
    random_image(0).save(tmp_path / "a.png")
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "a.png")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[100] ^= 255
    (tmp_path / "a.zip").write_bytes(content)
    source = FileSource(["a.png"], torch.zeros(1, dtype=torch.int64), (3, 4, 4), ZipFile(tmp_path / "a.zip").open)
    with pytest.raises(ValueError, match=r"^a\.png "):
        read_all.decoded({"train": source}, "archive")


def test_progress_is_shown_by_time_and_not_by_count(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ImageFolder(str(images), image_size=8).setup()
    assert capsys.readouterr().err == "", "thirty small images take no time"
    monkeypatch.setattr(read_all, "DELAY_SECONDS", 0.1)
    read = FileSource.read

    def slow(self: FileSource, index: int) -> torch.Tensor:
        time.sleep(0.05 * self.threads)
        return read(self, index)

    monkeypatch.setattr(FileSource, "read", slow)
    ImageFolder(str(images), image_size=8).setup()
    shown = {int(count) for count in re.findall(r"pets:.*?(\d+)/30", capsys.readouterr().err)}
    assert len(shown) >= 3, "it moves while a chunk of images is read"


def test_damage_after_the_beginning_is_found_in_one_go_when_it_is_asked_for(images: Path) -> None:
    damaged = sorted(images.rglob("*.png"))[:3]
    for path in damaged:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    data = ImageFolder(str(images), image_size=4, batch_size=1, val_size=0, test_size=0, in_memory=False)
    data.setup()
    with pytest.raises(ValueError, match=r"check_files\(\)") as met:
        list(data.train_dataloader())
    assert sum(str(path) in str(met.value) for path in damaged) == 1
    with pytest.raises(ValueError, match="3 of 30 files") as found:
        data.check_files()
    assert all(str(path) in str(found.value) for path in damaged)
    for path in damaged:
        path.unlink()
    ImageFolder(str(images), image_size=4, in_memory=False).check_files()
