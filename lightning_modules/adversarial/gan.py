"""Generative adversarial networks: the minimax game of 2014 and the heuristic loss that its authors trained with.

The discriminator learns to tell real from generated examples. The generator minimises the objective that the
discriminator maximises (minimax, eq. 1.38), or maximises another one with the same fixed point and a gradient that does
not vanish (non-saturating, eq. 1.39).

NOTE: Optimizer and networks are DCGAN's. Minimax training stalls where the discriminator becomes much better than the
generator; it is included to show this.

Generative Adversarial Nets (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661
"""

from collections.abc import Sequence

from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.adversarial.players import common, players, two_adams
from lightning_modules.parts.games import MINIMAX, NON_SATURATING


class MinimaxGAN(AdversarialModule):
    """The game of 2014: the generator minimises the objective that the discriminator maximises, eq. 1.38.

    min_G max_D E log D(x) + E log(1 - D(G(z))).

    Args:
        shape: (C, H, W) of images in [-1, 1], or (2,) for points.
        architecture: ``"dcgan"``, ``"resnet"``, ``"resnext"`` or ``"mlp"``.
        latent_dim: Size of the code z.
        width: Channels of the networks at full resolution; see each architecture.
        discriminator_width: Width of the discriminator instead of ``width``, or ``None``.
        num_classes: Number of classes for a class-conditional game, or ``None``.
        num_words: Number of words of the captions for a game conditional on these, or ``None``.
        batch_norm: Batch normalisation in the discriminator (dcgan only).
        critic_steps: Discriminator steps per generator step.
        lr: Learning rate of both players.
        discriminator_lr: Learning rate of the discriminator instead of ``lr``, or ``None``.
        betas: Adam's decay rates.
        decay_steps: Batches after which the learning rates have fallen linearly to zero, or ``None``.
        clip_norm: Largest norm of each player's gradient, or ``None``.
        accumulate_batches: Batches whose gradients are accumulated for one step of each player.
        compile: Compiles both networks; penalties run uncompiled.
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        architecture: str = "dcgan",
        latent_dim: int = 64,
        width: int = 32,
        discriminator_width: int | None = None,
        num_classes: int | None = None,
        num_words: int | None = None,
        batch_norm: bool = False,
        critic_steps: int = 1,
        lr: float = 2e-4,
        discriminator_lr: float | None = None,
        betas: Sequence[float] = (0.5, 0.999),
        decay_steps: int | None = None,
        clip_norm: float | None = None,
        accumulate_batches: int = 1,
        compile: bool = False,
    ) -> None:
        super().__init__(
            game=MINIMAX,
            **common(critic_steps, decay_steps, clip_norm, accumulate_batches, compile),
            **players(
                architecture,
                shape,
                latent_dim,
                width,
                num_classes,
                discriminator_width,
                num_words=num_words,
                batch_norm=batch_norm,
            ),
            **two_adams(lr, betas, discriminator_lr),
        )
        self.save_hyperparameters()


class NonSaturatingGAN(AdversarialModule):
    """The heuristic of 2014: the discriminator of eq. 1.38, and a generator that maximises E log D(G(z)), eq. 1.39.

    Args:
        shape: (C, H, W) of images in [-1, 1], or (2,) for points.
        architecture: ``"dcgan"``, ``"resnet"``, ``"resnext"`` or ``"mlp"``.
        latent_dim: Size of the code z.
        width: Channels of the networks at full resolution; see each architecture.
        discriminator_width: Width of the discriminator instead of ``width``, or ``None``.
        num_classes: Number of classes for a class-conditional game, or ``None``.
        num_words: Number of words of the captions for a game conditional on these, or ``None``.
        batch_norm: Batch normalisation in the discriminator (dcgan only).
        critic_steps: Discriminator steps per generator step.
        lr: Learning rate of both players.
        discriminator_lr: Learning rate of the discriminator instead of ``lr``, or ``None``.
        betas: Adam's decay rates.
        decay_steps: Batches after which the learning rates have fallen linearly to zero, or ``None``.
        clip_norm: Largest norm of each player's gradient, or ``None``.
        accumulate_batches: Batches whose gradients are accumulated for one step of each player.
        compile: Compiles both networks; penalties run uncompiled.
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        architecture: str = "dcgan",
        latent_dim: int = 64,
        width: int = 32,
        discriminator_width: int | None = None,
        num_classes: int | None = None,
        num_words: int | None = None,
        batch_norm: bool = False,
        critic_steps: int = 1,
        lr: float = 2e-4,
        discriminator_lr: float | None = None,
        betas: Sequence[float] = (0.5, 0.999),
        decay_steps: int | None = None,
        clip_norm: float | None = None,
        accumulate_batches: int = 1,
        compile: bool = False,
    ) -> None:
        super().__init__(
            game=NON_SATURATING,
            **common(critic_steps, decay_steps, clip_norm, accumulate_batches, compile),
            **players(
                architecture,
                shape,
                latent_dim,
                width,
                num_classes,
                discriminator_width,
                num_words=num_words,
                batch_norm=batch_norm,
            ),
            **two_adams(lr, betas, discriminator_lr),
        )
        self.save_hyperparameters()
