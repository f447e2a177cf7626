"""Drawing what a model made: grids of pictures and scatter plots of points, without a plotting library."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from lightning_modules.parts.metrics import to_uint8
from lightning_modules.parts.plane import on_grid

PADDING = 2
CANVAS = 400
REAL_COLOUR = (190, 200, 215)
FAKE_COLOUR = (200, 60, 30)
GIVEN_COLOUR = (130, 140, 155)  # of what a model was given to go on from
INK = (25, 25, 25)
LEVEL, MAX_LEVEL = 2.0, 20.0  # nats between level lines, and where they end


def image_grid(
    images: Tensor, value_range: tuple[float, float] = (-1.0, 1.0), columns: int | None = None, ground: int = 255
) -> Image.Image:
    """Lays pictures out in rows on white.

    Args:
        images: (N, C, H, W) with one or three channels.
        value_range: The values that become black and white; others are clamped.
        columns: Pictures a row; by default as many as make the grid about square.
        ground: Grey value around the pictures in place of white, 0 to 255.

    Raises:
        ValueError: If there is no picture, a wrong number of channels, or a value is NaN or infinite.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise ValueError(f"A grid needs pictures (N, 1 or 3, H, W), but got shape {tuple(images.shape)}.")
    columns = columns or math.ceil(math.sqrt(len(images)))
    levels = to_uint8(images.cpu(), value_range)
    grid = make_grid(levels, nrow=columns, padding=PADDING, pad_value=ground)
    return Image.fromarray(grid.permute(1, 2, 0).contiguous().numpy())


def save_grid(images: Tensor, value_range: tuple[float, float], path: str | Path, columns: int | None = None) -> None:
    """Writes ``image_grid`` as PNG; folders on the way are made."""
    save_png(image_grid(images, value_range, columns), path)


def save_png(picture: Image.Image, path: str | Path) -> None:
    """Writes a picture as PNG; folders on the way are made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, format="PNG")


def scatter(points: Tensor, real: Tensor | None = None) -> Image.Image:
    """Draws points (N, 2) in red, over real ones (M, 2) in grey where given; both axes have one scale.

    The frame is that of the real points with a margin of a quarter, so that pictures of one run compare;
    points outside are left out.

    Raises:
        ValueError: If the points are not two-dimensional, or one is NaN or infinite.
    """
    layers = [(points, FAKE_COLOUR)] if real is None else [(real, REAL_COLOUR), (points, FAKE_COLOUR)]
    for layer, _ in layers:
        if layer.ndim != 2 or layer.shape[1] != 2 or not len(layer) or not torch.isfinite(layer).all():
            raise ValueError(f"A scatter plot needs finite points (N, 2), N >= 1, but got shape {tuple(layer.shape)}.")
    low, high = layers[0][0].amin(0), layers[0][0].amax(0)
    centre, extent = (low + high) / 2, 1.25 * (high - low).amax().clamp(min=1e-6)
    canvas = np.full((CANVAS, CANVAS, 3), 255, dtype=np.uint8)
    for layer, colour in layers:
        x, y = (((layer - centre) / extent + 0.5) * (CANVAS - 1)).round().long().cpu().unbind(1)
        inside = (x >= 1) & (x < CANVAS - 1) & (y >= 1) & (y < CANVAS - 1)
        for right, up in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
            canvas[(CANVAS - 1 - y[inside] - up).numpy(), (x[inside] + right).numpy()] = colour
    return Image.fromarray(canvas)


def energy_surface(
    energy: Callable[[Tensor], Tensor], extent: float, device: torch.device | None = None
) -> Image.Image:
    """Draws the density exp(-energy) and the level lines of the energy on the square [-extent, extent]^2.

    Args:
        energy: Maps points (N, 2) to nats (N,).
        extent: Half the side of the square.
        device: Where to compute.

    Raises:
        ValueError: If an energy is NaN or infinite.
    """
    values = on_grid(energy, device or torch.device("cpu"), extent, CANVAS).view(CANVAS, CANVAS)
    if not torch.isfinite(values).all():
        raise ValueError("The energy is NaN or infinite somewhere on the square: the model has diverged.")
    relative = values - values.min()
    shade = torch.exp(-relative / 2)  # the square root of the density, in which its tails can be seen
    levels = torch.floor(relative.clamp(max=MAX_LEVEL) / LEVEL)
    line = torch.zeros_like(levels, dtype=torch.bool)
    line[1:] |= levels[1:] != levels[:-1]
    line[:, 1:] |= levels[:, 1:] != levels[:, :-1]
    paper, ink = torch.tensor([255.0, 255.0, 255.0]), torch.tensor([float(c) for c in FAKE_COLOUR])
    picture = paper + shade.float()[..., None] * (ink - paper)
    picture[line] = torch.tensor([float(c) for c in REAL_COLOUR])
    # Rows of the grid are x; in a picture they are columns, and y grows upwards.
    return Image.fromarray(picture.transpose(0, 1).flip(0).round().to(torch.uint8).contiguous().numpy())
