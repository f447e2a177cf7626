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
from PIL import Image, ImageCms, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

WHITE = 128
"""Lowest grey value of a mask that counts as white."""
MAX_PIXELS = 2**27
"""Largest number of pixels that is decoded; a file of a few kilobytes may state any size."""
KNOWN_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
LEVELS_APART: dict[object, int] = {"L;2": 85, "L;4": 17}
"""How far the grey values of a PNG file of 2 and 4 bits are apart in 8 bits, by Pillow's names of these."""
GREY_OF_16_BITS = "LA;16B"
"""Pillow's name of 16-bit grey values with opacity, which it opens as colours."""
WITH_OPACITY = ("LA", "P", "PA", "RGBA")
"""Modes of 8 bits that have opacity, or may have it by their palette."""
ORIENTATION = 0x0112
"""Number of the tag of EXIF in which a camera says how it was held."""
TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Values of that tag, and how an image is turned to be upright."""
SWAPPING = {TURNS[value] for value in (5, 6, 7, 8)}
"""Those that exchange height and width."""


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

    def cropped(self, multiple: int) -> "Photograph":
        """Returns the middle of the image, whose sides are the largest multiples of a number of pixels."""
        rows, columns = (
            slice((length % multiple) // 2, (length % multiple) // 2 + length // multiple * multiple)
            for length in self.size
        )
        if (rows.stop, columns.stop) == self.size:
            return self
        opacity = None if self.opacity is None else self.opacity[rows, columns]
        return replace(self, pixels=self.pixels[:, rows, columns], opacity=opacity)


def read_photograph(path: str | Path) -> Photograph:
    """Reads an image file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no image, is damaged, animated or larger than ``MAX_PIXELS``, or its values
            are not those of 8 or 16 bits.
    """
    image = _eight_bits(_decoded(path), path)
    grey = image.mode in ("1", "L", "LA")
    opacity = None
    colours = _in_srgb(image, path)
    if image.mode in WITH_OPACITY or "transparency" in image.info:
        alpha = image.convert("RGBA").getchannel("A")
        if alpha.getextrema() != (255, 255):
            opacity = torch.from_numpy(np.array(alpha))
        colours = Image.composite(colours, Image.new("RGB", image.size, "white"), alpha)
    if grey:  # a profile may tint it by a value
        colours = colours.convert("L").convert("RGB")
    pixels = torch.from_numpy(np.array(colours)).permute(2, 0, 1).contiguous()
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


def lanczos_of_known(pixels: Tensor, kept: Tensor, height: int, width: int) -> Tensor:
    """Resizes as ``lanczos`` does, by the weights of the pixels that are kept alone.

    Args:
        pixels: uint8 (C, H, W).
        kept: bool (H, W); pixels none of whose area is kept are meaningless.
        height: Height of the result.
        width: Width of the result.

    Returns:
        uint8 (C, height, width).
    """
    planes = [plane.numpy() for plane in (kept.float(), *(kept * pixels).float())]
    reduced = [Image.fromarray(plane).resize((width, height), Image.Resampling.LANCZOS) for plane in planes]
    total, *colours = (torch.from_numpy(np.array(plane)) for plane in reduced)
    return (torch.stack(colours) / total.clamp_min(1e-3)).round().clamp(0, 255).byte()


def covered(kept: Tensor, height: int, width: int) -> Tensor:
    """Resizes a mask, bool (H, W), to (height, width): a pixel is kept if all that its area touches is."""
    for dim, length in enumerate((height, width)):
        old, places = kept.shape[dim], torch.arange(length + 1)
        low, high = places[:-1] * old // length, (places[1:] * old + length - 1) // length
        before = torch.cat([torch.zeros_like(kept.narrow(dim, 0, 1), dtype=torch.int64), (~kept).cumsum(dim)], dim)
        kept = before.index_select(dim, high) == before.index_select(dim, low)
    return kept


def header_of(path: str | Path) -> tuple[int, int]:
    """Returns height and width of an image as it is shown, without decoding it.

    Raises:
        FileNotFoundError: As ``read_photograph``.
        ValueError: If the file is no image, or an animation.
    """
    with _opened(path) as image:
        width, height = image.size
        if isinstance(image, TiffImagePlugin.TiffImageFile):  # whose size some versions of Pillow turn already
            width, height = (
                int(image.tag_v2[tag]) for tag in (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH)
            )
        return (width, height) if _turn(image) in SWAPPING else (height, width)


def _opened(path: str | Path) -> Image.Image:
    file = Path(path).expanduser()
    if not file.exists():
        raise FileNotFoundError(2, "there is no such file", str(path))
    image = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked below
            image = Image.open(file)
            problem = _problem_with_header(image)
    except Exception as error:
        if image is not None:
            image.close()
        if isinstance(error, OSError) and error.errno is not None:  # such as that of a folder: it names the file
            raise
        raise ValueError(f"{path} {_reason(error)}") from error
    if problem is not None:
        image.close()
        raise ValueError(f"{path} {problem}")
    return image


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "is no image of a known format: convert it to PNG or JPEG."
    if isinstance(error, Image.DecompressionBombError):
        return f"states a size that is too large to decode ({error}): reduce the image."
    # The decoders of Pillow raise errors of any class on a damaged file.
    reason = str(error) or type(error).__name__
    return f"is a damaged image, or of a rare kind ({reason}): get a complete copy, or convert it to PNG or JPEG."


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
            stored = image.tile[0][3] if image.format == "PNG" and image.tile else None
            image.load()
            turn = _turn(image)
            whole = image.convert("LA") if stored == GREY_OF_16_BITS else image.copy()
            if isinstance(key := whole.info.get("transparency"), int):  # Pillow has spread the greys, but not the key
                whole.info["transparency"] = key * LEVELS_APART.get(stored, 1)
            return whole if turn is None else whole.transpose(turn)  # all of these keep ``info``
        except Exception as error:
            raise ValueError(f"{path} {_reason(error)}") from error


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Returns how the camera says that an image is turned; a damaged or senseless record says nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # the pixels are whole; where they are not, decoding them says it
        return None


def _eight_bits(image: Image.Image, path: str | Path) -> Image.Image:
    if not image.mode.startswith(("I", "F")):
        if image.mode not in KNOWN_MODES:
            raise ValueError(f"{path} has the mode {image.mode}, which is not known: convert it to an 8-bit RGB image.")
        key = image.info.get("transparency")
        if isinstance(key, tuple) and max(key) > 255:  # Pillow has reduced the colours to 8 bits, but not the key
            image.info["transparency"] = tuple(value // 256 for value in key)
        return image.convert(image.mode.upper()) if image.mode.endswith("a") else image  # from premultiplied colours
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"{path} has values of {values.min()} to {values.max()} in mode {image.mode}, which are not those of 8 or "
            "16 bits: convert it to an 8-bit image."
        )
    # Pillow opens 16-bit images as mode I;16 or I, so the mode decides: a dark one may have no value above 255.
    reduced = Image.fromarray((values // 256).astype(np.uint8))
    if "transparency" in image.info:  # one of the values of 16 bits
        reduced.putalpha(Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
    reduced.info["icc_profile"] = image.info.get("icc_profile")
    return reduced


def _in_srgb(image: Image.Image, path: str | Path) -> Image.Image:
    """Returns an image of 8 bits as RGB without its opacity, whose profile is that of its colours in whatever mode."""
    profile = None if image.mode == "LAB" else image.info.get("icc_profile")  # Pillow converts LAB to sRGB itself
    if image.mode in ("1", "LA"):
        image = image.convert("L")
    elif image.mode not in ("L", "CMYK"):
        image = (image.convert("RGBA") if image.mode in WITH_OPACITY else image).convert("RGB")
    if profile:
        try:
            source, target = ImageCms.ImageCmsProfile(BytesIO(profile)), ImageCms.createProfile("sRGB")
            if source.profile.xcolor_space.strip() == "RGB" and image.mode == "L":
                image = image.convert("RGB")
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
            assert converted is not None
            return converted
        except (ImageCms.PyCMSError, OSError, ValueError) as error:  # whatever is damaged in it
            warnings.warn(
                f"{path} has a colour profile that cannot be read ({error}); its colours are taken as sRGB.",
                UserWarning,
                stacklevel=3,
            )
    return image.convert("RGB")
