"""Reads one photograph or mask of the user's own: any file that holds a still image, as its author meant it to look.

The camera's rotation is applied, and colours are converted to sRGB by the profile in the file, from grey, palettes and
CMYK, too. 16-bit values are reduced to 8 bits. Transparent parts are shown on white, and their opacity is kept aside.
"""

import warnings
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

WHITE = 128
"""Lowest grey value of a mask that counts as white."""
MAX_PIXELS = 2**27
"""Largest number of pixels that is decoded; a file of a few kilobytes may state any size."""
KNOWN_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


@dataclass(frozen=True)
class Photograph:
    """A still image in sRGB.

    Args:
        pixels: Colours on a white ground, uint8 (3, H, W).
        opacity: 0 where the image is transparent and 255 where it is opaque, uint8 (H, W); ``None`` if all is opaque.
        is_grey: Whether the file has grey values rather than colours; the three channels are then equal.
    """

    pixels: Tensor
    opacity: Tensor | None = None
    is_grey: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def resized(self, height: int, width: int) -> "Photograph":
        """Returns the image in another size (Lanczos)."""
        if (height, width) == self.size:
            return self
        opacity = None if self.opacity is None else lanczos(self.opacity[None], height, width)[0]
        return replace(self, pixels=lanczos(self.pixels, height, width), opacity=opacity)


def read_photograph(path: str | Path) -> Photograph:
    """Reads an image file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no image, is damaged, animated or larger than ``MAX_PIXELS``, or its values
            are not those of 8 or 16 bits.
    """
    image = _decoded(path)
    grey = image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I")
    image = _eight_bits(image, path)
    opacity = None
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        profile = None if grey else image.info.get("icc_profile")  # that of grey does not fit its colours
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        if alpha.getextrema() != (255, 255):
            opacity = torch.from_numpy(np.array(alpha))
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        image.info["icc_profile"] = profile
    pixels = torch.from_numpy(np.array(_in_srgb(image, path))).permute(2, 0, 1).contiguous()
    return Photograph(pixels, opacity, grey)


def read_mask(path: str | Path, invert: bool = False) -> Tensor:
    """Reads a mask: True where it is white, whose pixels are kept, and False where it is black; bool (H, W).

    Args:
        path: An image file; colours count by their brightness, and transparent parts as white.
        invert: Whether black is kept and white filled instead.

    Raises:
        FileNotFoundError: As ``read_photograph``.
        ValueError: As ``read_photograph``, and if the mask is all white or all black.
    """
    photograph = read_photograph(path)
    kept = photograph.pixels.float().mean(0) >= WHITE
    kept = ~kept if invert else kept
    if kept.all() or not kept.any():
        colour = "white" if bool(kept.all()) != invert else "black"
        left = "nothing to fill" if kept.all() else "nothing to keep"
        raise ValueError(f"The mask {path} is all {colour}, which leaves {left}: give one that has black and white.")
    return kept


def lanczos(pixels: Tensor, height: int, width: int) -> Tensor:
    """Resizes uint8 (C, H, W) to (C, height, width) as Pillow does, with three lobes and antialiasing."""
    planes = [Image.fromarray(plane.numpy()).resize((width, height), Image.Resampling.LANCZOS) for plane in pixels]
    return torch.stack([torch.from_numpy(np.array(plane)) for plane in planes])


def header_of(path: str | Path) -> tuple[int, int]:
    """Returns height and width of an image as it is shown, without decoding it.

    Raises:
        FileNotFoundError: As ``read_photograph``.
        ValueError: If the file is no image, or an animation.
    """
    with _opened(path) as image:
        turned = image.getexif().get(0x0112, 1) >= 5  # the tag of the camera's rotation
        width, height = image.size
        return (width, height) if turned else (height, width)


def _opened(path: str | Path) -> Image.Image:
    file = Path(path).expanduser()
    if not file.exists():
        raise FileNotFoundError(2, "there is no such file", str(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked below
            image = Image.open(file)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is no image of a known format: convert it to PNG or JPEG.") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} states a size that is too large to decode ({error}): reduce the image.") from error
    if problem := _problem_with_header(image):
        image.close()
        raise ValueError(f"{path} {problem}")
    return image


def _problem_with_header(image: Image.Image) -> str | None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # whose frames are further views of a camera
        return f"is an animation of {frames} frames: save one of them as PNG, and give that."
    if image.width * image.height > MAX_PIXELS:
        return f"has {image.width} x {image.height} pixels, and at most {MAX_PIXELS:,} are decoded: reduce it."
    return None


def _decoded(path: str | Path) -> Image.Image:
    with _opened(path) as image:
        try:
            image.load()
            profile = image.info.get("icc_profile")
            turned = ImageOps.exif_transpose(image)
        except Exception as error:  # the decoders of Pillow raise errors of any class on a damaged file
            reason = str(error) or type(error).__name__
            raise ValueError(f"{path} is a damaged image ({reason}): get a complete copy.") from error
    turned.info["icc_profile"] = profile
    return turned


def _eight_bits(image: Image.Image, path: str | Path) -> Image.Image:
    if not image.mode.startswith(("I", "F")):
        if image.mode not in KNOWN_MODES:
            raise ValueError(f"{path} has the mode {image.mode}, which is not known: convert it to an 8-bit RGB image.")
        return image
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"{path} has values of {values.min()} to {values.max()} in mode {image.mode}, which are not those of 8 or "
            "16 bits: convert it to an 8-bit image."
        )
    # Pillow opens 16-bit images as mode I;16 or I, so the mode decides: a dark one may have no value above 255.
    return Image.fromarray((values // 256).astype(np.uint8))


def _in_srgb(image: Image.Image, path: str | Path) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "L", "CMYK"):
        try:
            source, target = ImageCms.ImageCmsProfile(BytesIO(profile)), ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
            assert converted is not None
            return converted
        except ImageCms.PyCMSError as error:
            warnings.warn(
                f"{path} has a colour profile that cannot be read ({error}); its colours are taken as sRGB.",
                UserWarning,
                stacklevel=3,
            )
    return image.convert("RGB")
