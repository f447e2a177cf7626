"""Images read from files: decoding any kind of image, reading ahead, and the same batches as from memory."""

import io
import threading
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import ImageFolder
from datamodules.images.folder import open_binary
from datamodules.images.folder_files import list_images
from datamodules.images.streaming import FileSource, fitted
from datamodules.loader import TrainingLoader
from tests.datamodules.small_data import image_folder, random_image


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of thirty images in three classes."""
    return image_folder(tmp_path / "pets")


@pytest.mark.parametrize(
    "form", [{}, {"binarize": True}, {"dequantize": True}, {"channels_last": True}, {"grey": True}]
)
def test_streaming_equals_in_memory(images: Path, form: dict[str, bool]) -> None:
    def make(in_memory: bool) -> ImageFolder:
        return ImageFolder(str(images), image_size=8, batch_size=4, val_size=6, in_memory=in_memory, **form)

    held, streamed = make(True), make(False)
    loaders = [(data.train_dataloader(), data.val_dataloader(), data.test_dataloader()) for data in (held, streamed)]
    for left, right in zip(*loaders, strict=True):
        for _ in range(2):
            for (x, y), (other, label) in zip(left, right, strict=True):
                assert torch.equal(x, other)
                assert torch.equal(y, label)
    for split in ("train", "val", "test"):
        assert torch.equal(held.images(split)[0], streamed.images(split)[0])


def test_streaming_resumes_in_the_middle_of_an_epoch(images: Path) -> None:
    def loader() -> TrainingLoader:
        return ImageFolder(str(images), image_size=8, batch_size=4, in_memory=False).train_dataloader()

    whole = [x for x, _ in loader()]
    stopped, resumed = loader(), loader()
    batches = iter(stopped)
    next(batches), next(batches)
    resumed.load_state_dict(stopped.state_dict())
    rest = [x for x, _ in resumed]
    assert torch.equal(torch.stack(rest), torch.stack(whole[2:]))


def test_streaming_reads_a_little_ahead_and_ends_its_threads(images: Path) -> None:
    def decoders() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name.startswith("decode")}

    opened, before = [], decoders()

    def opener(name: str) -> io.BufferedReader:
        opened.append(name)
        return open(name, "rb")

    names = [str(path) for path in list_images(images)]
    source = FileSource(names, torch.zeros(30, dtype=torch.int64), (3, 8, 8), opener, threads=2)
    stream = source.stream(torch.arange(30).split(2))
    assert isinstance(stream, Generator)
    next(stream)
    assert decoders() - before
    stream.close()
    assert 2 <= len(opened) <= 6
    assert not decoders() - before


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("body", [b"", b"not an image at all", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_not_an_image_is_named(tmp_path: Path, in_memory: bool, body: bytes) -> None:
    for number in range(3):
        random_image(number).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(body)
    data = ImageFolder(str(tmp_path), image_size=8, batch_size=4, val_size=0, test_size=0, in_memory=in_memory)
    with pytest.raises(ValueError, match=r"broken\.png"):
        list(data.train_dataloader())


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    random_image(0, 64, 64).save(tmp_path / "cut.png")
    body = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(body[: len(body) // 2])
    random_image(1).save(tmp_path / "whole.png")
    with pytest.raises(ValueError, match=r"cut\.png"):
        ImageFolder(str(tmp_path), image_size=8, batch_size=2).setup()


def read(path: Path, channels: int, size: int = 6) -> torch.Tensor:
    source = FileSource([str(path)], torch.zeros(1, dtype=torch.int64), (channels, size, size), open_binary)
    return source.read(0)


def test_every_kind_of_image_becomes_eight_bit_colour_or_grey(tmp_path: Path) -> None:
    red = Image.new("RGB", (9, 9), (200, 40, 40))
    red.save(tmp_path / "rgb.png")
    red.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    red.convert("RGBA").save(tmp_path / "opaque.png")
    red.save(tmp_path / "animated.gif", save_all=True, append_images=[Image.new("RGB", (9, 9), "blue")])
    for name in ("rgb.png", "palette.png", "opaque.png", "animated.gif"):
        pixels = read(tmp_path / name, 3)
        assert (pixels.shape, pixels.dtype) == ((3, 6, 6), torch.uint8)
        assert (pixels.flatten(1).float().mean(1) - torch.tensor([200.0, 40, 40])).abs().max() <= 3, name
    Image.new("L", (9, 9), 77).save(tmp_path / "grey.png")
    assert read(tmp_path / "grey.png", 3).unique().tolist() == [77]
    assert read(tmp_path / "grey.png", 1).shape == (1, 6, 6)
    Image.fromarray(np.full((9, 9), 77 * 256, np.uint16)).save(tmp_path / "deep.png")
    assert read(tmp_path / "deep.png", 1).unique().tolist() == [77]
    Image.new("1", (9, 9), 1).save(tmp_path / "bits.png")
    assert read(tmp_path / "bits.png", 1).unique().tolist() == [255]


def test_transparent_parts_become_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read(tmp_path / "clear.png", 3).unique().tolist() == [255]
    half = Image.new("LA", (8, 8), (0, 128))
    half.save(tmp_path / "half.png")
    assert read(tmp_path / "half.png", 1).unique().tolist() == [127]


def test_the_cameras_rotation_is_applied(tmp_path: Path) -> None:
    values = np.zeros((16, 16), np.uint8)
    values[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(values).save(tmp_path / "turned.png", exif=exif)
    pixels = read(tmp_path / "turned.png", 1, 16)
    assert pixels[0, :7].max() == 0
    assert pixels[0, 9:].min() == 255


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 40), (40, 3)])
def test_images_of_any_shape_are_cropped_to_their_central_square(width: int, height: int) -> None:
    values = np.zeros((height, width), np.uint8)
    side = min(width, height)
    top, left = (height - side) // 2, (width - side) // 2
    values[top : top + side, left : left + side] = 200
    result = fitted(Image.fromarray(values), 6, grey=True)
    assert result.size == (6, 6)
    assert set(np.asarray(result).flatten().tolist()) == {200}
