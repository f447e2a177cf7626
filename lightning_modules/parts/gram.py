"""Distances between images: of their features, of the correlations of these, and between neighbouring pixels.

Texture Synthesis Using Convolutional Neural Networks (Gatys et al., 2015), https://arxiv.org/abs/1505.07376
"""

import torch
from torch import Tensor

EPSILON = 1e-12


def gram_sum(features: Tensor) -> Tensor:
    """Returns the sum over positions of the outer products of feature vectors, (K, K).

    Divided by the number of positions it is the Gram matrix, which does not depend on where a feature is.

    Args:
        features: (1, K, H, W).
    """
    flat = features.flatten(2)[0]
    return flat @ flat.T


def relative_distance(x: Tensor, target: Tensor) -> Tensor:
    """Returns ||x - target||^2 / ||target||^2, a scalar: 0 at the target, and 1 at zero.

    Features of different networks and layers differ in scale by orders of magnitude; this quotient does not.
    """
    return (x - target).square().sum() / (target.square().sum() + EPSILON)


def total_variation(x: Tensor) -> Tensor:
    """Returns the mean squared difference of vertical and of horizontal neighbours, summed over both directions.

    Args:
        x: Images (N, C, H, W), H and W at least 2.
    """
    vertical, horizontal = x.diff(dim=2), x.diff(dim=3)
    return vertical.square().mean() + horizontal.square().mean()


def total_variation_of_torus(x: Tensor) -> Tensor:
    """Returns ``total_variation`` of an image whose opposite borders touch."""
    return sum((x - torch.roll(x, 1, dim)).square().mean() for dim in (2, 3))  # type: ignore[return-value]
