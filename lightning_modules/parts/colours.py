"""Colours of images: luminance, and linear maps that give an image the mean and covariance of another's colours.

Preserving Color in Neural Artistic Style Transfer (Gatys et al., 2016), https://arxiv.org/abs/1606.05897
"""

import torch
from torch import Tensor

from lightning_modules.parts.precision import in_float64

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in Y of YIQ."""
RIDGE = 1e-5
"""Added to the variance of each colour: an image of one colour has none."""


def luminance(x: Tensor) -> Tensor:
    """Returns the brightness of RGB images (N, 3, H, W) as (N, 1, H, W), in the same range."""
    weights = x.new_tensor(LUMINANCE).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True)


def with_luminance(colours: Tensor, brightness: Tensor) -> Tensor:
    """Returns images with the hues of ``colours`` (N, 3, H, W) and another luminance (N, 1, H, W).

    To replace Y and keep I and Q of YIQ is to add the same amount to red, green and blue.
    """
    return colours + (brightness - luminance(colours))


def with_moments(x: Tensor, target: Tensor) -> Tensor:
    """Maps the colours of an image linearly, so that they have the mean and covariance of those of another, section 3.

    The map is Sigma_t^(1/2) Sigma_x^(-1/2) ("image analogies"), for one channel a shift and a positive factor.

    Args:
        x: Image (1, C, H, W).
        target: Image (1, C, H', W').
    """
    (mean, covariance), (aim, wanted) = _moments(x), _moments(target)
    transform = _power(wanted, 0.5) @ _power(covariance, -0.5)
    moved = transform @ (in_float64(x.flatten(2)[0]) - mean) + aim
    return moved.to(x).view_as(x)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    flat = in_float64(x.flatten(2)[0])
    mean = flat.mean(1, keepdim=True)
    centred = flat - mean
    ridge = RIDGE * torch.eye(len(flat), dtype=flat.dtype, device=flat.device)
    return mean, centred @ centred.T / centred.shape[1] + ridge


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.clamp_min(RIDGE / 10) ** exponent) @ vectors.T
