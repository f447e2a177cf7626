"""Samples as pictures: grids of images, scatter plots of points."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Generator, Tensor
from torchvision.utils import make_grid

POINTS_PER_PICTURE = 2000
CANVAS = 384


def draw_samples(module: Any, num_samples: int, generator: Generator, labels: Tensor | None = None) -> Tensor:
    """Samples a module and draws what came out, shape (3, height, width), uint8.

    Points are drawn as one scatter plot of at least ``POINTS_PER_PICTURE`` samples.
    """
    spec = getattr(module, "data_spec", None)
    points = len(module.hparams["shape"]) == 1
    if points and labels is None:
        num_samples = max(num_samples, POINTS_PER_PICTURE)
    samples = module.sample(num_samples, labels=labels, generator=generator).float().cpu()
    if points:
        return scatter(samples)
    return image_grid(samples, *(spec.value_range if spec is not None and spec.value_range else (-1.0, 1.0)))


def image_grid(images: Tensor, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Lays images (N, C, H, W) with values in [low, high] out in a square-ish grid, shape (3, height, width), uint8."""
    images = ((images - low) / (high - low)).clamp(0, 1)
    columns = max(1, int(len(images) ** 0.5 + 0.999))
    grid = make_grid(images, nrow=columns, padding=2, pad_value=1.0)
    return (grid * 255).round().to(torch.uint8)


def scatter(points: Tensor) -> Tensor:
    """Draws points (N, 2) as dark dots on white, both axes at one scale, shape (3, CANVAS, CANVAS), uint8."""
    extent = float(points.abs().quantile(0.999)) * 1.15 + 1e-6
    pixels = ((points / extent + 1) / 2 * (CANVAS - 1)).round().long()
    pixels = pixels[((pixels >= 1) & (pixels < CANVAS - 1)).all(dim=1)]
    picture = torch.full((CANVAS, CANVAS), 255, dtype=torch.uint8)
    for down, right in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)):
        picture[CANVAS - 1 - pixels[:, 1] + down, pixels[:, 0] + right] = 30
    return picture.expand(3, -1, -1)


def write_png(picture: Tensor, path: Path) -> None:
    """Writes a uint8 picture (3, height, width) as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(path, format="PNG")
