"""Potentials of energy-based models: smooth networks that map an example to one number.

Markov chains follow the gradient with respect to the input. So the activation is the swish (SiLU), whose gradient is
continuous, and there is no batch normalisation, which would make chains depend on each other. The last layer has no
bias, because a constant in an energy cancels.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_modules.networks.mlp import hidden_layers

FREQUENCY = 2.5  # k in the features k x, sin k x and cos k x of points
ARCHITECTURES = ("conv", "mlp")


def build_potential(architecture: str, shape: Sequence[int], width: int, reference_scale: float | None) -> nn.Module:
    """Returns the network of that name, mapping (N, *shape) to (N,).

    Raises:
        ValueError: If the name is unknown or does not fit the shape, or a number is out of range.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture={architecture!r} must be one of {', '.join(ARCHITECTURES)}.")
    if width < 1:
        raise ValueError(f"width={width} must be at least 1.")
    if reference_scale is not None and not reference_scale > 0:
        raise ValueError(f"reference_scale={reference_scale} must be a positive deviation, or null.")
    if architecture == "mlp":
        return MLPPotential(shape, width, reference_scale)
    if len(shape) != 3:
        raise ValueError(f"architecture='conv' needs images, not shape={list(shape)}; use 'mlp'.")
    if reference_scale is not None:
        raise ValueError(f"reference_scale={reference_scale} is for architecture='mlp'; images have a bounded range.")
    return ConvPotential(shape, width)


class ConvPotential(nn.Module):
    """Convolutions of stride 2 down to a side of 3 or less: width channels, then 2, 4, 4, ... times as many.

    Kernels have a side of 4, so that each pixel takes part equally often; with 3 or 5, samples have checkerboard
    patterns.
    """

    def __init__(self, shape: Sequence[int], width: int) -> None:
        super().__init__()
        channels, height, breadth = shape
        layers: list[nn.Module] = []
        factor = 1
        while max(height, breadth) > 3 or not layers:
            padding = (1 + height % 2, 1 + breadth % 2)  # so that kernels cover an odd side completely
            layers += [nn.Conv2d(channels, factor * width, 4, stride=2, padding=padding), nn.SiLU()]
            channels, factor = factor * width, min(2 * factor, 4)
            height, breadth = (height + 1) // 2, (breadth + 1) // 2
        features = channels * height * breadth
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 4 * width), nn.SiLU())
        self.head = nn.Linear(4 * width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N,)."""
        return self.head(self.layers(x)).squeeze(1)


class MLPPotential(nn.Module):
    """Three layers of 4 * width units, plus the energy |x|^2 / (2 reference_scale^2) of a Gaussian, if it is given.

    Without that term exp(-potential) may not be integrable over the plane: far from the origin the network is linear.
    """

    def __init__(self, shape: Sequence[int], width: int, reference_scale: float | None) -> None:
        super().__init__()
        self.waves = len(shape) == 1
        self.hidden = hidden_layers(math.prod(shape) * (3 if self.waves else 1), width, nn.SiLU())
        self.head = nn.Linear(4 * width, 1, bias=False)
        self.curvature = 0.0 if reference_scale is None else reference_scale**-2

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, *shape) to (N,)."""
        x = x.flatten(1)
        features = with_waves(x) if self.waves else x
        return self.head(self.hidden(features)).squeeze(1) + 0.5 * self.curvature * x.square().sum(1)


def with_waves(x: Tensor) -> Tensor:
    """Returns k x, sin k x and cos k x of points x (N, D), with which layers learn sharp modes ten times faster."""
    x = FREQUENCY * x
    return torch.cat([x, x.sin(), x.cos()], dim=1)
