"""Multi-layer perceptrons of three hidden layers, for points and for images flattened to vectors.

A layer has 4 * ``width`` units, so that one default width suits all architectures: 32 gives 128 units, which is common
in experiments on two-dimensional data.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from lightning_modules.networks.blocks import CodeWithLabel, ProjectionHead
from lightning_modules.networks.text_encoder import Condition


def hidden_layers(in_features: int, width: int, activation: nn.Module) -> nn.Sequential:
    """Returns three layers of 4 * width units, each followed by ``activation``."""
    sizes = [in_features] + 3 * [4 * width]
    layers = [nn.Sequential(nn.Linear(a, b), activation) for a, b in zip(sizes, sizes[1:], strict=False)]
    return nn.Sequential(*layers)


class Generator(nn.Module):
    """Maps codes (N, latent_dim) to examples (N, *shape): images in [-1, 1] by a tanh, points without bounds."""

    def __init__(self, shape: Sequence[int], latent_dim: int, width: int, condition: Condition = None) -> None:
        super().__init__()
        self.code = CodeWithLabel(latent_dim, condition)
        self.hidden = hidden_layers(self.code.out_features, width, nn.ReLU())
        self.output = nn.Linear(4 * width, math.prod(shape))
        self.bound = nn.Tanh() if len(shape) == 3 else nn.Identity()
        self.unflatten = nn.Unflatten(1, tuple(shape))

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Maps codes and the condition (int64 (N, ...), or ``None``) to examples (N, *shape)."""
        return self.unflatten(self.bound(self.output(self.hidden(self.code(z, condition)))))


class Discriminator(nn.Module):
    """Maps examples (N, *shape) to logits (N,). ``batch_norm`` is refused: on points it hides where the modes are."""

    def __init__(self, shape: Sequence[int], width: int, condition: Condition = None, batch_norm: bool = False) -> None:
        super().__init__()
        if batch_norm:
            raise ValueError("architecture='mlp' has no batch norm in its discriminator; set batch_norm=false.")
        activation = nn.LeakyReLU(0.2) if len(shape) == 3 else nn.ReLU()
        self.hidden = hidden_layers(math.prod(shape), width, activation)
        self.head = ProjectionHead(4 * width, condition)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Maps examples and the condition (int64 (N, ...), or ``None``) to logits (N,)."""
        return self.head(self.hidden(x.flatten(1)), condition)
