"""The ladder variational autoencoder: a hierarchy of codes whose inference goes down the path that samples take.

The model draws z_L ~ N(0, I), then z_l ~ N(mu_l(z_{l+1}), diag sigma_l(z_{l+1})^2) down to z_1, and x ~ p(x|z_1).
Inference first goes up from x without noise, to one Gaussian N(m_l, diag s_l^2) per level, and then down through the
model's own networks: q(z_L|x) is the highest Gaussian, and below it each is combined with the model's by precision,

    q(z_l|z_{l+1}, x) = N(mu, diag sigma^2),    1 / sigma^2 = 1 / s_l^2 + 1 / sigma_l^2,
                                                mu = sigma^2 (m_l / s_l^2 + mu_l / sigma_l^2).

With one level this is the VAE.

The code of an example is the standardised noise of all levels, (z_l - mu_l) / sigma_l, z_1 first. Its prior is N(0, I),
so bounds, traversals and interpolation are those of the VAE: neither KL divergences nor weights depend on the scale in
which z_l is written. With u = log sigma_l^2 / s_l^2, the posterior of this noise has the mean
sigmoid(u) (m_l - mu_l) / sigma_l and the variance 1 / (1 + e^u).

NOTE: There is no batch normalisation as in the paper, with which the bound of one example would depend on others.
Without a warm-up of the KL term, higher levels tend to stay unused; ``train/kl_2`` and ``train/kl_3`` show it.

Ladder Variational Autoencoders (Sonderby et al., 2016), https://arxiv.org/abs/1602.02282
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from lightning_modules.latent.latent_variable import LatentVariableModule
from lightning_modules.latent.observation import observed_autoencoder
from lightning_modules.latent.prior import Drawn, LatentPrior
from lightning_modules.latent.vae import NegativeELBO
from lightning_modules.networks.ladder import LadderEncoder, downward
from lightning_modules.parts.checks import as_count
from lightning_modules.parts.likelihoods import gaussian_kl
from lightning_modules.parts.noise import draw_normal
from lightning_modules.parts.optimizers import adam
from lightning_modules.parts.precision import in_single
from lightning_modules.parts.sampling import in_type_of

MAX_LEVELS = 3
UNIT, LEAST_VARIANCE = math.log(math.e - 1), 1e-6
"""softplus(UNIT) is 1: a network that returns zeros gives N(0, I)."""


class LadderPrior(LatentPrior):
    """p(z_L) prod_l p(z_l|z_{l+1}) in standardised codes; the decoder reads z_1.

    Args:
        latent_dims: Sizes of z_1, ..., z_L.
        networks: For each level but the highest, a map of z_{l+1} (..., D) to the parameters of ``given_above``.
    """

    def __init__(self, latent_dims: Sequence[int], networks: nn.ModuleList) -> None:
        super().__init__()
        self.latent_dims, self.networks, self.latent_dim = tuple(latent_dims), networks, sum(latent_dims)

    def draw(self, num: int, generator: Generator, device: torch.device, temperature: float = 1.0) -> Tensor:
        """Samples codes, shape (num, latent_dim); ``temperature`` multiplies the scale of z_l at every level."""
        return temperature * draw_normal((num, self.latent_dim), generator, device)

    def infer(self, mean: Tensor, log_scale: Tensor, noise: Tensor) -> Drawn:
        """Samples q(z|x) from the highest level down; ``mean`` and ``log_scale`` are those of the upward pass."""
        upward = [in_single(values).split(self.latent_dims, -1) for values in (mean, log_scale, noise)]
        *lower, (mean, log_scale, eps) = zip(*upward, strict=True)
        code = mean + torch.exp(log_scale) * eps
        drawn, z = [(code, mean.expand_as(code), log_scale.expand_as(code))], code
        for network, (mean, log_scale, eps) in zip(reversed(self.networks), reversed(lower), strict=True):
            prior_mean, prior_log_scale = given_above(network(in_type_of(network, z)))
            log_ratio = 2 * (prior_log_scale - log_scale)
            mean = torch.sigmoid(log_ratio) * (mean - prior_mean) * torch.exp(-prior_log_scale)
            log_scale = -0.5 * F.softplus(log_ratio)
            code = mean + torch.exp(log_scale) * eps
            drawn, z = [(code, mean, log_scale), *drawn], prior_mean + torch.exp(prior_log_scale) * code
        codes, means, log_scales = (torch.cat(values, -1) for values in zip(*drawn, strict=True))
        return Drawn(codes, means, log_scales, noise, z)

    def decoder_input(self, codes: Tensor) -> Tensor:
        """Returns z_1, (..., latent_dims[0]), of codes (..., latent_dim)."""
        *lower, z = codes.split(self.latent_dims, -1)
        for network, code in zip(reversed(self.networks), reversed(lower), strict=True):
            mean, log_scale = given_above(network(in_type_of(network, z)))
            z = mean + torch.exp(log_scale) * code
        return z


def given_above(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and log-scale of p(z_l|z_{l+1}), (..., D), of the mean and a number for the variance, (..., 2 * D).

    The variance is the softplus of that number plus ``UNIT``, as in the paper. An exponential of a network's outputs
    would have tails so heavy that a few samples lie hundreds of standard deviations away.
    """
    mean, number = in_single(parameters).chunk(2, -1)
    return mean, 0.5 * torch.log(F.softplus(number + UNIT) + LEAST_VARIANCE)


@dataclass(frozen=True)
class NegativeLadderELBO:
    """The terms of eq. 1.32 with the opposite sign, nats per example, with one KL divergence per level.

    Args:
        latent_dims: Sizes of the codes.
        elbo: The objective of a VAE, whose warm-up the divergences of all levels have.
    """

    latent_dims: tuple[int, ...]
    elbo: NegativeELBO

    def __call__(self, model: LatentVariableModule, x: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """Returns -E log p(x|z), from one sample per example, and the weighted KL divergences."""
        noise = model.noise.normal(len(x), 1, model.latent_dim, device=x.device)
        drawn, weight = model.infer(model.posterior(x, labels), noise), self.elbo.weight_in(model)
        levels = zip(drawn.mean.split(self.latent_dims, -1), drawn.log_scale.split(self.latent_dims, -1), strict=True)
        return {
            "reconstruction": -model.observed(x, labels, drawn.decoder_input).mean(),
            **{f"kl_{number}": weight * gaussian_kl(*level).mean() for number, level in enumerate(levels, 1)},
        }


class LadderVAE(LatentVariableModule):
    """A hierarchy of codes; inference combines an upward pass with the model's downward one.

    Logs ``train/reconstruction`` = -E log p(x|z) and ``train/kl_1``, ``train/kl_2``, ... of the levels, nats per
    example, the latter times their warm-up weight.

    Args:
        shape: Shape of an example: (C, H, W) for images, (D,) for points.
        likelihood: ``"bernoulli"`` for values in {0, 1}, ``"discretized_logistic_mixture"`` for 8-bit images on [-1,
            1], ``"gaussian"`` for points and dequantised images; ``for_data`` chooses by the data.
        architecture: Networks next to the data: ``"mlp"``, ``"gated_mlp"`` or ``"conv"``; those between codes are
            multi-layer perceptrons, gated with ``"gated_mlp"``.
        latent_dims: Sizes of z_1, ..., z_L, one to three, that next to the data first; the code has their sum.
        hidden: Units per dense layer.
        depth: Hidden layers of each multi-layer perceptron; 0 makes them linear.
        width: Channels of the convolutions at half resolution.
        num_classes: Number of classes of a class-conditional model p(x|y), or ``None``; x depends on y beside z_1.
        num_words: Number of words of the captions of a model conditional on these, or ``None``.
        scale: Gaussian likelihood: one learned scale (``"global"``) or one per dimension (``"per_dimension"``).
        num_components: Discretised logistic likelihood: logistics in the mixture of a pixel.
        kl_warmup_steps: Batches over which the weight of the KL terms rises linearly to 1; 0 for none.
        lr: Learning rate of Adam.
        decay_steps: Batches after which the learning rate has fallen linearly to zero, or ``None``.
        val_particles: Samples k of the bound that validation logs in addition to the ELBO; 1 for the ELBO alone.
        test_particles: Samples k of the bound that tests log in addition to the ELBO.
        num_tested: Number of examples to test on, the first of the split, or ``None`` for all.

    Raises:
        ValueError: If a number is out of range, a name unknown, or parts do not fit together.
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        likelihood: str = "bernoulli",
        architecture: str = "mlp",
        latent_dims: Sequence[int] = (64, 32),
        hidden: int = 300,
        depth: int = 2,
        width: int = 32,
        num_classes: int | None = None,
        num_words: int | None = None,
        scale: str = "global",
        num_components: int = 1,
        kl_warmup_steps: int = 0,
        lr: float = 1e-3,
        decay_steps: int | None = None,
        val_particles: int = 50,
        test_particles: int = 5000,
        num_tested: int | None = None,
    ) -> None:
        dims = checked_levels(latent_dims)
        sizes = (dims[0], hidden, depth, width, num_classes)
        built = observed_autoencoder(shape, likelihood, architecture, *sizes, scale, num_components, num_words)
        between = (dims, hidden, depth, architecture == "gated_mlp")
        super().__init__(
            LadderEncoder(built["encoder"], *between),
            built["decoder"],
            built["observation"],
            objective=NegativeLadderELBO(dims, NegativeELBO(kl_warmup_steps)),
            latent_dim=sum(dims),
            prior=LadderPrior(dims, downward(*between)),
            num_classes=num_classes,
            num_words=num_words,
            **adam(lr, decay_steps),
            val_particles=val_particles,
            test_particles=test_particles,
            num_tested=num_tested,
        )
        self.save_hyperparameters()

    def horizons(self) -> Mapping[str, int | None]:
        """Returns the number of batches after which the weight of the KL term is 1."""
        return {"kl_warmup_steps": self.hparams["kl_warmup_steps"]}


def checked_levels(latent_dims: Sequence[int]) -> tuple[int, ...]:
    """Returns the sizes of the codes.

    Raises:
        ValueError: Unless they are one, two or three positive integers.
    """
    if not 1 <= len(latent_dims) <= MAX_LEVELS:
        raise ValueError(
            f"latent_dims={list(latent_dims)[: MAX_LEVELS + 1]} has {len(latent_dims)} levels; it must have 1 to "
            f"{MAX_LEVELS} sizes, that of the code next to the data first."
        )
    return tuple(as_count("each of latent_dims", size) for size in latent_dims)
