"""The importance weighted autoencoder: a VAE's networks, trained on a tighter bound.

Training maximises L_k = E log 1/k sum_i p(x, z_i) / q(z_i|x) over k samples from q(z|x) per example. L_k increases with
k from the ELBO of eq. 1.31 to log p(x), so the posterior may differ from q more than under the ELBO.

NOTE: As k grows, the signal in the encoder's gradient falls (Rainforth et al., 2018), that in the decoder's rises.

Importance Weighted Autoencoders (Burda et al., 2015), https://arxiv.org/abs/1509.00519
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from lightning_modules.latent.latent_variable import LatentVariableModule, check_particles
from lightning_modules.latent.observation import observed_autoencoder
from lightning_modules.latent.prior import NUM_COMPONENTS, prior_of
from lightning_modules.parts.likelihoods import log_mean_exp
from lightning_modules.parts.optimizers import adam


@dataclass(frozen=True)
class NegativeImportanceBound:
    """-L_k, nats per example.

    Args:
        num_particles: k, at least 1.

    Raises:
        ValueError: If it is not a positive integer.
    """

    num_particles: int

    def __post_init__(self) -> None:
        check_particles("num_particles", self.num_particles)

    def __call__(self, model: LatentVariableModule, x: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """Returns the negative bound, its expectation from one set of k samples per example."""
        noise = model.noise.normal(len(x), self.num_particles, model.latent_dim, device=x.device)
        log_weights = model.log_weights(x, labels, model.posterior(x, labels), noise)
        return {"negative_bound": -log_mean_exp(log_weights).mean()}


class IWAE(LatentVariableModule):
    """Gaussian posterior, Gaussian or mixture prior; maximises the bound with ``num_particles`` samples.

    Logs ``train/negative_bound`` = -L_k, nats per example.

    Args:
        shape: Shape of an example: (C, H, W) for images, (D,) for points.
        num_particles: k, samples from the posterior per example; 1 is a VAE whose KL term is estimated.
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
        num_particles: int = 5,
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
        lr: float = 1e-3,
        decay_steps: int | None = None,
        val_particles: int = 50,
        test_particles: int = 5000,
        num_tested: int | None = None,
    ) -> None:
        sizes = (latent_dim, hidden, depth, width, num_classes)
        super().__init__(
            objective=NegativeImportanceBound(num_particles),
            **observed_autoencoder(shape, likelihood, architecture, *sizes, scale, num_components, num_words),
            prior=prior_of(latent_prior, latent_dim, prior_components),
            **adam(lr, decay_steps),
            val_particles=val_particles,
            test_particles=test_particles,
            num_tested=num_tested,
        )
        self.save_hyperparameters()
