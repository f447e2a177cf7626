"""Tiles of an image that overlap, so that features inside of each are those of the whole image.

A sum over positions of features, such as a Gram matrix, is the sum of those of the tiles. Each is computed in turn and
again for its gradient, so that the memory is that of one tile, whatever the size of the image.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

OVERLAP = 96
"""Pixels that a tile sees beyond its own: VGG-19's receptive field reaches 78 at Gatys' deepest layer, conv5_1."""
ALIGNMENT = 32
"""Tiles begin at multiples of this number, of which the strides of networks, powers of two, are divisors.

What a tile sees has the length of the image modulo this number: the padding of some networks depends on that.
"""


class Span(NamedTuple):
    """One side of a tile.

    Attributes:
        start: First pixel of the tile's own part.
        stop: Pixel after the last one of it.
        low: First pixel that it sees.
        high: Pixel after the last one that it sees.
    """

    start: int
    stop: int
    low: int
    high: int

    def own(self, num: int) -> slice:
        """Returns which of ``num`` features along this side belong to the tile's own part."""
        # Strides are powers of two; the quotient is none where a network drops an incomplete cell, or pads it.
        stride = 2 ** max(0, round(math.log2((self.high - self.low) / num)))
        stop = None if self.stop == self.high else (self.stop - self.low) // stride
        return slice((self.start - self.low) // stride, stop)


class Tile(NamedTuple):
    """A rectangle of an image."""

    rows: Span
    columns: Span

    def seen(self, x: Tensor) -> Tensor:
        """Returns what the tile sees of an image (N, C, H, W)."""
        return x[:, :, self.rows.low : self.rows.high, self.columns.low : self.columns.high]

    def own(self, features: Tensor) -> Tensor:
        """Returns the features (N, K, h, w), of what the tile sees, that belong to its own part."""
        return features[:, :, self.rows.own(features.shape[2]), self.columns.own(features.shape[3])]


def tiles(height: int, width: int, side: int | None, border: int = 0) -> list[Tile]:
    """Returns tiles whose own parts cover an image without its border.

    Args:
        height: Height of the image.
        width: Width of the image.
        side: Height and width of a tile's own part, a multiple of ``ALIGNMENT``; ``None`` for a single tile.
        border: Pixels at each side that tiles see, and that belong to none; a multiple of ``ALIGNMENT``.
    """
    return [
        Tile(rows, columns)
        for rows in _spans(height, side or height, border, whole=side is None)
        for columns in _spans(width, side or width, border, whole=side is None)
    ]


def _spans(length: int, side: int, border: int, whole: bool) -> Iterator[Span]:
    if whole:
        yield Span(border, length - border, 0, length)
        return
    for start in range(border, length - border, side):
        stop = min(start + side, length - border)
        yield Span(start, stop, max(0, start - OVERLAP), min(length, stop + OVERLAP + length % ALIGNMENT))
