"""Wasserstein GAN whose critic is kept 1-Lipschitz by a penalty on its gradient.

A critic that is optimal for W1 has gradient norm 1 almost everywhere on straight lines between coupled real and
generated points; the penalty asks for that on random points of such lines, one an example.

NOTE: The penalty is soft and holds only where it is sampled. Toy problems use a weight of 0.1, pictures 10.

Improved Training of Wasserstein GANs (Gulrajani et al., 2017), https://arxiv.org/abs/1704.00028
"""

from collections.abc import Sequence

from lightning_modules.adversarial.build import adam, players
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.parts.games import WASSERSTEIN
from lightning_modules.parts.penalties import gradient_penalty
from lightning_modules.parts.schedules import EveryNth


class WGANGP(AdversarialModule):
    """Algorithm 1 of the paper: E f(G(z)) - E f(x) + lambda E (||grad f(x_hat)|| - 1)^2.

    Args:
        shape: (C, H, W) of pictures in [-1, 1], or (2,) for points.
        architecture: ``"dcgan"``, ``"resnet"`` or ``"mlp"``.
        latent_dim: Size of the code z.
        width: Channels of the networks at their widest picture; see each architecture.
        num_classes: Number of classes for a class-conditional game, or ``None``.
        penalty_weight: lambda in eq. 3.
        critic_steps: Critic steps a generator step, ``n_critic``.
        lr: Adam's learning rate.
        discriminator_lr: Adam's learning rate of the critic; ``None`` for ``lr``.
        betas: Adam's decay rates.
        decay_steps: Batches after which the learning rates have fallen linearly to zero, or ``None``.
        compile: Compiles both networks; the penalty runs uncompiled.
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        architecture: str = "dcgan",
        latent_dim: int = 64,
        width: int = 32,
        num_classes: int | None = None,
        penalty_weight: float = 10.0,
        critic_steps: int = 5,
        lr: float = 1e-4,
        discriminator_lr: float | None = None,
        betas: Sequence[float] = (0.0, 0.9),
        decay_steps: int | None = None,
        compile: bool = False,
    ) -> None:
        if penalty_weight < 0:
            raise ValueError(f"penalty_weight={penalty_weight} must not be negative.")
        super().__init__(
            game=WASSERSTEIN,
            penalties={"gradient_penalty": (penalty_weight, gradient_penalty)},
            schedule=EveryNth(critic_steps),
            decay_steps=decay_steps,
            compile=compile,
            **players(architecture, shape, latent_dim, width, num_classes),
            **adam(lr, betas, discriminator_lr),
        )
        self.save_hyperparameters()
