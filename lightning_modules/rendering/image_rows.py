"""Rows of images with a caption beside each."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lightning_modules.rendering.images import INK, PADDING, image_grid

SCALE = 2
MARGIN = 6


def captioned_rows(
    images: Tensor, captions: Sequence[str], value_range: tuple[float, float] = (-1.0, 1.0)
) -> Image.Image:
    """Renders rows of images at twice their size, with a caption to the left of each row.

    Args:
        images: (rows, columns, C, H, W) with one or three channels.
        captions: One for each row.
        value_range: The values that become black and white.

    Raises:
        ValueError: If there is not one caption per row.
    """
    if len(captions) != len(images):
        raise ValueError(f"There are {len(captions)} captions for {len(images)} rows: give one for each.")
    grid = image_grid(images.flatten(0, 1), value_range, columns=images.shape[1])
    grid = grid.resize((SCALE * grid.width, SCALE * grid.height), Image.Resampling.NEAREST)
    font = ImageFont.load_default()
    left = max(int(font.getlength(caption)) for caption in captions) + 2 * MARGIN
    rendered = Image.new("RGB", (left + grid.width, grid.height), "white")
    rendered.paste(grid, (left, 0))
    draw = ImageDraw.Draw(rendered)
    height = SCALE * (images.shape[3] + PADDING)
    for row, caption in enumerate(captions):
        draw.text((left - MARGIN, SCALE * PADDING + (row + 0.5) * height), caption, INK, font, anchor="rm")
    return rendered
