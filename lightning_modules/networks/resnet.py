"""Residual networks of the spectral-norm GAN, for square pictures of 28, 32, 64, ... pixels.

Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018), https://arxiv.org/abs/1802.05957,
appendix B.4; class-conditional batch normalisation and projection after cGANs with Projection Discriminator
(Miyato & Koyama, 2018), https://arxiv.org/abs/1802.05637.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.blocks import ProjectionHead, base_resolution


class ClassBatchNorm(nn.Module):
    """Batch normalisation whose scale and shift are looked up by the label."""

    def __init__(self, channels: int, num_classes: int | None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=num_classes is None)
        self.scale_shift = None if num_classes is None else nn.Embedding(num_classes, 2 * channels)
        if self.scale_shift is not None:
            self.scale_shift.weight.data = torch.cat([torch.ones(channels), torch.zeros(channels)]).repeat(
                self.scale_shift.num_embeddings, 1
            )

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """Normalises (N, channels, H, W)."""
        x = self.norm(x)
        if self.scale_shift is None:
            return x
        scale, shift = self.scale_shift(labels)[:, :, None, None].chunk(2, dim=1)
        return scale * x + shift


class UpBlock(nn.Module):
    """Pre-activation residual block that doubles the side by nearest-neighbour upsampling."""

    def __init__(self, channels_in: int, channels_out: int, num_classes: int | None) -> None:
        super().__init__()
        self.norm1 = ClassBatchNorm(channels_in, num_classes)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = ClassBatchNorm(channels_out, num_classes)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """Maps (N, channels_in, H, W) to (N, channels_out, 2H, 2W)."""
        h = self.conv1(F.interpolate(F.relu(self.norm1(x, labels)), scale_factor=2))
        h = self.conv2(F.relu(self.norm2(h, labels)))
        # A 1x1 convolution commutes with nearest-neighbour upsampling, and costs a quarter before it.
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
    """Maps (N, latent_dim) to pictures (N, C, H, W) in [-1, 1].

    Args:
        shape: (C, H, W) with H = W = 28, 32, 64, ...
        latent_dim: Size of the code z.
        width: A half of the channels, which are the same at every resolution.
        num_classes: Number of classes, or ``None``; they enter by class-conditional batch normalisation.
    """

    def __init__(self, shape: Sequence[int], latent_dim: int, width: int, num_classes: int | None = None) -> None:
        super().__init__()
        base, doublings = base_resolution(shape)
        channels = 2 * width
        self.project = nn.Sequential(
            nn.Linear(latent_dim, channels * base * base), nn.Unflatten(1, (channels, base, base))
        )
        self.blocks = nn.ModuleList(UpBlock(channels, channels, num_classes) for _ in range(doublings))
        self.norm = nn.BatchNorm2d(channels)
        self.output = nn.Conv2d(channels, shape[0], 3, padding=1)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Returns pictures, shape (N, C, H, W)."""
        h = self.project(z)
        for block in self.blocks:
            h = block(h, labels)
        return self.output(F.relu(self.norm(h))).tanh()


class Discriminator(nn.Module):
    """Maps pictures (N, C, H, W) to logits (N,). ``batch_norm`` is refused: the paper's has none.

    Args:
        shape: (C, H, W) with H = W = 28, 32, 64, ...
        width: A half of the channels, which are the same at every resolution.
        num_classes: Number of classes, or ``None``; they enter by projection.
        batch_norm: Must be false.
    """

    def __init__(
        self, shape: Sequence[int], width: int, num_classes: int | None = None, batch_norm: bool = False
    ) -> None:
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
        self.head = ProjectionHead(channels, num_classes)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Returns logits, shape (N,)."""
        return self.head(F.relu(self.blocks(x)).sum((2, 3)), labels)
