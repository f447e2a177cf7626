"""Times of a path from noise (t = 0) to data (t = 1): how training draws them, and where a solver steps.

References:
    Scaling Rectified Flow Transformers for High-Resolution Image Synthesis (Esser et al., 2024),
    https://arxiv.org/abs/2403.03206 (logit-normal times)
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_modules.parts.noise import Draws

DISTRIBUTIONS = ("logit_normal", "uniform")


@dataclass(frozen=True)
class Times:
    """The distribution of the times of training.

    Args:
        name: ``"logit_normal"``, t = sigmoid(u) with u ~ N(mean, scale^2), or ``"uniform"`` on [0, 1).
        mean: Mean of u; above 0 more times lie near the data. It is not used for uniform times.
        scale: Standard deviation of u: 1 leaves out both ends, 2 is nearly uniform, more favours the ends.

    Raises:
        ValueError: If the name is unknown, the mean is not finite, or the scale not positive and finite.
    """

    name: str = "logit_normal"
    mean: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in DISTRIBUTIONS:
            raise ValueError(f"times={self.name!r} is not one of {', '.join(DISTRIBUTIONS)}.")
        if not math.isfinite(self.mean) or not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(
                f"time_mean={self.mean} must be finite and time_scale={self.scale} positive and finite: logit-normal "
                "times are sigmoid(time_mean + time_scale * N(0, 1))."
            )

    def draw(self, draws: Draws, num: int, device: torch.device) -> Tensor:
        """Returns ``num`` times in [0, 1], float32 (num,)."""
        if self.name == "uniform":
            return draws.uniform(num, device=device)
        return torch.sigmoid(self.mean + self.scale * draws.normal(num, device=device))


def graded_times(steps: int, power: float = 1.0) -> list[float]:
    """Returns the ends of ``steps`` intervals from 0 to 1: 1 - (1 - i / steps)^power for i = 0, ..., steps.

    Args:
        steps: Number of intervals, at least 1.
        power: 1 for intervals of equal length; above 1 they become shorter towards the data, where a velocity changes
            as fast as the finest details of the data ask for.
    """
    return [1 - (1 - i / steps) ** power for i in range(steps + 1)]
