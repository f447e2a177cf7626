"""Builds the parts of the joint games from plain hyperparameters, for the final classes."""

from collections.abc import Sequence
from typing import TypedDict

from torch import nn

from lightning_modules.adversarial.players import two_adams
from lightning_modules.networks import architecture as architecture_of
from lightning_modules.networks.joint_networks import gaussian_encoder, pair_discriminator
from lightning_modules.parts.checks import check_counts
from lightning_modules.parts.critic_schedules import CriticSchedule, EveryNth
from lightning_modules.parts.optimizers import BuildOptimizer
from lightning_modules.parts.schedules import Schedule, linear_decay


class JointPlayers(TypedDict):
    """Arguments of the joint game: the three networks, and the size of the code that they were built with."""

    generator: nn.Module
    encoder: nn.Module
    discriminator: nn.Module
    latent_dim: int


class JointTraining(TypedDict):
    """Arguments of the joint game: when and with which steps both sides are trained."""

    schedule: CriticSchedule
    player_optimizer: BuildOptimizer
    discriminator_optimizer: BuildOptimizer
    lr_schedule: Schedule


def joint_players(
    architecture: str,
    shape: Sequence[int],
    latent_dim: int,
    width: int,
    discriminator_width: int | None = None,
    normalise_codes: bool = False,
) -> JointPlayers:
    """Builds the three networks; encoder and discriminator have the discriminator's layers of the architecture.

    The discriminator's width is ``width`` unless ``discriminator_width`` is given. With ``normalise_codes`` the means
    of the codes are batch-normalised.

    Raises:
        ValueError: If the architecture is unknown or does not fit ``shape``, or a size is not positive.
    """
    check_counts(width=width, latent_dim=latent_dim)
    if discriminator_width is not None and discriminator_width < 1:
        raise ValueError(f"discriminator_width={discriminator_width} must be at least 1, or null for width={width}.")
    build = architecture_of(architecture, shape)
    return {
        "generator": build.generator(shape, latent_dim, width, None),
        "encoder": gaussian_encoder(build, shape, latent_dim, width, normalise_codes),
        "discriminator": pair_discriminator(build, shape, latent_dim, discriminator_width or width),
        "latent_dim": latent_dim,
    }


def joint_training(
    critic_steps: int, lr: float, discriminator_lr: float | None, betas: Sequence[float], decay_steps: int | None
) -> JointTraining:
    """Returns Adam for both sides, and when they make their steps.

    Raises:
        ValueError: If a number is out of range.
    """
    optimizers = two_adams(lr, betas, discriminator_lr)
    return {
        "schedule": EveryNth(critic_steps),
        "player_optimizer": optimizers["generator_optimizer"],
        "discriminator_optimizer": optimizers["discriminator_optimizer"],
        "lr_schedule": linear_decay(decay_steps),
    }
