"""How many modes of a known mixture of points a model has found, and how evenly.

Limitation: the count of modes alone is easily fooled (21 lucky draws are a mode); read it with the
divergence of the counts, which sees a mode that is there but starved.

References:
    The counts at a fixed radius and within three standard deviations: Srivastava et al. (2017), VEEGAN,
    https://arxiv.org/abs/1705.07761; Lin et al. (2018), PacGAN, https://arxiv.org/abs/1712.04086.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

RADIUS = 0.25
MIN_FRACTION = 20 / 2500


class ModeCoverage(NamedTuple):
    """What ``mode_coverage`` returns.

    Attributes:
        modes: Modes with more than 20 of 2 500 samples (that fraction) closer than 0.25, in the unit of the
            samples: as the datamodule yields them.
        modes_hit: Modes with at least one sample within three standard deviations.
        high_quality: Fraction of samples within three standard deviations of their nearest mode; true
            draws score 1 - exp(-9/2) = 0.98889 in two dimensions, so more means under-dispersed modes.
        kl: Kullback-Leibler divergence, in nats, of the nearest-mode frequencies from uniform; true draws
            score about (modes - 1) / (2 N), a missing half of the modes ln 2.
    """

    modes: int
    modes_hit: int
    high_quality: float
    kl: float


def mode_coverage(samples: Tensor, modes: Tensor, scale: float) -> ModeCoverage:
    """Compares samples with the equally likely modes of a mixture of isotropic Gaussians.

    Args:
        samples: (N, D).
        modes: Centres (M, D).
        scale: Standard deviation of each mode.

    Raises:
        ValueError: If a sample is NaN or infinite, there is none, or the shapes do not fit.
    """
    if samples.ndim != 2 or modes.ndim != 2 or samples.shape[1] != modes.shape[1] or not len(samples):
        raise ValueError(f"Expected samples (N, D) and modes (M, D), got {tuple(samples.shape)}, {tuple(modes.shape)}.")
    if not torch.isfinite(samples).all():
        raise ValueError("Some samples are NaN or infinite: the model has diverged, so no mode can be counted.")
    distance, nearest = torch.cdist(samples.double(), modes.double()).min(1)

    def counts(chosen: Tensor) -> Tensor:
        return torch.bincount(nearest[chosen], minlength=len(modes))

    frequency = counts(torch.ones_like(nearest, dtype=torch.bool)).double() / len(samples)
    return ModeCoverage(
        modes=int((counts(distance < RADIUS) > MIN_FRACTION * len(samples)).sum()),
        modes_hit=int((counts(distance <= 3 * scale) > 0).sum()),
        high_quality=(distance <= 3 * scale).double().mean().item(),
        kl=torch.xlogy(frequency, frequency).sum().item() + math.log(len(modes)),
    )
