"""Builds the parts of the adversarial loop from plain hyperparameters, for the final classes."""

from collections.abc import Callable, Sequence
from typing import TypedDict

from torch import nn

from lightning_modules.networks import architecture as architecture_of
from lightning_modules.networks.text_encoder import condition_of
from lightning_modules.parts.augmentation import LEAST_SIDE, Augmentation, DiffAugment, unchanged
from lightning_modules.parts.checks import check_has_effect
from lightning_modules.parts.critic_schedules import Bursts, CriticSchedule, EveryNth
from lightning_modules.parts.optimizers import BuildOptimizer, adam_with
from lightning_modules.parts.schedules import Schedule, linear_decay


class Players(TypedDict):
    """Arguments of the loop: both networks, and the sizes that they were built with."""

    generator: nn.Module
    discriminator: nn.Module
    latent_dim: int
    num_classes: int | None
    num_words: int | None


class Optimizers(TypedDict):
    """Arguments of the loop: builders of each player's optimizer."""

    generator_optimizer: BuildOptimizer
    discriminator_optimizer: BuildOptimizer


def players(
    architecture: str,
    shape: Sequence[int],
    latent_dim: int,
    width: int,
    num_classes: int | None,
    discriminator_width: int | None = None,
    *,
    num_words: int | None = None,
    batch_norm: bool = False,
) -> Players:
    """Builds both networks; ``discriminator_width`` is ``width`` unless given.

    Raises:
        ValueError: If the architecture is unknown or does not fit ``shape``, or a size is not positive.
    """
    if width < 1 or latent_dim < 1:
        raise ValueError(f"width={width} and latent_dim={latent_dim} must be at least 1.")
    if discriminator_width is not None and discriminator_width < 1:
        raise ValueError(f"discriminator_width={discriminator_width} must be at least 1, or null for width={width}.")
    condition = condition_of(num_classes, num_words)
    build = architecture_of(architecture, shape)
    return {
        "generator": build.generator(shape, latent_dim, width, condition),
        "discriminator": build.discriminator(shape, discriminator_width or width, condition, batch_norm),
        "latent_dim": latent_dim,
        "num_classes": num_classes,
        "num_words": num_words,
    }


def two_adams(lr: float, betas: Sequence[float], discriminator_lr: float | None = None) -> Optimizers:
    """Returns Adam for both players; ``discriminator_lr`` is ``lr`` unless given (two time-scales).

    Raises:
        ValueError: If a learning rate is not positive, or there are not two betas in [0, 1).
    """
    return {
        "generator_optimizer": adam_with(lr, betas),
        "discriminator_optimizer": (
            adam_with(lr, betas)
            if discriminator_lr is None
            else adam_with(discriminator_lr, betas, name="discriminator_lr")
        ),
    }


class Common(TypedDict):
    """Arguments of the loop that all games have in common."""

    schedule: CriticSchedule
    lr_schedule: Schedule
    clip_norm: float | None
    accumulate_batches: int
    compile: bool


def common(
    critic_steps: int,
    decay_steps: int | None,
    clip_norm: float | None,
    accumulate_batches: int,
    compile: bool,
    *,
    bursts: bool = False,
) -> Common:
    """Returns the arguments that all games have in common: when the generator steps, and how both players are trained.

    Raises:
        ValueError: If a number is out of range.
    """
    return {
        "schedule": Bursts(critic_steps) if bursts else EveryNth(critic_steps),
        "lr_schedule": linear_decay(decay_steps),
        "clip_norm": clip_norm,
        "accumulate_batches": accumulate_batches,
        "compile": compile,
    }


class Augmented(TypedDict):
    """Argument of the loop: what is done to all inputs of the discriminator."""

    augment: Augmentation


def augmentation(
    policies: Sequence[str] | None, probability: float | Callable[[int], float], shape: Sequence[int]
) -> Augmented:
    """Returns DiffAugment with the named policies, or no augmentation.

    Raises:
        ValueError: If a policy is unknown, the probability is out of range or has no effect, or the examples are not
            images.
    """
    if not callable(probability):
        check_has_effect("augment", policies, {"augment_probability": (probability, 1.0)})
        if not 0 <= probability <= 1:
            raise ValueError(f"augment_probability={probability} must lie in [0, 1].")
        if policies and probability == 0:
            raise ValueError(f"augment={list(policies)} has no effect with augment_probability=0; leave it out.")
    if not policies:
        return {"augment": unchanged}
    if len(shape) != 3:
        raise ValueError(
            f"augment={list(policies)} transforms images (channels, height, width), not examples of "
            f"shape={list(shape)}; set augment=null."
        )
    augment = DiffAugment(policies, probability)
    for name in augment.policies:
        if min(shape[1:]) < LEAST_SIDE[name]:
            raise ValueError(
                f"augment={list(policies)}: {name} does not change images of shape={list(shape)}; they must have sides "
                f"of at least {LEAST_SIDE[name]} pixels."
            )
    return {"augment": augment}
