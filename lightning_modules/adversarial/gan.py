"""Generative adversarial networks: the game of 2014 and the heuristic that its authors trained with.

The discriminator learns to tell real from generated pictures; the generator climbs (minimax, eq. 1.38) the same
objective, or a different one with the same fixed point and a gradient that does not vanish (non-saturating, eq. 1.39).

NOTE: Optimizer and networks are DCGAN's. Minimax training stalls wherever the discriminator gets far ahead; that it
does is the point of having it here.

Generative Adversarial Nets (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661
"""

from collections.abc import Sequence

from lightning_modules.adversarial.build import adam, players
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.parts.games import MINIMAX, NON_SATURATING
from lightning_modules.parts.schedules import EveryNth


class MinimaxGAN(AdversarialModule):
    """min_G max_D E log D(x) + E log(1 - D(G(z))), eq. 1.37 and 1.38.

    Args:
        shape: (C, H, W) of pictures in [-1, 1], or (2,) for points.
        architecture: ``"dcgan"``, ``"resnet"`` or ``"mlp"``.
        latent_dim: Size of the code z.
        width: Channels of the networks at their widest picture; see each architecture.
        num_classes: Number of classes for a class-conditional game, or ``None``.
        batch_norm: Batch normalisation in the discriminator (dcgan only), as in DCGAN.
        critic_steps: Discriminator steps a generator step, k in Algorithm 1.
        lr: Adam's learning rate.
        discriminator_lr: Adam's learning rate of the discriminator; ``None`` for ``lr``.
        betas: Adam's decay rates.
        decay_steps: Batches after which the learning rates have fallen linearly to zero, or ``None``.
        compile: Compiles both networks.
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        architecture: str = "dcgan",
        latent_dim: int = 64,
        width: int = 32,
        num_classes: int | None = None,
        batch_norm: bool = False,
        critic_steps: int = 1,
        lr: float = 2e-4,
        discriminator_lr: float | None = None,
        betas: Sequence[float] = (0.5, 0.999),
        decay_steps: int | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(
            game=MINIMAX,
            schedule=EveryNth(critic_steps),
            decay_steps=decay_steps,
            compile=compile,
            **players(architecture, shape, latent_dim, width, num_classes, batch_norm=batch_norm),
            **adam(lr, betas, discriminator_lr),
        )
        self.save_hyperparameters()


class NonSaturatingGAN(AdversarialModule):
    """The discriminator of eq. 1.37 against a generator that maximises E log D(G(z)), eq. 1.39.

    Args:
        shape: (C, H, W) of pictures in [-1, 1], or (2,) for points.
        architecture: ``"dcgan"``, ``"resnet"`` or ``"mlp"``.
        latent_dim: Size of the code z.
        width: Channels of the networks at their widest picture; see each architecture.
        num_classes: Number of classes for a class-conditional game, or ``None``.
        batch_norm: Batch normalisation in the discriminator (dcgan only), as in DCGAN.
        critic_steps: Discriminator steps a generator step, k in Algorithm 1.
        lr: Adam's learning rate.
        discriminator_lr: Adam's learning rate of the discriminator; ``None`` for ``lr``.
        betas: Adam's decay rates.
        decay_steps: Batches after which the learning rates have fallen linearly to zero, or ``None``.
        compile: Compiles both networks.
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        architecture: str = "dcgan",
        latent_dim: int = 64,
        width: int = 32,
        num_classes: int | None = None,
        batch_norm: bool = False,
        critic_steps: int = 1,
        lr: float = 2e-4,
        discriminator_lr: float | None = None,
        betas: Sequence[float] = (0.5, 0.999),
        decay_steps: int | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(
            game=NON_SATURATING,
            schedule=EveryNth(critic_steps),
            decay_steps=decay_steps,
            compile=compile,
            **players(architecture, shape, latent_dim, width, num_classes, batch_norm=batch_norm),
            **adam(lr, betas, discriminator_lr),
        )
        self.save_hyperparameters()
