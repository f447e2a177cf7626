"""Text as a picture, in the letters of a typewriter."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lightning_modules.parts.pictures import GIVEN_COLOUR, INK

SIZE = 12
COLUMNS = 60
MARGIN = 8


@cache
def typewriter(size: int = SIZE) -> ImageFont.FreeTypeFont:
    """Returns DejaVu Sans Mono, which comes with matplotlib and knows most alphabets."""
    import matplotlib  # here, because it is the only thing needed of it

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSansMono.ttf"), size)


def text_picture(texts: Sequence[str], given: int = 0, columns: int = COLUMNS) -> Image.Image:
    """Draws texts below one another, black on white, with a line between them.

    Args:
        texts: At least one; lines end at line feeds and after ``columns`` characters.
        given: The first so many characters of each are grey: they were not written by the model.
        columns: Characters a line.

    Raises:
        ValueError: If there is no text, or no room for a character.
    """
    if not texts or columns < 1:
        raise ValueError(f"A picture of text needs at least one text and one column, not {len(texts)} and {columns}.")
    font = typewriter()
    letter, line = font.getlength("x"), SIZE + 3
    pages = [list(placed(text, columns)) for text in texts]
    heights = [line * (page[-1][0] + 1 if page else 1) for page in pages]
    size = round(letter * columns) + 2 * MARGIN, sum(heights) + 2 * MARGIN * len(texts)
    picture = Image.new("RGB", size, "white")
    pen, top = ImageDraw.Draw(picture), MARGIN
    for page, height in zip(pages, heights, strict=True):
        for index, (row, column, character) in enumerate(page):
            place = MARGIN + column * letter, top + row * line
            pen.text(place, character, font=font, fill=GIVEN_COLOUR if index < given else INK)
        top += height + 2 * MARGIN
        if top < size[1]:
            pen.line([(0, top - MARGIN), (size[0], top - MARGIN)], fill=GIVEN_COLOUR)
    return picture


def placed(text: str, columns: int) -> Iterator[tuple[int, int, str]]:
    """Yields row, column and what to draw of every character; what cannot be printed is drawn as U+FFFD."""
    row = column = 0
    for character in text:
        if character != "\n" and column == columns:
            row, column = row + 1, 0
        yield row, column, " " if character == "\n" else character if character.isprintable() else "\ufffd"
        row, column = (row + 1, 0) if character == "\n" else (row, column + 1)
