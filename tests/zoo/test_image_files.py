"""Images are written as they look, with fine colours, and with the opacity of the image that they began with."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import SingleImage
from tests.image.small_images import opened, pixels
from zoo.image_files import as_picture, write_picture


def test_the_colours_of_what_is_half_transparent_are_kept(tmp_path: Path) -> None:
    """They are compared on white, and written as they are without it."""
    image = Image.new("RGBA", (32, 32), (255, 0, 0, 128))
    image.paste((10, 20, 30, 0), (0, 0, 8, 32))
    image.paste((10, 20, 30, 255), (8, 0, 16, 32))
    image.save(tmp_path / "half.png")
    data = SingleImage(str(tmp_path / "half.png"))
    data.setup("fit")
    same = as_picture(next(iter(data.train_dataloader())).x, data.photograph)
    write_picture(same, tmp_path / "same.png")
    write_picture(same, tmp_path / "same.jpg")
    found = opened(str(tmp_path / "same.png"))
    assert found.getpixel((24, 16)) == pytest.approx((255, 0, 0, 128), abs=2)
    assert found.getpixel((12, 16)) == (10, 20, 30, 255)
    assert found.getchannel("A").getpixel((4, 16)) == 0
    assert opened(str(tmp_path / "same.jpg")).getpixel((24, 16)) == pytest.approx((255, 127, 127), abs=4)


def test_jpeg_keeps_fine_colours(tmp_path: Path) -> None:
    x = torch.zeros(1, 3, 16, 16)
    x[:, 0, :, ::2] = 1
    write_picture(as_picture(x), tmp_path / "out.jpg")
    found = pixels(str(tmp_path / "out.jpg"))
    assert np.abs(found - (127.5 * (x[0].permute(1, 2, 0).numpy() + 1))).mean() < 3  # about 30 with halved colours
