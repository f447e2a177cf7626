"""Encoders and decoders of latent variable models, by name: every pair has the same signature.

An encoder maps examples (N, *shape) and a condition to the mean and the logarithm of the scale of a Gaussian,
concatenated to (N, 2 * latent_dim). A decoder maps codes (N, latent_dim) and a condition to ``num_parameters`` numbers
for every position of an example: (N, num_parameters, H, W) for images and (N, num_parameters, D) for points. The
condition is classes int64 (N,), captions int64 (N, S), or ``None``; see ``text_encoder``.

NOTE: No batch normalisation: a bound on log p of one example must not depend on the others in its batch.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.networks.blocks import CodeWithLabel, base_resolution
from lightning_modules.networks.text_encoder import Condition


def hidden_layers(in_features: int, hidden: int, depth: int, gated: bool = False) -> nn.Sequential:
    """Returns ``depth`` layers of ``hidden`` units; the identity for depth 0.

    Each layer is a linear map followed by a SiLU, or with ``gated`` (W x + b) * sigmoid(V x + c), which has twice the
    weights (Language Modeling with Gated Convolutional Networks, https://arxiv.org/abs/1612.08083, eq. 1).
    """
    sizes = [in_features] + depth * [hidden]
    layers = [
        nn.Sequential(nn.Linear(a, 2 * b), nn.GLU()) if gated else nn.Sequential(nn.Linear(a, b), nn.SiLU())
        for a, b in zip(sizes, sizes[1:], strict=False)
    ]
    return nn.Sequential(*layers)


class MLPEncoder(nn.Module):
    """A multi-layer perceptron on the example flattened to a vector.

    Args:
        shape: Shape of an example.
        latent_dim: Size of the code.
        hidden: Units per layer.
        depth: Hidden layers; 0 is a linear map.
        condition: Number of classes, captions, or ``None``.
        gated: Whether the hidden units are gated; see ``hidden_layers``.
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent_dim: int,
        hidden: int,
        depth: int,
        condition: Condition,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.code = CodeWithLabel(math.prod(shape), condition)
        self.hidden = hidden_layers(self.code.out_features, hidden, depth, gated)
        self.output = nn.Linear(hidden if depth else self.code.out_features, 2 * latent_dim)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Maps examples and the condition (int64 (N, ...), or ``None``) to means and log-scales (N, 2 * latent_dim)."""
        return self.output(self.units(x, condition))

    def units(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Returns the units that ``output`` reads, (N, ``output.in_features``); arguments as in ``forward``."""
        return self.hidden(self.code(x.flatten(1), condition))


class MLPDecoder(nn.Module):
    """A multi-layer perceptron; arguments as in ``MLPEncoder``, and ``num_parameters`` per position."""

    def __init__(
        self,
        shape: Sequence[int],
        num_parameters: int,
        latent_dim: int,
        hidden: int,
        depth: int,
        condition: Condition,
        gated: bool = False,
    ) -> None:
        super().__init__()
        positions = tuple(shape[1:]) if len(shape) == 3 else tuple(shape)
        self.code = CodeWithLabel(latent_dim, condition)
        self.hidden = hidden_layers(self.code.out_features, hidden, depth, gated)
        self.output = nn.Linear(hidden if depth else self.code.out_features, num_parameters * math.prod(positions))
        self.unflatten = nn.Unflatten(1, (num_parameters, *positions))

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Maps codes and the condition (int64 (N, ...), or ``None``) to parameters (N, num_parameters, ...)."""
        return self.unflatten(self.output(self.hidden(self.code(z, condition))))


class ConvEncoder(nn.Module):
    """Strided convolutions down to a side of 4 to 7 pixels, and one dense layer.

    Args:
        shape: (C, H, W) with H = W = 28, 32, 64, ...
        latent_dim: Size of the code.
        width: Channels after the first convolution; doubled with each further one, up to 8 * width.
        hidden: Units of the dense layer.
        condition: Number of classes, captions, or ``None``.
    """

    def __init__(self, shape: Sequence[int], latent_dim: int, width: int, hidden: int, condition: Condition) -> None:
        super().__init__()
        side, halvings = base_resolution(shape)
        channels = [shape[0]] + [width * 2 ** min(power, 3) for power in range(halvings)]
        layers = [
            nn.Sequential(nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.SiLU())
            for narrow, wide in zip(channels, channels[1:], strict=False)
        ]
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.code = CodeWithLabel(channels[-1] * side * side, condition)
        self.hidden = hidden_layers(self.code.out_features, hidden, 1)
        self.output = nn.Linear(hidden, 2 * latent_dim)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Maps examples and the condition (int64 (N, ...), or ``None``) to means and log-scales (N, 2 * latent_dim)."""
        return self.output(self.units(x, condition))

    def units(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Returns the units that ``output`` reads, (N, hidden); arguments as in ``forward``."""
        features = self.features(x.contiguous(memory_format=torch.channels_last))
        return self.hidden(self.code(features, condition))


class ConvDecoder(nn.Module):
    """The layers of ``ConvEncoder`` in reverse order, transposed, and a last 3x3 convolution at full resolution."""

    def __init__(
        self,
        shape: Sequence[int],
        num_parameters: int,
        latent_dim: int,
        width: int,
        hidden: int,
        condition: Condition,
    ) -> None:
        super().__init__()
        side, doublings = base_resolution(shape)
        channels = [width * 2 ** min(power, 3) for power in range(doublings - 1, -1, -1)]
        self.code = CodeWithLabel(latent_dim, condition)
        self.project = nn.Sequential(
            hidden_layers(self.code.out_features, hidden, 1),
            nn.Linear(hidden, channels[0] * side * side),
            nn.Unflatten(1, (channels[0], side, side)),
            nn.SiLU(),
        )
        steps = zip(channels, [*channels[1:], channels[-1]], strict=True)
        self.upsample = nn.Sequential(
            *(
                nn.Sequential(nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1), nn.SiLU())
                for wide, narrow in steps
            )
        )
        self.output = nn.Conv2d(channels[-1], num_parameters, 3, padding=1)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Maps codes and the condition (int64 (N, ...), or ``None``) to parameters (N, num_parameters, H, W)."""
        first = self.project(self.code(z, condition)).contiguous(memory_format=torch.channels_last)
        return self.output(self.upsample(first))


class Sizes(NamedTuple):
    """Sizes of an encoder and its decoder; each architecture uses those that it needs."""

    shape: Sequence[int]
    latent_dim: int
    hidden: int
    depth: int
    width: int
    condition: Condition


Encoder = MLPEncoder | ConvEncoder
Pair = tuple[Encoder, nn.Module]
"""An encoder and its decoder."""


def mlp(sizes: Sizes, num_parameters: int, gated: bool = False) -> Pair:
    """Returns multi-layer perceptrons of ``depth`` layers of ``hidden`` units, gated or with SiLU."""
    shape, latent_dim, hidden, depth, _, condition = sizes
    return (
        MLPEncoder(shape, latent_dim, hidden, depth, condition, gated),
        MLPDecoder(shape, num_parameters, latent_dim, hidden, depth, condition, gated),
    )


def conv(sizes: Sizes, num_parameters: int) -> Pair:
    """Returns convolutional networks of ``width`` channels with dense layers of ``hidden`` units."""
    shape, latent_dim, hidden, _, width, condition = sizes
    return (
        ConvEncoder(shape, latent_dim, width, hidden, condition),
        ConvDecoder(shape, num_parameters, latent_dim, width, hidden, condition),
    )


AUTOENCODERS: dict[str, Callable[[Sizes, int], Pair]] = {
    "mlp": mlp,
    "gated_mlp": partial(mlp, gated=True),
    "conv": conv,
}


def autoencoder(name: str, sizes: Sizes, num_parameters: int) -> Pair:
    """Returns the encoder and the decoder of the architecture called ``name``.

    Raises:
        ValueError: If there is none of that name, it needs images and ``sizes.shape`` is not (C, H, W), or a size is
            not positive.
    """
    if name not in AUTOENCODERS:
        raise ValueError(f"architecture={name!r} is not one of {', '.join(AUTOENCODERS)}.")
    if name == "conv" and len(sizes.shape) != 3:
        raise ValueError(
            f"architecture='conv' needs images (channels, height, width), not shape={list(sizes.shape)}; use mlp."
        )
    if min(sizes.shape, default=0) < 1 or min(sizes.latent_dim, sizes.hidden, sizes.width) < 1 or sizes.depth < 0:
        raise ValueError(
            f"shape={list(sizes.shape)}, latent_dim={sizes.latent_dim}, hidden={sizes.hidden} and width={sizes.width} "
            f"must be at least 1, and depth={sizes.depth} at least 0."
        )
    return AUTOENCODERS[name](sizes, num_parameters)
