"""Grids of images, and common parts of all renderings: colours, padding, files."""

import io
import math
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from lightning_modules.parts.files import replace_file
from lightning_modules.parts.quantization import to_uint8

PADDING = 2
REAL_COLOUR = (190, 200, 215)
FAKE_COLOUR = (200, 60, 30)
GIVEN_COLOUR = (130, 140, 155)  # of a prefix that was given to the model
INK = (25, 25, 25)


def image_grid(
    images: Tensor, value_range: tuple[float, float] = (-1.0, 1.0), columns: int | None = None, ground: int = 255
) -> Image.Image:
    """Arranges images in rows on a white background.

    Args:
        images: (N, C, H, W) with one or three channels.
        value_range: The values that become black and white; others are clamped.
        columns: Images per row; by default the grid is about square.
        ground: Grey value of the background, 0 to 255.

    Raises:
        ValueError: If there is no image, a wrong number of channels, or a value is NaN or infinite.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise ValueError(f"A grid needs images (N, 1 or 3, H, W), but got shape {tuple(images.shape)}.")
    columns = columns or math.ceil(math.sqrt(len(images)))
    levels = to_uint8(images.cpu(), value_range)
    grid = make_grid(levels, nrow=columns, padding=PADDING, pad_value=ground)
    return Image.fromarray(grid.permute(1, 2, 0).contiguous().numpy())


def save_png(image: Image.Image, path: str | Path) -> None:
    """Writes an image as PNG, and creates missing folders."""
    replace_file(path, image_bytes(image, "PNG"))


def image_bytes(image: Image.Image, form: str, **settings: Any) -> bytes:
    """Returns the content of a file of an image in a format of Pillow, with Pillow's settings for it."""
    content = io.BytesIO()
    image.save(content, format=form, **settings)
    return content.getvalue()
