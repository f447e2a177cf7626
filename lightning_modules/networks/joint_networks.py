"""Networks of joint inference, for every architecture: an encoder q(z|x) and a discriminator of pairs D(x, z).

Both are the architecture's discriminator up to its features, and differ in the head: that of the encoder returns the
parameters of a Gaussian, that of the discriminator also reads the code.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn import functional as differentiable

from lightning_modules.networks import Architecture
from lightning_modules.networks.blocks import ProjectionHead


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
        self.norm = MeanNorm(latent_dim) if normalise else nn.Identity()

    def forward(self, h: Tensor, condition: None) -> Tensor:
        """Maps h (N, in_features) to means, then log-scales, (N, 2 * latent_dim)."""
        mean, log_scale = self.linear(h).chunk(2, dim=1)
        return torch.cat([self.norm(mean), log_scale], dim=1)


class MeanNorm(nn.Module):
    """Batch normalisation without scale and offset, over the batches of all processes together.

    In evaluation, and for a single example, it takes running averages. The constant in its root is small, because
    codes that differ little at first, or later shrink, are those that it is for.

    Args:
        features: Number of features.
        momentum: Weight of a batch in the running averages.
        eps: Added to the variance.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, momentum: float = 0.1, eps: float = 1e-8) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalises (N, features), not in half precision."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        mean, var = self.running_mean, self.running_var
        if self.training and (len(x) > 1 or num_processes() > 1):
            count = summed(x.new_full((), len(x)))
            mean = summed(x.sum(0)) / count
            var = summed((x - mean).square().sum(0)) / count
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
                self.running_var.lerp_(var.to(self.running_var.dtype), self.momentum)
        return (x - mean) * torch.rsqrt(var + self.eps)


def num_processes() -> int:
    """Returns the number of processes of the run, 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def summed(x: Tensor) -> Tensor:
    """Returns the sum over all processes of the run, with gradients."""
    return differentiable.all_reduce(x) if num_processes() > 1 else x


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
