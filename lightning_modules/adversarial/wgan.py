"""Wasserstein GAN: a critic instead of a discriminator, kept Lipschitz by clipping its weights.

The critic f maximises E f(x) - E f(G(z)), which at its optimum is the earth mover's distance W1 up to the Lipschitz
constant; the generator lowers it.

NOTE: Clipping limits what the critic can represent, and the distance it reports is in arbitrary units. The authors'
code gives the critic bursts of 100 steps, which the paper does not mention: ``bursts=True``.

Wasserstein GAN (Arjovsky et al., 2017), https://arxiv.org/abs/1701.07875
"""

from collections.abc import Sequence
from functools import partial

import torch

from lightning_modules.adversarial.build import players
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.base import fused_if_possible
from lightning_modules.parts.constraints import clip_weights
from lightning_modules.parts.games import WASSERSTEIN
from lightning_modules.parts.schedules import Bursts, EveryNth


class WGAN(AdversarialModule):
    """Algorithm 1 of the paper: RMSprop, and every weight of the critic in [-clip, clip] after each step.

    Args:
        shape: (C, H, W) of pictures in [-1, 1], or (2,) for points.
        architecture: ``"dcgan"``, ``"resnet"`` or ``"mlp"``.
        latent_dim: Size of the code z.
        width: Channels of the networks at their widest picture; see each architecture.
        num_classes: Number of classes for a class-conditional game, or ``None``.
        batch_norm: Batch normalisation in the critic (dcgan only), as in the authors' code; its scales are clipped.
        critic_steps: Critic steps a generator step, ``n_critic``.
        bursts: 100 critic steps before each of the first 25 generator steps and before every 500th.
        clip: The bound c on every weight.
        lr: RMSprop's learning rate.
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
        critic_steps: int = 5,
        bursts: bool = False,
        clip: float = 0.01,
        lr: float = 5e-5,
        decay_steps: int | None = None,
        compile: bool = False,
    ) -> None:
        if clip <= 0 or lr <= 0:
            raise ValueError(f"clip={clip} and lr={lr} must be positive.")
        rmsprop = partial(fused_if_possible, torch.optim.RMSprop, lr=lr)
        super().__init__(
            game=WASSERSTEIN,
            constrain=partial(clip_weights, bound=clip),
            schedule=Bursts(critic_steps) if bursts else EveryNth(critic_steps),
            generator_optimizer=rmsprop,
            discriminator_optimizer=rmsprop,
            decay_steps=decay_steps,
            compile=compile,
            **players(architecture, shape, latent_dim, width, num_classes, batch_norm=batch_norm),
        )
        self.save_hyperparameters()
