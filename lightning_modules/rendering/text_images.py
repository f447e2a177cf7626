"""Renders text as an image, in a monospaced font."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lightning_modules.rendering.images import GIVEN_COLOUR, INK

SIZE = 12
COLUMNS = 60
MARGIN = 8


@cache
def typewriter(size: int = SIZE) -> ImageFont.FreeTypeFont:
    """Returns DejaVu Sans Mono, which comes with matplotlib and supports most alphabets."""
    import matplotlib  # imported here, because only the path of its fonts is needed

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSansMono.ttf"), size)


def text_image(texts: Sequence[str], given: int = 0, columns: int = COLUMNS) -> Image.Image:
    """Draws texts below one another, black on white, with a line between them.

    Args:
        texts: At least one; lines end at line feeds and after ``columns`` characters.
        given: Number of first characters of each text that were not sampled by the model; they are grey.
        columns: Characters per line.

    Raises:
        ValueError: If there is no text, or no room for a character.
    """
    if not texts or columns < 1:
        raise ValueError(f"An image of text needs at least one text and one column, not {len(texts)} and {columns}.")
    font = typewriter()
    letter, line = font.getlength("x"), SIZE + 3
    pages = [list(placed(text, columns)) for text in texts]
    heights = [line * (page[-1][0] + 1 if page else 1) for page in pages]
    size = round(letter * columns) + 2 * MARGIN, sum(heights) + 2 * MARGIN * len(texts)
    image = Image.new("RGB", size, "white")
    pen, top = ImageDraw.Draw(image), MARGIN
    for page, height in zip(pages, heights, strict=True):
        for index, (row, column, character) in enumerate(page):
            place = MARGIN + column * letter, top + row * line
            pen.text(place, character, font=font, fill=GIVEN_COLOUR if index < given else INK)
        top += height + 2 * MARGIN
        if top < size[1]:
            pen.line([(0, top - MARGIN), (size[0], top - MARGIN)], fill=GIVEN_COLOUR)
    return image


def placed(text: str, columns: int) -> Iterator[tuple[int, int, str]]:
    """Yields row, column and glyph of every character; a character that cannot be printed becomes U+FFFD."""
    row = column = 0
    for character in text:
        if character != "\n" and column == columns:
            row, column = row + 1, 0
        yield row, column, " " if character == "\n" else character if character.isprintable() else "\ufffd"
        row, column = (row + 1, 0) if character == "\n" else (row, column + 1)
