"""Conditional distributions of a pixel, as PixelCNN++ needs them: of bits, and of 256 grey values."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from lightning_modules.parts.likelihoods import (
    bernoulli_log_prob,
    discretized_logistic_mixture_log_prob,
    not_binary,
    not_on_256_bins,
    num_logistic_parameters,
    sample_discretized_logistic_mixture,
)
from lightning_modules.parts.precision import in_single

INITIAL_LOG_SCALE = -2.5
"""Initial logarithm of the logistics' scales: about 20 grey values."""


class PixelLikelihood(Protocol):
    """The distribution of a pixel (C values) given its parameters (P values)."""

    value_range: tuple[float, float]
    num_parameters: int
    num_uniform: int

    def initialize(self, bias: Tensor) -> None:
        """Sets the initial biases of the layer that computes the parameters, (P,), in place."""
        ...

    def centred(self, x: Tensor) -> Tensor:
        """Maps values to the input range of the network, [-1, 1]."""
        ...

    def problem(self, x: Tensor) -> str | None:
        """Returns a sentence that names a value of ``x`` of probability zero, or ``None`` if there is none."""
        ...

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Maps parameters (N, P, H, W) and images (N, C, H, W) to log p(x) in nats, (N,)."""
        ...

    def draw(self, parameters: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        """Samples pixels (N, C, ...) from their parameters (N, P, ...) and ``num_uniform`` numbers, (N, U, ...)."""
        ...


class Bits:
    """A Bernoulli distribution of bits in {0, 1}, of one channel.

    Args:
        shape: (1, H, W).
        num_components: Not used.

    Raises:
        ValueError: If there is more than one channel.
    """

    value_range = (0.0, 1.0)
    num_parameters = num_uniform = 1

    def __init__(self, shape: Sequence[int], num_components: int) -> None:
        if shape[0] != 1:
            raise ValueError(f"shape={list(shape)}: the Bernoulli likelihood models one channel of bits.")

    def initialize(self, bias: Tensor) -> None:
        """Leaves the biases as they are."""

    def centred(self, x: Tensor) -> Tensor:
        """Maps 0 to -1 and 1 to 1."""
        return 2 * x - 1

    def problem(self, x: Tensor) -> str | None:
        """Names a value that is neither 0 nor 1, if there is one."""
        return not_binary(x)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Sums the log-probabilities of all bits, in nats, (N,)."""
        return bernoulli_log_prob(in_single(parameters), x)

    def draw(self, parameters: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        """Samples a bit from its logit; the temperature divides the logit."""
        parameters = in_single(parameters)
        return (uniform < torch.sigmoid(parameters / temperature)).to(parameters.dtype)


class GreyValues:
    """A mixture of logistics, discretized to the 256 grey values v / 127.5 - 1 on [-1, 1], of one or three channels.

    Args:
        shape: (C, H, W).
        num_components: Logistics in the mixture of a pixel.

    Raises:
        ValueError: If there are neither one nor three channels, or no component.
    """

    value_range = (-1.0, 1.0)

    def __init__(self, shape: Sequence[int], num_components: int) -> None:
        self.channels, self.num_components = shape[0], num_components
        self.num_parameters, self.num_uniform = num_logistic_parameters(shape[0], num_components), 1 + shape[0]

    @torch.no_grad()
    def initialize(self, bias: Tensor) -> None:
        """Spreads the initial means over [-1, 1], because components that start alike stay alike for long."""
        num = self.num_components
        means = bias[num : num * (1 + self.channels)].view(self.channels, num)
        means.copy_(torch.linspace(-1, 1, num + 2)[1:-1].expand_as(means))
        bias[num * (1 + self.channels) : num * (1 + 2 * self.channels)].fill_(INITIAL_LOG_SCALE)

    def centred(self, x: Tensor) -> Tensor:
        """Returns the values, which are in [-1, 1]."""
        return x

    def problem(self, x: Tensor) -> str | None:
        """Names a value that is none of the 256, if there is one."""
        return not_on_256_bins(x)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Sums the log-probabilities of all pixels, in nats, (N,)."""
        return discretized_logistic_mixture_log_prob(parameters, x)

    def draw(self, parameters: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        """Samples a component, then its value; the temperature divides logits and multiplies scales."""
        parameters = in_single(parameters)  # half precision is too coarse for 256 grey values
        return sample_discretized_logistic_mixture(parameters, uniform[:, 0], uniform[:, 1:], temperature)


LIKELIHOODS: dict[str, type[GreyValues] | type[Bits]] = {
    "discretized_logistic_mixture": GreyValues,
    "bernoulli": Bits,
}
