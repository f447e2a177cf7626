"""Rows of images with a caption beside each."""

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lightning_modules.rendering.images import INK, PADDING, image_grid

SCALE = 2
MARGIN = 6


def captioned_rows(
    images: Tensor,
    captions: Sequence[str],
    value_range: tuple[float, float] = (-1.0, 1.0),
    headings: Mapping[int, str] | None = None,
) -> Image.Image:
    """Renders rows of images at twice their size, with a caption to the left of each row.

    Args:
        images: (rows, columns, C, H, W) with one or three channels.
        captions: One for each row.
        value_range: The values that become black and white.
        headings: Texts above columns, each by the index of the column over which it begins.

    Raises:
        ValueError: If there is not one caption per row.
    """
    if len(captions) != len(images):
        raise ValueError(f"There are {len(captions)} captions for {len(images)} rows: give one for each.")
    headings = headings or {}
    grid = image_grid(images.flatten(0, 1), value_range, columns=images.shape[1])
    grid = grid.resize((SCALE * grid.width, SCALE * grid.height), Image.Resampling.NEAREST)
    font = ImageFont.load_default()
    left = max(int(font.getlength(caption)) for caption in captions) + 2 * MARGIN
    width, height = (SCALE * (images.shape[axis] + PADDING) for axis in (4, 3))
    ends = [left + column * width + SCALE * PADDING + int(font.getlength(text)) for column, text in headings.items()]
    top = int(font.getbbox("A")[3]) + 2 * MARGIN if headings else 0
    rendered = Image.new("RGB", (max([left + grid.width, *ends]), top + grid.height), "white")
    rendered.paste(grid, (left, top))
    draw = ImageDraw.Draw(rendered)
    for column, text in headings.items():
        draw.text((left + column * width + SCALE * PADDING, top - MARGIN), text, INK, font, anchor="ls")
    for row, caption in enumerate(captions):
        draw.text((left - MARGIN, top + SCALE * PADDING + (row + 0.5) * height), caption, INK, font, anchor="rm")
    return rendered
