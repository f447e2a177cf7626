"""Wasserstein GAN whose critic is kept 1-Lipschitz by a penalty on its gradient.

A critic that is optimal for W1 has gradient norm 1 almost everywhere on straight lines between coupled real and
generated points. The penalty enforces this at random points of such lines, one per example.

NOTE: The penalty is a soft constraint and acts only where it is sampled. Toy problems use a weight of 0.1, images 10.

Improved Training of Wasserstein GANs (Gulrajani et al., 2017), https://arxiv.org/abs/1704.00028
"""

from collections.abc import Sequence

from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.adversarial.players import common, players, two_adams
from lightning_modules.parts.checks import check_positive
from lightning_modules.parts.games import WASSERSTEIN
from lightning_modules.parts.penalties import gradient_penalty


class WGANGP(AdversarialModule):
    """Algorithm 1 of the paper: E f(G(z)) - E f(x) + lambda E (||grad f(x_hat)|| - 1)^2.

    Args:
        shape: (C, H, W) of images in [-1, 1], or (2,) for points.
        architecture: ``"dcgan"``, ``"resnet"``, ``"resnext"`` or ``"mlp"``.
        latent_dim: Size of the code z.
        width: Channels of the networks at full resolution; see each architecture.
        discriminator_width: Width of the discriminator instead of ``width``, or ``None``.
        num_classes: Number of classes for a class-conditional game, or ``None``.
        num_words: Number of words of the captions for a game conditional on these, or ``None``.
        penalty_weight: Weight lambda of the gradient penalty.
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
        penalty_weight: float = 10.0,
        critic_steps: int = 5,
        lr: float = 1e-4,
        discriminator_lr: float | None = None,
        betas: Sequence[float] = (0.0, 0.9),
        decay_steps: int | None = None,
        clip_norm: float | None = None,
        accumulate_batches: int = 1,
        compile: bool = False,
    ) -> None:
        check_positive(penalty_weight=penalty_weight)
        super().__init__(
            game=WASSERSTEIN,
            penalties={"gradient_penalty": (penalty_weight, gradient_penalty)},
            **common(critic_steps, decay_steps, clip_norm, accumulate_batches, compile),
            **players(architecture, shape, latent_dim, width, num_classes, discriminator_width, num_words=num_words),
            **two_adams(lr, betas, discriminator_lr),
        )
        self.save_hyperparameters()
