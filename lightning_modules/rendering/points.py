"""Points and densities in the plane, without a plotting library."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lightning_modules.parts.checks import check_finite_samples
from lightning_modules.parts.plane import on_grid
from lightning_modules.rendering.images import FAKE_COLOUR, REAL_COLOUR

CANVAS = 400
LEVEL, MAX_LEVEL = 2.0, 20.0  # nats between level lines, and where they end


def scatter(points: Tensor, real: Tensor | None = None) -> Image.Image:
    """Draws points (N, 2) in red, over real ones (M, 2) in grey if given; both axes have the same scale.

    The frame is that of the real points, enlarged by a quarter, so that plots of one run can be compared; points
    outside are left out.

    Raises:
        ValueError: If the points are not two-dimensional, or one is NaN or infinite.
    """
    layers = [(points, FAKE_COLOUR)] if real is None else [(real, REAL_COLOUR), (points, FAKE_COLOUR)]
    for layer, _ in layers:
        if layer.ndim != 2 or layer.shape[1] != 2 or not len(layer):
            raise ValueError(f"A scatter plot needs points (N, 2), N >= 1, but got shape {tuple(layer.shape)}.")
        check_finite_samples(layer, "points")
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
        device: Device of the computation.

    Raises:
        ValueError: If an energy is NaN or infinite.
    """
    values = on_grid(energy, device or torch.device("cpu"), extent, CANVAS).view(CANVAS, CANVAS)
    if not torch.isfinite(values).all():
        raise ValueError("The energy is NaN or infinite somewhere on the square: the model has diverged.")
    relative = values - values.min()
    shade = torch.exp(-relative / 2)  # the square root of the density, which makes its tails visible
    levels = torch.floor(relative.clamp(max=MAX_LEVEL) / LEVEL)
    line = torch.zeros_like(levels, dtype=torch.bool)
    line[1:] |= levels[1:] != levels[:-1]
    line[:, 1:] |= levels[:, 1:] != levels[:, :-1]
    paper, ink = torch.tensor([255.0, 255.0, 255.0]), torch.tensor([float(c) for c in FAKE_COLOUR])
    image = paper + shade.float()[..., None] * (ink - paper)
    image[line] = torch.tensor([float(c) for c in REAL_COLOUR])
    # Rows of the grid are x; in an image they are columns, and y grows upwards.
    return Image.fromarray(image.transpose(0, 1).flip(0).round().to(torch.uint8).contiguous().numpy())
