"""Samples images pixel by pixel, in raster order, each pixel given all pixels before it."""

from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from lightning_modules.networks.pixelcnn import FullPasses, PixelCNN
from lightning_modules.networks.pixelcnn_cache import CachedPasses
from lightning_modules.parts.checks import as_count
from lightning_modules.parts.sampling import CHUNK

DrawPixel = Callable[[Tensor, Tensor], Tensor]
"""Maps the parameters of a pixel (N, P) and uniform numbers (N, U) to the pixel (N, C)."""


def fill_pixels(
    network: PixelCNN,
    x: Tensor,
    known: Tensor,
    labels: Tensor | None,
    uniform: Tensor,
    draw: DrawPixel,
    centre: Callable[[Tensor], Tensor],
    *,
    shown: Callable[[Tensor], Tensor] | None = None,
    cached: bool = True,
) -> Tensor:
    """Returns images whose unknown pixels are sampled, ``CHUNK`` images at a time.

    Args:
        network: Computes the parameters of a pixel; in evaluation mode.
        x: Images (N, C, H, W).
        known: Which pixels are kept, bool (H, W) on the CPU.
        labels: Class labels, int64 (N,), for a class-conditional network, else ``None``.
        uniform: Uniform numbers, (N, H * W, U): one row per image, so that an image does not depend on the chunks.
        draw: Samples a pixel.
        centre: Maps pixels to the input range of the network.
        shown: Maps the parameters of a sampled pixel to the value that is returned in its place; ``None`` returns it.
        cached: Whether to keep all activations but those of the newest pixel, instead of a whole pass for every pixel.
    """
    num, _, height, width = x.shape
    passes_of = CachedPasses if cached else FullPasses
    filled = x.clone()
    with tqdm(
        total=num * height * width, desc="sampling", unit="pixel", unit_scale=True, leave=False, disable=None
    ) as bar:
        for chosen in torch.arange(num).split(CHUNK):
            rows = slice(int(chosen[0]), int(chosen[-1]) + 1)
            passes = passes_of(network, len(chosen), None if labels is None else labels[rows])
            for row in range(height):
                for column in range(width):
                    parameters = passes.parameters_at(row, column)
                    pixel = filled[rows, :, row, column]
                    if not known[row, column]:
                        pixel = draw(parameters, uniform[rows, row * width + column])
                        filled[rows, :, row, column] = pixel if shown is None else shown(parameters)
                    passes.put(row, column, centre(pixel))
                bar.update(len(chosen) * width)
    return filled


def known_pixels(size: tuple[int, ...], rows: int | None) -> Tensor:
    """Returns a mask (H, W) in which the first rows are known.

    Raises:
        ValueError: If there are not so many rows.
    """
    if (rows := as_count("known_rows", rows, 0)) > size[0]:
        raise ValueError(f"known_rows={rows} must lie in [0, {size[0]}].")
    return (torch.arange(size[0]) < rows)[:, None].expand(size)
