"""Resizing pictures once, when they are read."""

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

CHUNK = 4096


def resize_and_crop(images: Tensor, size: int) -> Tensor:
    """Resizes the shorter side to ``size`` (bilinear, antialiased) and cuts out the centre.

    Args:
        images: Shape (N, C, H, W), uint8.
        size: Height and width of the result.

    Returns:
        Shape (N, C, size, size), uint8.
    """
    resized = [F.center_crop(F.resize(part, [size], antialias=True), [size, size]) for part in images.split(CHUNK)]
    return torch.cat(resized)
