"""Images that the commands write: PNG or JPEG, with the opacity and the greys of the image that they began with."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from datamodules.sources.photographs import Photograph
from lightning_modules.parts.files import replace_file
from lightning_modules.parts.quantization import to_uint8
from lightning_modules.rendering.images import image_bytes
from zoo.errors import UsageError
from zoo.paths import check_out

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def check_image_out(path: Path, endings: tuple[str, ...] = tuple(FORMATS)) -> None:
    """Checks that an image can be written to a file, before the work for it is done.

    Raises:
        UsageError: If the ending of its name is no known format.
        ZooError: If it cannot be written there.
    """
    if path.suffix.lower() not in endings:
        raise UsageError(f"{path} must end in {' or '.join(endings)}, which says the format of the file.")
    check_out(path)


def as_picture(x: Tensor, origin: Photograph | None = None) -> Image.Image:
    """Returns an image (1, 3, H, W) in [-1, 1] as a picture in sRGB.

    Args:
        x: The image; its colours are those on a white ground.
        origin: An image of whose kind it is to be: grey, and as opaque.
    """
    pixels = to_uint8(x.cpu(), (-1.0, 1.0))[0].permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(pixels)
    if origin is None:
        return picture
    picture = picture.convert("L") if origin.is_grey else picture
    if origin.opacity is not None:
        opacity = Image.fromarray(origin.opacity.numpy()).resize(picture.size, Image.Resampling.LANCZOS)
        picture = without_ground(picture, opacity)
        picture.putalpha(opacity)
    return picture


def without_ground(picture: Image.Image, opacity: Image.Image) -> Image.Image:
    """Returns the colours that, with an opacity, look on white as a picture does; the nearest ones where none do.

    Args:
        picture: Grey or RGB, on a white ground.
        opacity: Grey, of the same size.
    """
    opaque = np.asarray(opacity, np.float64) / 255
    opaque = opaque if picture.mode == "L" else opaque[..., None]
    darkness = (255 - np.asarray(picture, np.float64)) / np.maximum(opaque, 1 / 255)
    return Image.fromarray((255 - darkness).round().clip(0, 255).astype(np.uint8))


def write_picture(picture: Image.Image, path: Path) -> None:
    """Writes a picture in the format of the file's ending; JPEG has no transparency, so that becomes white there."""
    form = FORMATS[path.suffix.lower()]
    if form == "JPEG" and "A" in picture.mode:
        coloured = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, coloured).convert("L" if picture.mode == "LA" else "RGB")
    settings = {"quality": 95, "subsampling": 0} if form == "JPEG" else {}
    replace_file(path, image_bytes(picture, form, **settings))
