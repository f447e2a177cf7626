"""Quantisation of images to 256 levels."""

import torch
from torch import Tensor

from lightning_modules.parts.precision import in_finest


def to_uint8(images: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Maps images to the 256 levels from which every metric is computed: clamp, round, uint8.

    This is the only place where images are quantised. Rounding matters: truncation darkens an image by half a level,
    and without clamping, values just outside the range wrap around to the other end.

    Args:
        images: (N, C, H, W), floating point.
        value_range: The values that become 0 and 255; values outside are clamped.

    Returns:
        uint8 (N, C, H, W).

    Raises:
        ValueError: If a value is NaN or infinite.
    """
    if not images.is_meta and not torch.isfinite(images).all():
        raise ValueError(
            f"{int((~torch.isfinite(images)).sum())} of {images.numel()} pixel values are NaN or infinite; "
            "images must be finite. The model has probably diverged: go back to its last good checkpoint."
        )
    low, high = value_range
    scaled = (in_finest(images) - low) * (255 / (high - low))
    return scaled.round().clamp(0, 255).to(torch.uint8)
