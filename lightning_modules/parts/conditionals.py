"""Conditional distributions p(b|a) whose parameters a network computes from a: how b is drawn, and its mean."""

from typing import Protocol

import torch
from torch import Tensor

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
