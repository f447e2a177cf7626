"""The variational autoencoder (section 1.2.2).

Maximised is the variational free energy (eq. 1.31), written as reconstruction minus KL divergence (eq. 1.32):

    log p(x) >= E_q(z|x) log p(x|z) - KL(q(z|x) || N(0, I)),        q(z|x) = N(mu(x), diag sigma(x)^2) (eq. 1.33),

with one draw z = mu(x) + sigma(x) * eps a data point and the KL term in closed form.

NOTE: Reconstruction and KL are both sums over dimensions, in nats: a mean over pixels would weight the KL term by their
number.

Auto-Encoding Variational Bayes (Kingma & Welling, 2013), https://arxiv.org/abs/1312.6114
"""

from collections.abc import Sequence

from torch import Tensor

from lightning_modules.latent.latent_variable import LatentVariableModule, gaussian_kl


class VAE(LatentVariableModule):
    """Gaussian posterior and prior; maximises the ELBO.

    Logs ``train/reconstruction`` = -E log p(x|z) and ``train/kl``, nats per example, the latter times its warm-up
    weight.

    Args:
        shape: Shape of an example: (C, H, W) for pictures, (D,) for points.
        likelihood: ``"bernoulli"`` for values in {0, 1}, ``"discretized_logistic"`` for 8-bit pictures on [-1, 1],
            ``"gaussian"`` for points and dequantised pictures; ``for_data`` chooses by the data.
        architecture: ``"mlp"`` or ``"conv"``.
        latent_dim: Size of the code z.
        hidden: Units of a dense layer.
        depth: Hidden layers of the multi-layer perceptrons; 0 makes them linear (probabilistic PCA).
        width: Channels of the convolutions at half resolution.
        num_classes: Number of classes of a class-conditional model p(x|y), or ``None``.
        scale: Gaussian likelihood: one learned scale (``"global"``) or one of each dimension (``"per_dimension"``).
        mixtures: Discretised logistic likelihood: components a pixel.
        kl_warmup_steps: Batches over which the weight of the KL term rises linearly to 1; 0 for none.
        lr: Learning rate of Adam.
        decay_steps: Batches after which the learning rate has fallen linearly to zero, or ``None``.
        val_particles: Draws of the bound that validation logs beside the ELBO; 1 for the ELBO alone.
        test_particles: Draws of the bound that testing logs beside the ELBO.
        num_tested: Tests on the first so many examples only, or ``None`` for all.

    Raises:
        ValueError: If a number is out of range, a name unknown, or the parts do not fit one another.
    """

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
        scale: str = "global",
        mixtures: int = 1,
        kl_warmup_steps: int = 0,
        lr: float = 1e-3,
        decay_steps: int | None = None,
        val_particles: int = 50,
        test_particles: int = 5000,
        num_tested: int | None = None,
    ) -> None:
        if kl_warmup_steps < 0:
            raise ValueError(f"kl_warmup_steps={kl_warmup_steps} must be at least 0.")
        super().__init__(
            shape=shape,
            likelihood=likelihood,
            architecture=architecture,
            latent_dim=latent_dim,
            hidden=hidden,
            depth=depth,
            width=width,
            num_classes=num_classes,
            scale=scale,
            mixtures=mixtures,
            lr=lr,
            decay_steps=decay_steps,
            val_particles=val_particles,
            test_particles=test_particles,
            num_tested=num_tested,
        )
        self.save_hyperparameters()
        self.kl_warmup_steps = kl_warmup_steps

    def kl_weight(self, batches: int) -> float:
        """Returns the weight of the KL term in the batch after ``batches`` others."""
        return min(1.0, (batches + 1) / self.kl_warmup_steps) if self.kl_warmup_steps else 1.0

    def losses(self, x: Tensor, labels: Tensor | None, kl_weight: float | None = None) -> dict[str, Tensor]:
        """Returns the negative terms of the ELBO, nats per example; ``kl_weight`` defaults to the warm-up's."""
        mean, log_scale = self.posterior(x, labels)
        noise = self.noise.normal(len(x), self.latent_dim, device=x.device)
        z = mean + log_scale.exp() * noise
        weight = self.kl_weight(self.batches_trained) if kl_weight is None else kl_weight
        return {
            "reconstruction": -self.log_likelihood(x, labels, z.unsqueeze(1)).mean(),
            "kl": weight * gaussian_kl(mean, log_scale).mean(),
        }
