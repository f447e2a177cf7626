"""Tiles cover an image once, and see what their features depend on."""

import pytest
import torch

from lightning_modules.parts.tiles import ALIGNMENT, OVERLAP, tiles


@pytest.mark.parametrize(("size", "side", "border"), [((200, 130), 64, 0), ((128, 320), 32, 32), ((96, 96), None, 32)])
def test_own_parts_cover_the_image_without_its_border_once(
    size: tuple[int, int], side: int | None, border: int
) -> None:
    height, width = size
    covered = torch.zeros(size)
    for tile in tiles(height, width, side, border):
        covered[tile.rows.start : tile.rows.stop, tile.columns.start : tile.columns.stop] += 1
    expected = torch.zeros(size)
    expected[border : height - border, border : width - border] = 1
    assert torch.equal(covered, expected)


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16])
def test_own_features_are_those_of_the_own_part(stride: int) -> None:
    """Features that say where they are: those of all tiles, put together, are those of the image."""
    height, width = 320, 200
    places = torch.arange(height * width, dtype=torch.float64).view(1, 1, height, width)
    pooled = torch.nn.functional.avg_pool2d(places, stride)
    found = [tile.own(torch.nn.functional.avg_pool2d(tile.seen(places), stride)) for tile in tiles(height, width, 64)]
    assert torch.equal(torch.cat([part.flatten() for part in found]).sort().values, pooled.flatten().sort().values)


@pytest.mark.parametrize("length", [300, 512, 777])
def test_what_a_tile_sees_is_as_long_as_the_image_but_for_multiples(length: int) -> None:
    for rows, columns in tiles(length, 1000, 64):
        assert (rows.high - rows.low - length) % ALIGNMENT == 0
        assert (columns.high - columns.low - 1000) % ALIGNMENT == 0


def test_tiles_see_the_overlap_within_the_image() -> None:
    (rows, _), *_ = tiles(1024, 1024, 256)
    assert (rows.low, rows.start, rows.stop, rows.high) == (0, 0, 256, 256 + OVERLAP)
    (whole,) = tiles(100, 50, None)
    assert (whole.rows.low, whole.rows.high, whole.columns.high) == (0, 100, 50)
