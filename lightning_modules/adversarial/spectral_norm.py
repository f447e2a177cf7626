"""Spectrally normalised GAN: every weight matrix of the discriminator is divided by its largest singular value.

A composition of layers is as steep as the product of their norms at most, so a discriminator whose layers all have
spectral norm 1 is Lipschitz wherever it is asked, at the price of one matrix-vector product a layer (eq. 1.42-1.44).

NOTE: One power iteration a step estimates the singular value from below. A convolution is normalised as a matrix,
which bounds its norm as an operator only up to sqrt(kh * kw).

Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018), https://arxiv.org/abs/1802.05957
"""

from collections.abc import Sequence

from lightning_modules.adversarial.build import adam, players
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.parts.constraints import spectrally_normalized
from lightning_modules.parts.games import GAMES
from lightning_modules.parts.schedules import EveryNth


class SNGAN(AdversarialModule):
    """Hinge or non-saturating game with a spectrally normalised discriminator.

    Args:
        shape: (C, H, W) of pictures in [-1, 1], or (2,) for points.
        architecture: ``"dcgan"``, ``"resnet"`` or ``"mlp"``.
        latent_dim: Size of the code z.
        width: Channels of the networks at their widest picture; see each architecture.
        num_classes: Number of classes for a class-conditional game (projection), or ``None``.
        game: ``"hinge"`` or ``"non_saturating"``, the two of the paper.
        critic_steps: Discriminator steps a generator step, ``n_dis``.
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
        game: str = "hinge",
        critic_steps: int = 1,
        lr: float = 2e-4,
        discriminator_lr: float | None = None,
        betas: Sequence[float] = (0.0, 0.9),
        decay_steps: int | None = None,
        compile: bool = False,
    ) -> None:
        if game not in ("hinge", "non_saturating"):
            raise ValueError(f"game={game!r} is not one of hinge, non_saturating.")
        networks = players(architecture, shape, latent_dim, width, num_classes)
        spectrally_normalized(networks["discriminator"])
        super().__init__(
            game=GAMES[game],
            schedule=EveryNth(critic_steps),
            decay_steps=decay_steps,
            compile=compile,
            **networks,
            **adam(lr, betas, discriminator_lr),
        )
        self.save_hyperparameters()
