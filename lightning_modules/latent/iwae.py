"""The importance weighted autoencoder: a VAE's networks, trained on a tighter bound.

Maximised is L_k = E log 1/k sum_i p(x, z_i) / q(z_i|x) over k draws from q(z|x) a data point, which rises with k from
the ELBO of eq. 1.31 to log p(x): the posterior is free to be further from q than the ELBO lets it be.

NOTE: The gradient's signal for the encoder falls as k grows (Rainforth et al., 2018), while the decoder's gains.

Importance Weighted Autoencoders (Burda et al., 2015), https://arxiv.org/abs/1509.00519
"""

from collections.abc import Sequence

from torch import Tensor

from lightning_modules.latent.latent_variable import LatentVariableModule, check_particles, log_mean_exp


class IWAE(LatentVariableModule):
    """Gaussian posterior and prior; maximises the bound of ``num_particles`` draws.

    Logs ``train/negative_bound`` = -L_k, nats per example.

    Args:
        shape: Shape of an example: (C, H, W) for pictures, (D,) for points.
        num_particles: k, the draws from the posterior a data point; 1 is a VAE whose KL term is estimated.
        likelihood: ``"bernoulli"`` for values in {0, 1}, ``"discretized_logistic"`` for 8-bit pictures on [-1, 1],
            ``"gaussian"`` for points and dequantised pictures; ``for_data`` chooses by the data.
        architecture: ``"mlp"`` or ``"conv"``.
        latent_dim: Size of the code z.
        hidden: Units of a dense layer.
        depth: Hidden layers of the multi-layer perceptrons; 0 makes them linear.
        width: Channels of the convolutions at half resolution.
        num_classes: Number of classes of a class-conditional model p(x|y), or ``None``.
        scale: Gaussian likelihood: one learned scale (``"global"``) or one of each dimension (``"per_dimension"``).
        mixtures: Discretised logistic likelihood: components a pixel.
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
        num_particles: int = 5,
        likelihood: str = "bernoulli",
        architecture: str = "mlp",
        latent_dim: int = 40,
        hidden: int = 300,
        depth: int = 2,
        width: int = 32,
        num_classes: int | None = None,
        scale: str = "global",
        mixtures: int = 1,
        lr: float = 1e-3,
        decay_steps: int | None = None,
        val_particles: int = 50,
        test_particles: int = 5000,
        num_tested: int | None = None,
    ) -> None:
        check_particles("num_particles", num_particles)
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
        self.num_particles = num_particles

    def losses(self, x: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """Returns the negative bound, nats per example."""
        noise = self.noise.normal(len(x), self.num_particles, self.latent_dim, device=x.device)
        log_weights = self.log_weights(x, labels, self.posterior(x, labels), noise)
        return {"negative_bound": -log_mean_exp(log_weights).mean()}
