"""Spectrally normalised GAN: every weight matrix of the discriminator is divided by its largest singular value.

The Lipschitz constant of a composition of layers is at most the product of their norms. So a discriminator whose layers
all have spectral norm 1 is Lipschitz everywhere, at the cost of one matrix-vector product per layer (eq. 1.42-1.44).

NOTE: One power iteration per step estimates the singular value from below. A convolution is normalised as a matrix,
which bounds its norm as an operator only up to sqrt(kh * kw).

Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018), https://arxiv.org/abs/1802.05957
"""

from collections.abc import Sequence

from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.adversarial.players import common, players, two_adams
from lightning_modules.parts.constraints import spectrally_normalized
from lightning_modules.parts.games import GAMES


class SNGAN(AdversarialModule):
    """Hinge or non-saturating game with a spectrally normalised discriminator.

    ``game`` is one of the two of the paper: ``"hinge"`` or ``"non_saturating"``.

    Args:
        shape: (C, H, W) of images in [-1, 1], or (2,) for points.
        architecture: ``"dcgan"``, ``"resnet"``, ``"resnext"`` or ``"mlp"``.
        latent_dim: Size of the code z.
        width: Channels of the networks at full resolution; see each architecture.
        discriminator_width: Width of the discriminator instead of ``width``, or ``None``.
        num_classes: Number of classes for a class-conditional game, or ``None``.
        num_words: Number of words of the captions for a game conditional on these, or ``None``.
        game: Name of the losses of both players.
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
        game: str = "hinge",
        critic_steps: int = 1,
        lr: float = 2e-4,
        discriminator_lr: float | None = None,
        betas: Sequence[float] = (0.0, 0.9),
        decay_steps: int | None = None,
        clip_norm: float | None = None,
        accumulate_batches: int = 1,
        compile: bool = False,
    ) -> None:
        if game not in ("hinge", "non_saturating"):
            raise ValueError(f"game={game!r} is not one of hinge, non_saturating.")
        networks = players(
            architecture, shape, latent_dim, width, num_classes, discriminator_width, num_words=num_words
        )
        spectrally_normalized(networks["discriminator"])
        super().__init__(
            game=GAMES[game],
            **common(critic_steps, decay_steps, clip_norm, accumulate_batches, compile),
            **networks,
            **two_adams(lr, betas, discriminator_lr),
        )
        self.save_hyperparameters()
