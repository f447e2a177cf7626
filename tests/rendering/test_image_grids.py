"""Grids of images: every grey level in its place."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_modules.rendering.images import PADDING, image_grid, save_png


def test_grids_show_levels_in_order() -> None:
    images = torch.stack([torch.full((1, 4, 4), level) for level in (-1.0, 0.0, 1.0, 7.0)])
    save_png(image_grid(images, (-1, 1), columns=2), "deep/folder/grid.png")
    pixels = np.asarray(Image.open(Path("deep/folder/grid.png")))
    tiles = [pixels[top : top + 4, left : left + 4] for top in (2, 8) for left in (2, 8)]
    assert [np.unique(tile).tolist() for tile in tiles] == [[0], [128], [255], [255]]


def test_grids_are_about_square_and_on_white_or_on_another_ground() -> None:
    images = -torch.ones(5, 3, 4, 4)
    assert image_grid(images).size == (20, 14)
    for ground in (255, 128):
        pixels = np.asarray(image_grid(images, ground=ground))
        assert (pixels[:PADDING] == ground).all()
        assert (pixels[PADDING : PADDING + 4, PADDING : PADDING + 4] == 0).all()
    assert (np.asarray(image_grid(images))[0] == 255).all()


@pytest.mark.parametrize("shape", [(0, 1, 4, 4), (2, 2, 4, 4), (2, 4, 4)])
def test_what_is_no_image_is_refused_with_its_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=", ".join(map(str, shape))):
        image_grid(torch.zeros(shape))
