"""Networks by name: all have the same signatures, so that every method works with every network.

A generator maps codes (N, latent_dim) and a condition to examples (N, *shape); a discriminator maps examples and a
condition to logits (N,). The condition is classes int64 (N,), captions int64 (N, S), or ``None``; see ``text_encoder``.
Generated images are outputs of a tanh, in [-1, 1].
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import nn

from lightning_modules.networks import dcgan, mlp, resnet, resnext
from lightning_modules.networks.text_encoder import Condition


class Architecture(NamedTuple):
    """The two players of one architecture.

    Attributes:
        generator: ``(shape, latent_dim, width, condition) -> nn.Module``.
        discriminator: ``(shape, width, condition, batch_norm) -> nn.Module``.
        takes_points: Whether it supports examples that are not images.
    """

    generator: Callable[[Sequence[int], int, int, Condition], nn.Module]
    discriminator: Callable[[Sequence[int], int, Condition, bool], nn.Module]
    takes_points: bool


ARCHITECTURES = {
    "mlp": Architecture(mlp.Generator, mlp.Discriminator, takes_points=True),
    "dcgan": Architecture(dcgan.Generator, dcgan.Discriminator, takes_points=False),
    "resnet": Architecture(resnet.Generator, resnet.Discriminator, takes_points=False),
    "resnext": Architecture(resnext.Generator, resnext.Discriminator, takes_points=False),
}


def architecture(name: str, shape: Sequence[int]) -> Architecture:
    """Returns the architecture called ``name`` after checking that it fits examples of ``shape``.

    Raises:
        ValueError: If there is none of that name, or it needs images and ``shape`` is not (C, H, W).
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"architecture={name!r} is not one of {', '.join(ARCHITECTURES)}.")
    if any(size < 1 for size in shape):
        raise ValueError(f"shape={list(shape)} must hold positive sizes.")
    if len(shape) != 3 and not ARCHITECTURES[name].takes_points:
        fits = ", ".join(key for key, value in ARCHITECTURES.items() if value.takes_points)
        raise ValueError(
            f"architecture={name!r} needs images (channels, height, width), not shape={list(shape)}; use {fits}."
        )
    return ARCHITECTURES[name]
