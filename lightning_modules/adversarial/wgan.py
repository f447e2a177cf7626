"""Wasserstein GAN: a critic instead of a discriminator, kept Lipschitz by clipping its weights.

The critic f maximises E f(x) - E f(G(z)), which at its optimum is the earth mover's distance W1 up to the Lipschitz
constant; the generator minimises it.

NOTE: Clipping limits what the critic can represent, and its estimate of the distance is in arbitrary units. The
authors' code has bursts of 100 critic steps, which the paper does not mention: ``bursts=True``.

Wasserstein GAN (Arjovsky et al., 2017), https://arxiv.org/abs/1701.07875
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch

from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.adversarial.players import common, players
from lightning_modules.parts.constraints import clip_weights
from lightning_modules.parts.games import WASSERSTEIN
from lightning_modules.parts.optimizers import fused_if_possible


class WGAN(AdversarialModule):
    """Algorithm 1 of the paper: RMSprop, and weights of the critic in [-c, c], c = ``weight_clip``, after each step.

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
        bursts: 100 critic steps before each of the first 25 generator steps and before every 500th.
        weight_clip: Bound on every weight of the discriminator after each of its steps.
        lr: Learning rate of both players.
        discriminator_lr: Learning rate of the discriminator instead of ``lr``, or ``None``.
        decay_steps: Batches after which the learning rates have fallen linearly to zero, or ``None``.
        clip_norm: Largest norm of each player's gradient, or ``None``.
        accumulate_batches: Batches whose gradients are accumulated for one step of each player.
        compile: Compiles both networks; penalties run uncompiled.
    """

    renamed_hyperparameters: Mapping[str, str] = {"clip": "weight_clip"}

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
        critic_steps: int = 5,
        bursts: bool = False,
        weight_clip: float = 0.01,
        lr: float = 5e-5,
        discriminator_lr: float | None = None,
        decay_steps: int | None = None,
        clip_norm: float | None = None,
        accumulate_batches: int = 1,
        compile: bool = False,
    ) -> None:
        critic_lr = lr if discriminator_lr is None else discriminator_lr
        if not (weight_clip > 0 and lr > 0 and critic_lr > 0):
            raise ValueError(f"weight_clip={weight_clip}, lr={lr} and discriminator_lr={critic_lr} must be positive.")
        super().__init__(
            game=WASSERSTEIN,
            constrain=partial(clip_weights, bound=weight_clip),
            generator_optimizer=partial(fused_if_possible, torch.optim.RMSprop, lr=lr),
            discriminator_optimizer=partial(fused_if_possible, torch.optim.RMSprop, lr=critic_lr),
            **common(critic_steps, decay_steps, clip_norm, accumulate_batches, compile, bursts=bursts),
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
        )
        self.save_hyperparameters()
