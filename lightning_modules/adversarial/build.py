"""From plain hyperparameters to the parts of the loop, for the final classes."""

from collections.abc import Sequence
from functools import partial
from typing import TypedDict

import torch
from torch import nn

from lightning_modules.adversarial.loop import BuildOptimizer
from lightning_modules.base import fused_if_possible
from lightning_modules.networks import architecture as architecture_of


class Players(TypedDict):
    """Both networks, and what else the loop must know of them."""

    generator: nn.Module
    discriminator: nn.Module
    latent_dim: int
    num_classes: int | None


class Optimizers(TypedDict):
    """How each player's optimizer is built."""

    generator_optimizer: BuildOptimizer
    discriminator_optimizer: BuildOptimizer


def players(
    architecture: str,
    shape: Sequence[int],
    latent_dim: int,
    width: int,
    num_classes: int | None,
    *,
    batch_norm: bool = False,
) -> Players:
    """Builds both networks.

    Raises:
        ValueError: If the architecture is unknown or does not fit ``shape``, or a size is not positive.
    """
    if width < 1 or latent_dim < 1:
        raise ValueError(f"width={width} and latent_dim={latent_dim} must be at least 1.")
    if num_classes is not None and num_classes < 2:
        raise ValueError(f"num_classes={num_classes} must be at least 2, or null for an unconditional model.")
    build = architecture_of(architecture, shape)
    return {
        "generator": build.generator(shape, latent_dim, width, num_classes),
        "discriminator": build.discriminator(shape, width, num_classes, batch_norm),
        "latent_dim": latent_dim,
        "num_classes": num_classes,
    }


def adam(lr: float, betas: Sequence[float], discriminator_lr: float | None = None) -> Optimizers:
    """Returns Adam for both players; ``discriminator_lr`` is ``lr`` unless given (two time-scales).

    Raises:
        ValueError: If a rate is not positive, or there are not two betas in [0, 1).
    """
    if min(lr, lr if discriminator_lr is None else discriminator_lr) <= 0:
        raise ValueError(f"lr={lr} and discriminator_lr={discriminator_lr} must be positive.")
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas={list(betas)} must be two numbers in [0, 1).")
    build = partial(fused_if_possible, torch.optim.Adam, betas=(betas[0], betas[1]))
    return {
        "generator_optimizer": partial(build, lr=lr),
        "discriminator_optimizer": partial(build, lr=lr if discriminator_lr is None else discriminator_lr),
    }
