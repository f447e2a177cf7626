"""Decodes small transparent images, shows them on a colour and reduces them by means over squares."""

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageColor

SIDE = 64
"""Height and width of the images in the files."""
SIZES = (16, 32, 64)
"""Heights and widths that these can be reduced to."""
MOST_NAMED = 20


def colour(name: str) -> tuple[int, int, int]:
    """Returns red, green and blue, 0 to 255, of a colour ``"white"`` or ``"#ffffff"``.

    Raises:
        ValueError: If it is no opaque colour.
    """
    try:
        found = ImageColor.getrgb(name)
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"background={name!r} is no colour: give a name such as 'white', or '#ffffff'.") from error
    if len(found) != 3:
        raise ValueError(f"background={name!r} is transparent: give an opaque colour such as 'white', or '#ffffff'.")
    return found


def decoded_on(files: Mapping[str, bytes], background: tuple[int, int, int], size: int) -> np.ndarray:
    """Returns images on a colour, uint8 (N, size, size, 3).

    Args:
        files: Content of image files of 64x64 pixels, by their names.
        background: Colour of transparent parts.
        size: One of ``SIZES``; each pixel is the mean over a square.

    Raises:
        ValueError: If files are no such images; the message names the first twenty.
    """
    found, problems = np.empty((len(files), size, size, 3), np.uint8), []
    ground = Image.new("RGBA", (SIDE, SIDE), background)
    for index, (name, content) in enumerate(files.items()):
        try:
            with Image.open(io.BytesIO(content)) as image:
                pixels = image.convert("RGBA")
        except Exception as error:  # the decoders of Pillow raise errors of any class on a damaged file
            problems.append(f"{name} ({error})")
            continue
        if pixels.size != ground.size:
            problems.append(f"{name} ({pixels.width}x{pixels.height} pixels instead of {SIDE}x{SIDE})")
            continue
        found[index] = np.asarray(Image.alpha_composite(ground, pixels).convert("RGB").reduce(SIDE // size))
    if problems:
        more = f" and {len(problems) - MOST_NAMED} more" if len(problems) > MOST_NAMED else ""
        raise ValueError(
            f"{len(problems)} of {len(files)} images cannot be read: {', '.join(problems[:MOST_NAMED])}{more}: get the "
            "data again."
        )
    return found
