"""Corruptions of images, those of the study that introduced FID, each with a strength.

GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017, appendix A1),
https://arxiv.org/abs/1706.08500
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional

NUM_RECTANGLES = 5


def noisy(images: Tensor, strength: float, generator: Generator) -> Tensor:
    """Returns (1 - a) x + a n of images uint8 (N, C, H, W); n is normal noise that is scaled to the range [0, 255].

    As in the authors' code, the range is that of the noise of all images, so single values lie near its middle.
    """
    noise = torch.randn(images.shape, generator=generator)
    low, high = noise.min(), noise.max()
    return as_pixels((1 - strength) * images + strength * 255 * (noise - low) / (high - low))


def blurred(images: Tensor, sigma: float, generator: Generator) -> Tensor:
    """Returns images uint8 (N, C, H, W) convolved with a Gaussian of a width in pixels; 0 leaves them as they are."""
    return images if sigma == 0 else functional.gaussian_blur(images, 2 * [2 * math.ceil(3 * sigma) + 1], 2 * [sigma])


def with_rectangles(images: Tensor, share: float, generator: Generator) -> Tensor:
    """Returns images uint8 (N, C, H, W) with five black squares each, whose side is this share of the image's."""
    height, width = images.shape[2:]
    tall, wide = int(share * height), int(share * width)
    rows, columns = torch.arange(height), torch.arange(width)
    result = images.clone()
    for _ in range(NUM_RECTANGLES):
        top = torch.randint(height - tall + 1, (len(images), 1), generator=generator)
        left = torch.randint(width - wide + 1, (len(images), 1), generator=generator)
        inside_rows = (rows >= top) & (rows < top + tall)
        inside_columns = (columns >= left) & (columns < left + wide)
        result.masked_fill_((inside_rows[:, :, None] & inside_columns[:, None, :])[:, None], 0)
    return result


def swirled(images: Tensor, strength: float, generator: Generator, radius: float = 22.0) -> Tensor:
    """Returns images uint8 (N, C, H, W) turned around their centre by strength * exp(-5 r / (radius ln 2)) radians.

    Args:
        images: Square images.
        strength: Angle in the centre, radians.
        generator: Not used: a swirl is not random.
        radius: Distance in pixels within which almost all of the turning is.
    """
    side = images.shape[-1]
    place = torch.arange(side) - (side - 1) / 2
    y, x = torch.meshgrid(place, place, indexing="ij")
    distance = (x.square() + y.square()).sqrt()
    angle = torch.atan2(y, x) + strength * torch.exp(-5 * distance / (radius * math.log(2)))
    grid = 2 * torch.stack([distance * angle.cos(), distance * angle.sin()], -1) / (side - 1)
    grid = grid.expand(len(images), -1, -1, -1)
    return as_pixels(F.grid_sample(images.float(), grid, align_corners=True, padding_mode="border"))


def salted(images: Tensor, share: float, generator: Generator) -> Tensor:
    """Returns images uint8 (N, C, H, W) of which this share of pixels, in all channels, is black or white at random."""
    shape = (len(images), 1, *images.shape[2:])
    hit = torch.rand(shape, generator=generator) < share
    white = torch.rand(shape, generator=generator) < 0.5
    return torch.where(hit, white * images.new_tensor(255), images)


def mixed(images: Tensor, share: float, others: Tensor) -> Tensor:
    """Returns images (N, C, H, W) the first of which, this share of them, are replaced by other ones (M, C, H, W).

    Raises:
        ValueError: If there are not enough other ones.
    """
    num = round(share * len(images))
    if num > len(others):
        raise ValueError(f"{num} images are to be replaced, but there are {len(others)} others.")
    return torch.cat([others[:num], images[num:]])


def as_pixels(values: Tensor) -> Tensor:
    """Returns numbers in [0, 255] as uint8, rounded."""
    return values.round().clamp(0, 255).to(torch.uint8)
