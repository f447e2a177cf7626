"""Conditional distributions p(b|a) whose parameters a network computes from a: how b is drawn, and its mean."""

from typing import Protocol

import torch
from torch import Tensor

from lightning_modules.parts.checks import check_positive
from lightning_modules.parts.games import in_full_precision
from lightning_modules.parts.noise import Draws


class Conditional(Protocol):
    """A conditional distribution, given the outputs of its network."""

    def draw(self, parameters: Tensor, noise: Draws) -> Tensor:
        """Returns one sample for each row of ``parameters`` (N, ...), through which gradients reach the network."""
        ...

    def mean(self, parameters: Tensor) -> Tensor:
        """Returns the mean for each row of ``parameters`` (N, ...)."""
        ...


class PointMass:
    """A function of the condition: the network's output itself, without noise."""

    def draw(self, parameters: Tensor, noise: Draws) -> Tensor:
        """Returns ``parameters``."""
        return parameters

    def mean(self, parameters: Tensor) -> Tensor:
        """Returns ``parameters``."""
        return parameters


class DiagonalGaussian:
    """N(mean, diag scale^2); the network's output (N, 2D, ...) holds the means, then the logarithms of the scales."""

    def draw(self, parameters: Tensor, noise: Draws) -> Tensor:
        """Returns mean + scale * epsilon with epsilon ~ N(0, I), (N, D, ...)."""
        mean, log_scale = in_full_precision(parameters).chunk(2, dim=1)
        return mean + torch.exp(log_scale) * noise.normal(*mean.shape, device=mean.device)

    def mean(self, parameters: Tensor) -> Tensor:
        """Returns the means, (N, D, ...)."""
        return parameters.chunk(2, dim=1)[0]


class BoundedGaussian:
    """N(mean, diag scale^2) with means in (-bound, bound) and scales in (e^-3, 1), which it maps the outputs to.

    A game whose codes are made by its own chain fixes no scale for them; without a bound they may grow without limit.

    Args:
        bound: Bound of the absolute values of the means; outputs well below it are the means.

    Raises:
        ValueError: If the bound is not positive.
    """

    least_log_scale = -3.0

    def __init__(self, bound: float) -> None:
        check_positive(bound=bound)
        self.bound = bound

    def draw(self, parameters: Tensor, noise: Draws) -> Tensor:
        """Returns mean + scale * epsilon with epsilon ~ N(0, I), (N, D, ...)."""
        outputs = in_full_precision(parameters)
        mean, raw = self.mean(outputs), outputs.chunk(2, dim=1)[1]
        scale = torch.exp(self.least_log_scale * torch.sigmoid(-raw))
        return mean + scale * noise.normal(*mean.shape, device=mean.device)

    def mean(self, parameters: Tensor) -> Tensor:
        """Returns bound * tanh(first half / bound), (N, D, ...)."""
        return self.bound * torch.tanh(parameters.chunk(2, dim=1)[0] / self.bound)
