"""The arguments of the commands on one image: ``stylize``, ``texture`` and ``restore``."""

import argparse
from collections.abc import Callable
from os.path import expanduser
from typing import Any

NAMED_LAYERS = "comma-separated names of layers (default: those of the network)"
LARGEST_SIDE = 20_000


def add_image_commands(
    command: Callable[..., Any],
    positive: Callable[[str], int],
    number: Callable[[str], float],
    seed: Callable[[str], int],
) -> None:
    """Adds the commands.

    Args:
        command: Adds a command by its name and help, and returns its parser.
        positive: Type of counts.
        number: Type of numbers.
        seed: Type of seeds.
    """
    stylizing = command("stylize", "give an image the style of other images")
    stylizing.add_argument("content", metavar="CONTENT", help="image file: the content")
    stylizing.add_argument("styles", metavar="STYLE", nargs="+", help="image files: the styles")
    stylizing.add_argument("--size", type=side, default=256, help="longer side of the result in pixels (default: 256)")
    stylizing.add_argument("--style-size", type=side, help="longer side of the styles (default: that of the result)")
    stylizing.add_argument("--style-weight", type=number, default=STYLE_WEIGHT, help="default: %(default)s")
    stylizing.add_argument("--style-weights", type=numbers, metavar="W,W", help="weight of each of several styles")
    stylizing.add_argument("--content-weight", type=number, default=1.0, help="default: %(default)s")
    stylizing.add_argument(
        "--keep-colours",
        choices=["covariance", "luminance"],
        help="keep those of the content: give them to the style before, or transfer brightness only",
    )
    stylizing.add_argument(
        "--start", choices=["content", "mean"], default="content", help="begin with the content or its mean colour"
    )
    stylizing.add_argument("--content-layers", type=words, metavar="LAYERS", help=NAMED_LAYERS)
    stylizing.add_argument("--style-layers", type=words, metavar="LAYERS", help=NAMED_LAYERS)
    _add_pixels(stylizing, positive, number)
    _add_run(stylizing, positive, number, seed)

    texturing = command("texture", "make more of a texture, of any size")
    texturing.add_argument("image", metavar="IMAGE", help="image file of the texture")
    texturing.add_argument(
        "--size", type=rectangle, default=(256, 256), metavar="N or WxH", help="of the result in pixels (default: 256)"
    )
    texturing.add_argument(
        "--exemplar-size", type=side, default=256, help="longer side to which IMAGE is resized (default: 256)"
    )
    texturing.add_argument("--seamless", action="store_true", help="make opposite borders fit together")
    texturing.add_argument("--layers", type=words, metavar="LAYERS", help=NAMED_LAYERS)
    _add_pixels(texturing, positive, number)
    _add_run(texturing, positive, number, seed)

    restoring = command(
        "restore",
        "remove noise from an image, fill holes in it, or enlarge it, by deep image prior",
        epilog="  --mask FILE     fill where the mask is black, and keep where it is white\n"
        "  --noise 25      remove noise of that standard deviation, in grey values of 0..255\n"
        "  --scale 4       enlarge four times",
    )
    restoring.add_argument("image", metavar="IMAGE", help="image file")
    restoring.add_argument(
        "--mask", type=expanduser, metavar="FILE", help="image of the same size: white is kept and black is filled"
    )
    restoring.add_argument("--invert-mask", action="store_true", help="keep black and fill white")
    restoring.add_argument("--noise", type=number, metavar="SIGMA", help="standard deviation of the noise in IMAGE")
    restoring.add_argument("--scale", type=positive, metavar="N", help="factor of the enlargement")
    restoring.add_argument(
        "--degrade",
        action="store_true",
        help="first add the noise to IMAGE, hide what the mask does, or reduce it, and say how near the result comes",
    )
    restoring.add_argument("--size", type=side, help="longer side to which IMAGE is resized (default: as it is)")
    restoring.add_argument(
        "--width", type=positive, default=32, help="channels of the network (default: 32; paper: 128)"
    )
    restoring.add_argument("--depth", type=positive, default=5, help="resolutions of the network (default: 5)")
    restoring.add_argument(
        "--steps", type=positive, help="number of steps at most (default: 3000 with --noise, else 2000)"
    )
    restoring.add_argument(
        "--patience", type=positive, help="steps without a calmer output that end --noise (default: 1000)"
    )
    _add_run(restoring, positive, number, seed)


STYLE_WEIGHT = 5.0


def _add_pixels(parser: Any, positive: Callable[[str], int], number: Callable[[str], float]) -> None:
    parser.add_argument(
        "--features", metavar="NAME", help="feature network; see `fetch --list` (default: the best here)"
    )
    parser.add_argument("--smooth", type=number, default=0.0, help="weight of the total variation (default: 0)")
    parser.add_argument("--scales", type=positive, default=2, help="scales from coarse to fine (default: 2)")
    parser.add_argument("--steps", type=positive, default=2000, help="number of steps at most (default: 2000)")
    parser.add_argument("--optimizer", choices=["lbfgs", "adam"], default="lbfgs", help="default: %(default)s")
    parser.add_argument(
        "--tile", type=positive, metavar="PIXELS", help="side of tiles, to save memory (default: as the memory needs)"
    )


def _add_run(
    parser: Any, positive: Callable[[str], int], number: Callable[[str], float], seed: Callable[[str], int]
) -> None:
    parser.add_argument("--minutes", type=number, default=8.0, help="end by then; fewer steps are made (default: 8)")
    parser.add_argument("--seed", type=seed, default=0, help="seed of all random numbers (default: 0)")
    parser.add_argument("--device", choices=["auto", "cpu", "gpu"], default="auto", help="default: %(default)s")
    parser.add_argument(
        "--gif", type=expanduser, metavar="FILE", help="also write an animation of how the image comes about"
    )
    parser.add_argument(
        "--out", type=expanduser, metavar="FILE", help="PNG or JPEG file (default: named after the image)"
    )


def side(text: str) -> int:
    """Returns a side in pixels; raises ``ArgumentTypeError`` for anything else."""
    if not text.isdecimal() or not 1 <= int(text) <= LARGEST_SIDE:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pixels from 1 to {LARGEST_SIDE:,}")
    return int(text)


def rectangle(text: str) -> tuple[int, int]:
    """Returns width and height of ``"512"`` or ``"512x384"``; raises ``ArgumentTypeError`` for anything else."""
    parts = text.lower().split("x")
    if len(parts) > 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 512 or 512x384")
    width, height = side(parts[0]), side(parts[-1])
    return width, height


def numbers(text: str) -> list[float]:
    """Returns numbers separated by commas; raises ``ArgumentTypeError`` for anything else."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers, such as 1,0.5") from None


def words(text: str) -> list[str]:
    """Returns names separated by commas."""
    return [part.strip() for part in text.split(",")]
