"""Residual networks of the spectral-norm GAN, for square images of 28, 32, 64, ... pixels.

Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018), https://arxiv.org/abs/1802.05957,
appendix B.4; class-conditional batch normalisation and projection after cGANs with Projection Discriminator
(Miyato & Koyama, 2018), https://arxiv.org/abs/1802.05637.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.blocks import ProjectionHead, base_resolution
from lightning_modules.networks.text_encoder import Condition, condition_encoder, vectors_of


class ClassBatchNorm(nn.Module):
    """Batch normalisation with a learned scale and shift for each class or caption; without these, one of each."""

    def __init__(self, channels: int, condition: Condition) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=condition is None)
        self.scale_shift = vectors_of(condition, 2 * channels)
        identity = torch.cat([torch.ones(channels), torch.zeros(channels)])
        if isinstance(self.scale_shift, nn.Embedding):
            self.scale_shift.weight.data = identity.repeat(self.scale_shift.num_embeddings, 1)
        elif self.scale_shift is not None:
            self.scale_shift.bias.data = identity

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Maps x (N, channels, H, W) and the condition, as the network encodes it, or ``None``, to the same shape."""
        x = self.norm(x)
        if self.scale_shift is None:
            return x
        scale, shift = self.scale_shift(condition)[:, :, None, None].chunk(2, dim=1)
        return scale * x + shift


class UpBlock(nn.Module):
    """Pre-activation residual block that doubles the side by nearest-neighbour upsampling."""

    def __init__(self, channels_in: int, channels_out: int, condition: Condition) -> None:
        super().__init__()
        self.norm1 = ClassBatchNorm(channels_in, condition)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = ClassBatchNorm(channels_out, condition)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Maps x (N, channels_in, H, W) and the condition, or ``None``, to (N, channels_out, 2H, 2W)."""
        h = self.conv1(F.interpolate(F.relu(self.norm1(x, condition)), scale_factor=2))
        h = self.conv2(F.relu(self.norm2(h, condition)))
        # A 1x1 convolution commutes with nearest-neighbour upsampling, and before it takes a quarter of the arithmetic.
        return h + F.interpolate(self.shortcut(x), scale_factor=2)


class DownBlock(nn.Module):
    """Pre-activation residual block without normalisation; ``down`` halves the side, rounding up."""

    def __init__(self, channels_in: int, channels_out: int, *, down: bool, activate_first: bool = True) -> None:
        super().__init__()
        self.down, self.activate_first = down, activate_first
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1)

    def pool(self, x: Tensor) -> Tensor:
        """Averages 2x2 windows where the block halves the side."""
        return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False) if self.down else x

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, channels_in, H, W) to (N, channels_out, ceil(H / 2), ceil(W / 2))."""
        h = self.conv1(F.relu(x) if self.activate_first else x)
        h = self.conv2(F.relu(h))
        return self.pool(h) + self.shortcut(self.pool(x))


class Generator(nn.Module):
    """Maps codes (N, latent_dim) to images (N, C, H, W) in [-1, 1].

    Args:
        shape: (C, H, W) with H = W = 28, 32, 64, ...
        latent_dim: Size of the code z.
        width: Half the number of channels, which is the same at every resolution.
        condition: Number of classes, captions, or ``None``; they enter by class-conditional batch normalisation.
    """

    def __init__(self, shape: Sequence[int], latent_dim: int, width: int, condition: Condition = None) -> None:
        super().__init__()
        base, doublings = base_resolution(shape)
        channels = 2 * width
        self.project = nn.Sequential(
            nn.Linear(latent_dim, channels * base * base), nn.Unflatten(1, (channels, base, base))
        )
        self.encoder = condition_encoder(condition)
        self.blocks = nn.ModuleList(UpBlock(channels, channels, condition) for _ in range(doublings))
        self.norm = nn.BatchNorm2d(channels)
        self.output = nn.Conv2d(channels, shape[0], 3, padding=1)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Maps codes and the condition (int64 (N, ...), or ``None``) to images (N, C, H, W)."""
        h, condition = self.project(z), self.encoder(condition)
        for block in self.blocks:
            h = block(h, condition)
        return self.output(F.relu(self.norm(h))).tanh()


class Discriminator(nn.Module):
    """Maps images (N, C, H, W) to logits (N,). ``batch_norm`` is refused: the paper's discriminator has none.

    Args:
        shape: (C, H, W) with H = W = 28, 32, 64, ...
        width: Half the number of channels, which is the same at every resolution.
        condition: Number of classes, captions, or ``None``; they enter by projection.
        batch_norm: Must be false.
    """

    def __init__(self, shape: Sequence[int], width: int, condition: Condition = None, batch_norm: bool = False) -> None:
        super().__init__()
        if batch_norm:
            raise ValueError("architecture='resnet' has no batch norm in its discriminator; set batch_norm=false.")
        _, halvings = base_resolution(shape)
        channels = 2 * width
        self.blocks = nn.Sequential(
            DownBlock(shape[0], channels, down=True, activate_first=False),
            *(DownBlock(channels, channels, down=True) for _ in range(halvings - 1)),
            DownBlock(channels, channels, down=False),
        )
        self.head = ProjectionHead(channels, condition)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Maps images and the condition (int64 (N, ...), or ``None``) to logits (N,)."""
        return self.head(F.relu(self.blocks(x)).sum((2, 3)), condition)
