"""Networks of joint inference, for every architecture: an encoder q(z|x) and a discriminator of pairs D(x, z).

Both are the architecture's discriminator up to its features, and differ in the head: that of the encoder returns the
parameters of a Gaussian, that of the discriminator also reads the code.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_modules.networks import Architecture
from lightning_modules.networks.blocks import ProjectionHead
from lightning_modules.networks.synchronised_norm import SynchronisedBatchNorm


class GaussianHead(nn.Module):
    """Mean and log-scale of a diagonal Gaussian, linear in the features.

    Args:
        in_features: Size of the features.
        latent_dim: Size of the code z.
        normalise: Whether the means have mean 0 and variance 1 over the batch, in evaluation over running averages.
    """

    def __init__(self, in_features: int, latent_dim: int, normalise: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, 2 * latent_dim)
        self.norm = SynchronisedBatchNorm(latent_dim) if normalise else None

    def forward(self, h: Tensor, condition: None) -> Tensor:
        """Maps h (N, in_features) to means, then log-scales, (N, 2 * latent_dim)."""
        parameters = self.linear(h)
        if self.norm is None:
            return parameters
        mean, log_scale = parameters.chunk(2, dim=1)
        return torch.cat([self.norm(mean), log_scale], dim=1)


class PairHead(nn.Module):
    """Logit of features of x and a code z: two layers on z alone, then two on both.

    Args:
        in_features: Size of the features.
        latent_dim: Size of the code z.
        hidden: Units of each layer.
    """

    def __init__(self, in_features: int, latent_dim: int, hidden: int) -> None:
        super().__init__()
        self.code = nn.Sequential(*leaky_layer(latent_dim, hidden), *leaky_layer(hidden, hidden))
        self.pair = nn.Sequential(*leaky_layer(in_features + hidden, hidden), *leaky_layer(hidden, hidden))
        self.linear = nn.Linear(hidden, 1)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """Maps h (N, in_features) and z (N, latent_dim) to logits (N,)."""
        return self.linear(self.pair(torch.cat([h, self.code(z)], dim=1))).squeeze(1)


def leaky_layer(in_features: int, out_features: int) -> tuple[nn.Module, nn.Module]:
    """Returns a linear layer and its leaky ReLU."""
    return nn.Linear(in_features, out_features), nn.LeakyReLU(0.2)


def gaussian_encoder(
    architecture: Architecture, shape: Sequence[int], latent_dim: int, width: int, normalise: bool = False
) -> nn.Module:
    """Returns an encoder: examples (N, *shape) to means, normalised or not, and log-scales (N, 2 * latent_dim)."""
    network, features = trunk(architecture, shape, width)
    network.head = GaussianHead(features, latent_dim, normalise)
    return network


def pair_discriminator(architecture: Architecture, shape: Sequence[int], latent_dim: int, width: int) -> nn.Module:
    """Returns a discriminator: examples (N, *shape) and codes (N, latent_dim) to logits (N,)."""
    network, features = trunk(architecture, shape, width)
    network.head = PairHead(features, latent_dim, 8 * width)
    return network


def trunk(architecture: Architecture, shape: Sequence[int], width: int) -> tuple[nn.Module, int]:
    """Returns a discriminator, whose ``head`` is to be replaced, and the size of the features that the head gets."""
    network = architecture.discriminator(shape, width, None, False)
    head = network.head
    assert isinstance(head, ProjectionHead)
    return network, head.linear.in_features
