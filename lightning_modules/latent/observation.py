"""Observation models p(x|z): distributions whose parameters a decoder computes.

NOTE: Bernoulli and discretised logistic are probability masses, Gaussian is a density: their nats are not comparable.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.autoencoder import Encoder, Sizes, autoencoder
from lightning_modules.networks.text_encoder import condition_of
from lightning_modules.parts.checks import as_count
from lightning_modules.parts.likelihoods import (
    discretized_logistic_mixture_log_prob,
    discretized_logistic_mixture_mean,
    gaussian_log_prob,
    not_binary,
    not_on_256_bins,
    num_logistic_parameters,
    sample_discretized_logistic_mixture,
)
from lightning_modules.parts.noise import draw_normal
from lightning_modules.parts.precision import in_single

SCALES = ("global", "per_dimension")


def check_scale(scale: str) -> None:
    """Raises ValueError unless ``scale`` is ``"global"`` or ``"per_dimension"``."""
    if scale not in SCALES:
        raise ValueError(f"scale={scale!r} is not one of {', '.join(SCALES)}.")


class Observation(nn.Module, ABC):
    """Abstract: log p(x|z), mean and samples, from decoder outputs (..., num_parameters, *positions).

    Args:
        shape: Shape of an example.
    """

    value_range: tuple[float, float] | None
    discrete: bool
    num_parameters: int

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    @abstractmethod
    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Returns log p(x|z) of x (N, *shape) under each of k codes, nats, (N, k), from outputs (N, k, ...)."""

    @abstractmethod
    def mean(self, parameters: Tensor) -> Tensor:
        """Returns E[x|z], shape (N, *shape), from outputs (N, ...)."""

    @abstractmethod
    def draw(self, parameters: Tensor, generator: Generator, temperature: float) -> Tensor:
        """Samples x given z, shape (N, *shape), from outputs (N, ...).

        Args:
            parameters: Outputs of the decoder.
            generator: Source of random numbers, which are drawn on its device.
            temperature: 1 for the model itself; below 1 samples are closer to the most likely values.
        """

    def problem_with(self, x: Tensor) -> str | None:
        """Hook: returns a sentence that names a value of ``x`` of probability zero, or ``None`` if there is none."""
        return None

    def uniform(self, generator: Generator, device: torch.device, *shape: int) -> Tensor:
        """Returns uniform samples in [0, 1), drawn on the generator's device."""
        return torch.rand(*shape, generator=generator, device=generator.device).to(device)


class Bernoulli(Observation):
    """Independent bits; the decoder computes log(p / (1 - p))."""

    value_range = (0.0, 1.0)
    discrete = True

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape)
        self.num_parameters = shape[0] if len(shape) == 3 else 1

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Returns sum x l - softplus(l), nats, shape (N, k); one matrix product for all codes of an example.

        With a single code in training, products and a sum are faster, because their backward pass is.
        """
        logits, x = parameters.flatten(2), x.flatten(1).to(parameters.dtype)
        if logits.requires_grad and logits.shape[1] == 1:
            return (x.unsqueeze(1) * logits - F.softplus(logits)).sum(2)
        with torch.autocast(logits.device.type, enabled=False):  # a product of rounded logits is off by half a nat
            products = (logits @ x.unsqueeze(2)).squeeze(2)
        return products - F.softplus(logits).sum(2)

    def mean(self, parameters: Tensor) -> Tensor:
        """Returns the probabilities of a one."""
        return torch.sigmoid(parameters.flatten(1)).unflatten(1, self.shape)

    def draw(self, parameters: Tensor, generator: Generator, temperature: float) -> Tensor:
        """Samples bits, 0 or 1."""
        probabilities = self.mean(in_single(parameters) / temperature)
        return (self.uniform(generator, parameters.device, *probabilities.shape) < probabilities).to(parameters.dtype)

    def problem_with(self, x: Tensor) -> str | None:
        """Refuses values other than 0 and 1."""
        return not_binary(x)


class Gaussian(Observation):
    """Independent Gaussians whose means the decoder computes; their scales are learned and the same for all codes.

    Args:
        shape: Shape of an example.
        scale: ``"global"`` for one scale, ``"per_dimension"`` for one per dimension.
    """

    discrete = False

    def __init__(self, shape: Sequence[int], scale: str) -> None:
        super().__init__(shape)
        self.value_range = (-1.0, 1.0) if len(shape) == 3 else None
        self.num_parameters = shape[0] if len(shape) == 3 else 1
        check_scale(scale)
        self.log_scale = nn.Parameter(torch.zeros(1 if scale == "global" else math.prod(shape)))

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Returns the log-density in nats, shape (N, k)."""
        num, particles = parameters.shape[:2]
        means, x = parameters.flatten(2), x.flatten(1).unsqueeze(1).expand(-1, particles, -1)
        log_scale = self.log_scale.expand(means.shape[2])
        return gaussian_log_prob(x.flatten(0, 1), means.flatten(0, 1), log_scale).unflatten(0, (num, particles))

    def mean(self, parameters: Tensor) -> Tensor:
        """Returns the means; for images they are clipped to [-1, 1]."""
        mean = parameters.flatten(1).unflatten(1, self.shape)
        return mean if self.value_range is None else mean.clamp(*self.value_range)

    def draw(self, parameters: Tensor, generator: Generator, temperature: float) -> Tensor:
        """Samples real numbers; for images they are clipped to [-1, 1]."""
        mean = parameters.flatten(1)
        noise = draw_normal(mean.shape, generator, mean.device)
        x = (mean + temperature * torch.exp(self.log_scale) * noise).unflatten(1, self.shape)
        return x if self.value_range is None else x.clamp(*self.value_range)


class DiscretizedLogisticMixture(Observation):
    """A mixture of discretised logistics over the 256 grey values of each pixel.

    Args:
        shape: (C, H, W) with one or three channels.
        num_components: Logistics in the mixture of a pixel.
    """

    value_range = (-1.0, 1.0)
    discrete = True

    def __init__(self, shape: Sequence[int], num_components: int) -> None:
        super().__init__(shape)
        if len(shape) != 3:
            raise ValueError(
                f"likelihood='discretized_logistic_mixture' needs images (C, H, W), not shape={list(shape)}."
            )
        self.num_parameters = num_logistic_parameters(shape[0], num_components)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Returns the log of the probability mass in nats, shape (N, k)."""
        num, particles = parameters.shape[:2]
        x = x.unsqueeze(1).expand(-1, particles, *self.shape).flatten(0, 1)
        return discretized_logistic_mixture_log_prob(parameters.flatten(0, 1), x).unflatten(0, (num, particles))

    def mean(self, parameters: Tensor) -> Tensor:
        """Returns the mean of the mixture over the range of the grey values, not rounded to these."""
        return discretized_logistic_mixture_mean(in_single(parameters), self.shape[0])

    def draw(self, parameters: Tensor, generator: Generator, temperature: float) -> Tensor:
        """Samples grey values v / 127.5 - 1."""
        num, (channels, height, width) = len(parameters), self.shape
        choice = self.uniform(generator, parameters.device, num, height, width)
        uniform = self.uniform(generator, parameters.device, num, channels, height, width)
        return sample_discretized_logistic_mixture(in_single(parameters), choice, uniform, temperature)

    def problem_with(self, x: Tensor) -> str | None:
        """Refuses values other than the 256 grey values."""
        return not_on_256_bins(x)


LIKELIHOODS = ("bernoulli", "gaussian", "discretized_logistic_mixture")
FORMER_NAMES = {"discretized_logistic": "discretized_logistic_mixture"}


class Autoencoder(TypedDict):
    """Arguments of ``LatentVariableModule``: networks, observation model, and the sizes that they were built with."""

    encoder: Encoder
    decoder: nn.Module
    observation: Observation
    latent_dim: int
    num_classes: int | None
    num_words: int | None


def observed_autoencoder(
    shape: Sequence[int],
    likelihood: str,
    architecture: str,
    latent_dim: int,
    hidden: int,
    depth: int,
    width: int,
    num_classes: int | None,
    scale: str,
    num_components: int,
    num_words: int | None = None,
) -> Autoencoder:
    """Builds encoder, decoder and observation model; arguments as in ``VAE``.

    Raises:
        ValueError: If a number is out of range, a name unknown, or parts do not fit together.
    """
    observed = observation(likelihood, shape, scale, num_components)
    sizes = Sizes(shape, latent_dim, hidden, depth, width, condition_of(num_classes, num_words))
    encoder, decoder = autoencoder(architecture, sizes, observed.num_parameters)
    return {
        "encoder": encoder,
        "decoder": decoder,
        "observation": observed,
        "latent_dim": latent_dim,
        "num_classes": num_classes,
        "num_words": num_words,
    }


def observation(likelihood: str, shape: Sequence[int], scale: str, num_components: int) -> Observation:
    """Returns the observation model called ``likelihood``.

    Raises:
        ValueError: If there is none of that name, or it does not fit ``shape``; also for a setting out of range of
            another likelihood, which would go unnoticed until that one is chosen.
    """
    check_scale(scale)
    as_count("num_components", num_components)
    likelihood = FORMER_NAMES.get(likelihood, likelihood)
    if likelihood == "bernoulli":
        return Bernoulli(shape)
    if likelihood == "gaussian":
        return Gaussian(shape, scale)
    if likelihood == "discretized_logistic_mixture":
        return DiscretizedLogisticMixture(shape, num_components)
    raise ValueError(f"likelihood={likelihood!r} is not one of {', '.join(LIKELIHOODS)}.")
