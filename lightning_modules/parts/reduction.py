"""Reduces images as Pillow does with Lanczos' filter, by matrices that gradients flow through."""

import math

import torch
from torch import Tensor

LOBES = 3


def lanczos_matrix(length: int, factor: int) -> Tensor:
    """Returns the weights by which each pixel of a row contributes to each of the reduced row.

    Args:
        length: Number of pixels, a multiple of ``factor``.
        factor: How many pixels become one.

    Returns:
        (length / factor, length), float32; each row sums to 1, also where the filter reaches over the border.

    Raises:
        ValueError: If ``length`` is not a multiple of ``factor``.
    """
    if factor < 1 or length % factor:
        raise ValueError(f"length={length} must be a multiple of factor={factor}.")
    centres = (torch.arange(length // factor, dtype=torch.float64) + 0.5) * factor
    distances = (torch.arange(length, dtype=torch.float64) + 0.5 - centres[:, None]) / factor
    weights = torch.where(distances.abs() < LOBES, torch.sinc(distances) * torch.sinc(distances / LOBES), 0.0)
    return (weights / weights.sum(1, keepdim=True)).float()


def coarser(size: tuple[int, int], halvings: int) -> tuple[int, int]:
    """Returns height and width after a number of halvings, rounded to the nearest whole number, at least 1."""
    height, width = (max(1, math.floor(math.ldexp(length, -halvings) + 0.5)) for length in size)
    return height, width
