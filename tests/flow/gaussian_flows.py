"""The velocity between N(0, I) and N(mean, scale^2 I) in closed form, as a network."""

import torch
from torch import Tensor, nn


class GaussianVelocity(nn.Module):
    """E[x_1 - x_0 | x_t] for x_t = (1 - t) x_0 + t x_1, by the regression of one Gaussian variable on another.

    With classes, ``mean`` has a row for each, and the last row is for no class.
    """

    def __init__(self, mean: Tensor, scale: float) -> None:
        super().__init__()
        self.mean, self.scale = nn.Parameter(mean), scale

    def forward(
        self, x: Tensor, time: Tensor, condition: Tensor | None = None, dropped: Tensor | None = None
    ) -> Tensor:
        t = time[:, None]
        mean = self.mean
        if mean.ndim == 2:
            row = torch.full_like(time, len(mean) - 1, dtype=torch.int64) if condition is None else condition
            mean = mean[row]
        covariance = t * self.scale**2 - (1 - t)  # of x_1 - x_0 and x_t
        variance = (1 - t) ** 2 + t**2 * self.scale**2  # of x_t
        return mean + covariance / variance * (x - t * mean)
