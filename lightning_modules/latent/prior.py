"""Priors p(z) of latent variable models: what codes are drawn from, and what q(z|x) is compared with.

Each is compared with N(0, I). With q(z|x) = N(m, diag s^2) and z = m + s * eps, a weight of an importance bound and the
KL term are

    log p(z) / q(z|x) = (|eps|^2 - |z|^2) / 2 + sum log s + r(z),        r(z) = log p(z) / N(z; 0, I),
    KL(q || p)        = KL(q || N(0, I)) - E_q r(z),

where r is zero for N(0, I) itself, and its expectation is estimated with the samples of z that a bound has anyway.

References:
    Auto-Encoding Variational Bayes (Kingma & Welling, 2013), https://arxiv.org/abs/1312.6114
    VAE with a VampPrior (Tomczak & Welling, 2018), https://arxiv.org/abs/1705.07120 (section 2.2: learned priors)
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from lightning_modules.parts.checks import as_count, check_has_effect
from lightning_modules.parts.conditions import given_condition
from lightning_modules.parts.likelihoods import gaussian_kl
from lightning_modules.parts.noise import draw_categorical, draw_normal
from lightning_modules.parts.precision import in_single
from lightning_modules.parts.sampling import in_type_of


@dataclass(frozen=True)
class Drawn:
    """Samples of q(z|x), k for each example, and the Gaussians that they are from.

    Attributes:
        code: mean + exp(log_scale) * noise, shape (N, k, latent_dim).
        mean: Means, (N, k, latent_dim), or (N, 1, latent_dim) where they are the same for all samples.
        log_scale: Natural logarithms of the standard deviations, shaped as ``mean``.
        noise: Samples of N(0, I), shape (N, k, latent_dim).
        decoder_input: What the decoder reads, shape (N, k, D).
        excess: r(z), nats, shape (N, k), or ``None`` if it is zero.
    """

    code: Tensor
    mean: Tensor
    log_scale: Tensor
    noise: Tensor
    decoder_input: Tensor
    excess: Tensor | None = None

    def log_ratio(self) -> Tensor:
        """Returns log p(z) / q(z|x), nats, shape (N, k)."""
        ratio = 0.5 * (self.noise.square() - self.code.square()).sum(-1) + self.log_scale.sum(-1)
        return ratio if self.excess is None else ratio + self.excess

    def kl(self) -> Tensor:
        """Returns KL(q(z|x) || p(z)), or an unbiased estimate of it, nats, shape (N, k) or (N, 1)."""
        kl = gaussian_kl(self.mean, self.log_scale)
        return kl if self.excess is None else kl - self.excess


class LatentPrior(nn.Module, ABC):
    """Abstract: a distribution of codes of size ``latent_dim``, and what the decoder reads of a code."""

    latent_dim: int

    @abstractmethod
    def draw(self, num: int, generator: Generator, device: torch.device, temperature: float = 1.0) -> Tensor:
        """Samples codes, shape (num, latent_dim); ``temperature`` multiplies the scale of each Gaussian."""

    @abstractmethod
    def infer(self, mean: Tensor, log_scale: Tensor, noise: Tensor) -> Drawn:
        """Samples q(z|x).

        Args:
            mean: The encoder's means, (N, 1, latent_dim).
            log_scale: The encoder's log-scales, (N, 1, latent_dim).
            noise: Samples of N(0, I), shape (N, k, latent_dim).
        """

    def decoder_input(self, codes: Tensor) -> Tensor:
        """Hook: returns what the decoder reads, (..., D), of codes (..., latent_dim)."""
        return codes


class StandardNormal(LatentPrior):
    """N(0, I), which has no parameters."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim

    def draw(self, num: int, generator: Generator, device: torch.device, temperature: float = 1.0) -> Tensor:
        """Samples codes, shape (num, latent_dim); ``temperature`` multiplies their scale."""
        return temperature * draw_normal((num, self.latent_dim), generator, device)

    def infer(self, mean: Tensor, log_scale: Tensor, noise: Tensor) -> Drawn:
        """Samples q(z|x) = N(mean, diag exp(log_scale)^2)."""
        code = mean + torch.exp(log_scale) * noise
        return Drawn(code, mean, log_scale, noise, code)


class MixturePrior(LatentPrior):
    """p(z) = sum_k w_k N(z; mu_k, diag s_k^2), whose weights, means and scales are learned with the networks.

    It fits the mean of q(z|x) over the data (the aggregate posterior) more closely than N(0, I) does, so that samples
    are decoded from codes like those in training.

    Args:
        latent_dim: Size of the code.
        num_components: Number of Gaussians, at least 1.

    Raises:
        ValueError: If there is no component.
    """

    def __init__(self, latent_dim: int, num_components: int) -> None:
        super().__init__()
        as_count("num_components", num_components)
        self.latent_dim = latent_dim
        self.logits = nn.Parameter(torch.zeros(num_components))
        # Different means, or all components would have the same gradient; within the unit ball that q starts in.
        self.means = nn.Parameter(0.5 * torch.randn(num_components, latent_dim))
        self.log_scales = nn.Parameter(torch.zeros(num_components, latent_dim))

    def draw(self, num: int, generator: Generator, device: torch.device, temperature: float = 1.0) -> Tensor:
        """Samples codes, shape (num, latent_dim); ``temperature`` multiplies the scale of each component."""
        component = draw_categorical(self.logits.detach().softmax(0), num, generator)
        means, scales = self.means.detach()[component], self.log_scales.detach()[component].exp()
        return means + temperature * scales * draw_normal(means.shape, generator, device).to(means.dtype)

    def infer(self, mean: Tensor, log_scale: Tensor, noise: Tensor) -> Drawn:
        """Samples q(z|x) = N(mean, diag exp(log_scale)^2)."""
        code = mean + torch.exp(log_scale) * noise
        return Drawn(code, mean, log_scale, noise, code, self.excess(code))

    def excess(self, z: Tensor) -> Tensor:
        """Returns r(z) = log p(z) / N(z; 0, I) of codes (..., latent_dim), nats, shape (...)."""
        z = in_single(z).unsqueeze(-2)
        standardized = (z - self.means) * torch.exp(-self.log_scales)
        # log N(z; 0, I) is subtracted before the sum over coordinates: r is small where the two are close.
        ratios = (0.5 * (z.square() - standardized.square()) - self.log_scales).sum(-1)
        return torch.logsumexp(self.logits.log_softmax(0) + ratios, -1)


class CodeDecoder(nn.Module):
    """Maps codes (N, latent_dim) and a condition to the decoder's outputs, through a prior."""

    def __init__(self, prior: LatentPrior, decoder: nn.Module) -> None:
        super().__init__()
        self.prior, self.decoder = prior, decoder

    def forward(self, codes: Tensor, condition: Tensor | None = None) -> Tensor:
        """Maps codes and the condition (int64 (N, ...), or ``None``) to parameters (N, num_parameters, ...)."""
        read = in_type_of(self.decoder, self.prior.decoder_input(codes))
        return given_condition(self.decoder, read, condition)


PRIORS = ("standard", "mixture")
NUM_COMPONENTS = 20
"""Gaussians of a mixture, unless another number is asked for."""


def prior_of(name: str, latent_dim: int, num_components: int) -> LatentPrior:
    """Returns the prior called ``name``.

    Args:
        name: One of ``PRIORS``.
        latent_dim: Size of the code.
        num_components: Gaussians of a mixture, at least 1; checked for every prior.

    Raises:
        ValueError: If there is none of that name, no component, or a number of components of a single Gaussian.
    """
    as_count("prior_components", num_components)
    if name not in PRIORS:
        raise ValueError(f"latent_prior={name!r} is not one of {', '.join(PRIORS)}.")
    settings = {"prior_components": (num_components, NUM_COMPONENTS)}
    check_has_effect("latent_prior='mixture'", name == "mixture" or None, settings)
    return MixturePrior(latent_dim, num_components) if name == "mixture" else StandardNormal(latent_dim)
