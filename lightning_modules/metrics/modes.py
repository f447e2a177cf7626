"""Mode coverage: how many modes of a known mixture of points a model covers, and how evenly.

Limitation: the number of modes alone can mislead (21 samples by chance count as a mode). Compare it with the divergence
of the counts, which shows a mode with too few samples.

References:
    The counts at a fixed radius and within three standard deviations: Srivastava et al. (2017), VEEGAN,
    https://arxiv.org/abs/1705.07761; Lin et al. (2018), PacGAN, https://arxiv.org/abs/1712.04086.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from datamodules.spec import DataSpec
from lightning_modules.metrics.names import short_count
from lightning_modules.metrics.protocol import at_least_two, sample_blocks
from lightning_modules.parts.precision import in_float64

RADIUS = 0.25
MIN_FRACTION = 20 / 2500


class ModeCoverage(NamedTuple):
    """Results of ``mode_coverage``.

    Attributes:
        modes: Number of modes with more than 20 of 2 500 samples (that fraction) closer than 0.25, in units of the
            samples, as the datamodule yields them.
        modes_hit: Number of modes with at least one sample within three standard deviations.
        high_quality: Fraction of samples within three standard deviations of their nearest mode. Real points have
            1 - exp(-9/2) = 0.98889 in two dimensions; a larger value means under-dispersed modes.
        kl: Kullback-Leibler divergence, in nats, of the nearest-mode frequencies from uniform. Real points have about
            (modes - 1) / (2 N); if half of the modes are missing, it is ln 2.
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
        ValueError: If a sample is NaN or infinite, there are no samples or no modes, or the shapes do not fit.
    """
    fit = samples.ndim == modes.ndim == 2 and samples.shape[1] == modes.shape[1]
    if not fit or not len(samples) or not len(modes):
        raise ValueError(f"Expected samples (N, D) and modes (M, D), got {tuple(samples.shape)}, {tuple(modes.shape)}.")
    if not torch.isfinite(samples).all():
        raise ValueError("Some samples are NaN or infinite: the model has diverged, so no mode can be counted.")
    distance, nearest = torch.cdist(in_float64(samples), in_float64(modes)).min(1)

    def counts(chosen: Tensor) -> Tensor:
        return torch.bincount(nearest[chosen], minlength=len(modes))

    frequency = in_float64(counts(torch.ones_like(nearest, dtype=torch.bool))) / len(samples)
    return ModeCoverage(
        modes=int((counts(distance < RADIUS) > MIN_FRACTION * len(samples)).sum()),
        modes_hit=int((counts(distance <= 3 * scale) > 0).sum()),
        high_quality=in_float64(distance <= 3 * scale).mean().item(),
        kl=torch.xlogy(frequency, frequency).sum().item() + math.log(len(modes)),
    )


def evaluate_points(
    module: nn.Module, *, spec: DataSpec, num_samples: int = 2500, split: str = "test", seed: int = 0
) -> dict[str, float]:
    """Measures the mode coverage of what a module samples, with the weights it has.

    Args:
        module: A module that ``SupportsSampling``.
        spec: Spec of the data, with ``modes`` and ``mode_scale``.
        num_samples: Number of points that are sampled, at least 2.
        split: First word of the names; the modes are known, so no real data are used.
        seed: Seed of the protocol.

    Returns:
        Values by names that contain the protocol: ``"test/modes-2500"``.

    Raises:
        ValueError: If ``num_samples`` is too small, the data have no modes, or a sample is not finite.
    """
    num_samples = at_least_two("num_samples", num_samples)
    modes, scale = modes_of(spec)
    samples = sample_blocks(module, num_samples, spec.shape, seed=seed)
    found = mode_coverage(samples, modes, scale)
    return {f"{split}/{name}-{short_count(num_samples)}": float(value) for name, value in found._asdict().items()}


def modes_of(spec: DataSpec | None) -> tuple[Tensor, float]:
    """Returns the modes (M, D) of a mixture, and their standard deviation.

    Raises:
        ValueError: If the spec is not of points with modes.
    """
    if spec is None or spec.kind != "points" or not spec.modes or spec.mode_scale is None:
        what = "no data spec" if spec is None else f"{spec.name!r} (kind={spec.kind!r}, {len(spec.modes)} modes)"
        raise ValueError(
            f"Mode coverage needs points from a mixture with known modes, such as Ring or Grid, not {what}."
        )
    return torch.tensor(spec.modes), spec.mode_scale
