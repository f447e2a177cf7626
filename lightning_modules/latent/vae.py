"""The variational autoencoder (section 1.2.2).

Training maximises the variational free energy (eq. 1.31), written as reconstruction minus KL divergence (eq. 1.32):

    log p(x) >= E_q(z|x) log p(x|z) - KL(q(z|x) || N(0, I)),        q(z|x) = N(mu(x), diag sigma(x)^2) (eq. 1.33),

with one sample z = mu(x) + sigma(x) * eps per example and the KL term in closed form. Under the prior
``latent_prior="mixture"``, a part of it is estimated with that sample; see ``prior``.

NOTE: Reconstruction and KL are both sums over dimensions, in nats: a mean over pixels would weight the KL term by their
number.

Auto-Encoding Variational Bayes (Kingma & Welling, 2013), https://arxiv.org/abs/1312.6114
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from lightning_modules.latent.latent_variable import LatentVariableModule
from lightning_modules.latent.observation import observed_autoencoder
from lightning_modules.latent.prior import NUM_COMPONENTS, prior_of
from lightning_modules.parts.optimizers import adam


@dataclass(frozen=True)
class NegativeELBO:
    """The two terms of eq. 1.32 with the opposite sign, nats per example.

    Args:
        kl_warmup_steps: Batches over which the weight of the KL term rises linearly to 1; 0 for none.

    Raises:
        ValueError: If it is negative.
    """

    kl_warmup_steps: int = 0

    def __post_init__(self) -> None:
        if self.kl_warmup_steps < 0:
            raise ValueError(f"kl_warmup_steps={self.kl_warmup_steps} must be at least 0.")

    def kl_weight(self, step: int) -> float:
        """Returns the weight of the KL term in the batch after ``step`` others."""
        return min(1.0, (step + 1) / self.kl_warmup_steps) if self.kl_warmup_steps else 1.0

    def weight_in(self, model: LatentVariableModule) -> float:
        """Returns the weight of the KL term in the model's present batch."""
        return self.kl_weight(model.batches_trained) if self.kl_warmup_steps else 1.0

    def __call__(self, model: LatentVariableModule, x: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """Returns -E log p(x|z), from one sample per example, and the weighted KL divergence."""
        noise = model.noise.normal(len(x), 1, model.latent_dim, device=x.device)
        drawn = model.infer(model.posterior(x, labels), noise)
        return {
            "reconstruction": -model.observed(x, labels, drawn.decoder_input).mean(),
            "kl": self.weight_in(model) * drawn.kl().mean(),
        }


class VAE(LatentVariableModule):
    """Gaussian posterior, Gaussian or mixture prior; maximises the ELBO.

    Logs ``train/reconstruction`` = -E log p(x|z) and ``train/kl``, nats per example, the latter times its warm-up
    weight.

    Args:
        shape: Shape of an example: (C, H, W) for images, (D,) for points.
        likelihood: ``"bernoulli"`` for values in {0, 1}, ``"discretized_logistic_mixture"`` for 8-bit images on [-1,
            1], ``"gaussian"`` for points and dequantised images; ``for_data`` chooses by the data.
        architecture: ``"mlp"``, ``"gated_mlp"`` (the same with gated units) or ``"conv"``.
        latent_dim: Size of the code z.
        hidden: Units per dense layer.
        depth: Hidden layers of the multi-layer perceptrons; 0 makes them linear (probabilistic PCA).
        width: Channels of the convolutions at half resolution.
        num_classes: Number of classes of a class-conditional model p(x|y), or ``None``.
        num_words: Number of words of the captions of a model conditional on these, or ``None``.
        scale: Gaussian likelihood: one learned scale (``"global"``) or one per dimension (``"per_dimension"``).
        num_components: Discretised logistic likelihood: logistics in the mixture of a pixel.
        latent_prior: ``"standard"`` for N(0, I), ``"mixture"`` for a learned mixture of Gaussians.
        prior_components: Gaussians of that mixture.
        kl_warmup_steps: Batches over which the weight of the KL term rises linearly to 1; 0 for none.
        lr: Learning rate of Adam.
        decay_steps: Batches after which the learning rate has fallen linearly to zero, or ``None``.
        val_particles: Samples k of the bound that validation logs in addition to the ELBO; 1 for the ELBO alone.
        test_particles: Samples k of the bound that tests log in addition to the ELBO.
        num_tested: Number of examples to test on, the first of the split, or ``None`` for all.

    Raises:
        ValueError: If a number is out of range, a name unknown, or parts do not fit together.
    """

    renamed_hyperparameters: Mapping[str, str] = {"mixtures": "num_components"}

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        likelihood: str = "bernoulli",
        architecture: str = "mlp",
        latent_dim: int = 40,
        hidden: int = 300,
        depth: int = 2,
        width: int = 32,
        num_classes: int | None = None,
        num_words: int | None = None,
        scale: str = "global",
        num_components: int = 1,
        latent_prior: str = "standard",
        prior_components: int = NUM_COMPONENTS,
        kl_warmup_steps: int = 0,
        lr: float = 1e-3,
        decay_steps: int | None = None,
        val_particles: int = 50,
        test_particles: int = 5000,
        num_tested: int | None = None,
    ) -> None:
        sizes = (latent_dim, hidden, depth, width, num_classes)
        super().__init__(
            objective=NegativeELBO(kl_warmup_steps),
            **observed_autoencoder(shape, likelihood, architecture, *sizes, scale, num_components, num_words),
            prior=prior_of(latent_prior, latent_dim, prior_components),
            **adam(lr, decay_steps),
            val_particles=val_particles,
            test_particles=test_particles,
            num_tested=num_tested,
        )
        self.save_hyperparameters()

    def horizons(self) -> Mapping[str, int | None]:
        """Returns the number of batches after which the weight of the KL term is 1."""
        return {"kl_warmup_steps": self.hparams["kl_warmup_steps"]}
