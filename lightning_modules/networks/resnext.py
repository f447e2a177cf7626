"""Residual networks without normalisation, for square images of 28, 32, 64, ... pixels: those of R3GAN, scaled down.

A block is an inverted bottleneck: a 1x1 convolution to twice the channels, a grouped 3x3 convolution, and a 1x1
convolution back, which starts at 0. So every block starts as the identity, whatever the depth, and no normalisation is
needed (Fixup initialisation; Zhang et al., 2019, https://arxiv.org/abs/1901.09321). Images are resampled with the
binomial filter [1, 2, 1], which avoids aliasing.

NOTE: One block per resolution in place of two, ``width`` channels at full resolution, doubled with each halving, in
groups of 16, in place of 768 in groups of 16. The output has a tanh, because images are in [-1, 1]. The smallest
feature map is 7x7 for images of 28 pixels. Class labels enter as in the other architectures.

The GAN is dead; long live the GAN! A Modern GAN Baseline (Huang et al., 2024), https://arxiv.org/abs/2501.05441
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.blocks import CodeWithLabel, ProjectionHead, base_resolution
from lightning_modules.networks.text_encoder import Condition

EXPANSION, GROUP, SLOPE = 2, 16, 0.2
GAIN = math.sqrt(2 / (1 + SLOPE**2))
"""Ratio of standard deviations before and after a leaky ReLU of slope 0.2, of which initial weights take account."""


def scaled(layer: nn.Module, gain: float = 1.0) -> nn.Module:
    """Draws the weights of a layer from N(0, gain^2 / fan-in), and sets its bias to zero."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    nn.init.normal_(weight, 0.0, gain / math.sqrt(max(1, weight[0].numel())))
    if isinstance(bias, Tensor):
        nn.init.zeros_(bias)
    return layer


def upsampled(x: Tensor) -> Tensor:
    """Doubles the side: nearest-neighbour upsampling and a blur by [1, 2, 1] are bilinear interpolation."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def downsampled(x: Tensor) -> Tensor:
    """Halves an even side: a blur by [1, 2, 1] and means of 2x2 pixels are one filter [1, 3, 3, 1] of stride 2."""
    filter = (2 - (torch.arange(4, device=x.device, dtype=x.dtype) - 1.5).abs()) / 4  # no copy to the device
    kernel = (filter[:, None] * filter).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


class InvertedBottleneck(nn.Module):
    """x plus a branch of three convolutions, which starts at 0.

    Args:
        channels: Number of channels of x.
        num_blocks: Number of blocks of the network: the more, the smaller the branch's first weights (Fixup).
    """

    def __init__(self, channels: int, num_blocks: int) -> None:
        super().__init__()
        wide = EXPANSION * channels
        gain = GAIN * num_blocks**-0.25  # three layers: m = 3 in L^(-1 / (2m - 2))
        groups = wide // math.gcd(wide, GROUP)
        self.expand = scaled(nn.Conv2d(channels, wide, 1), gain)
        self.mix = scaled(nn.Conv2d(wide, wide, 3, padding=1, groups=groups), gain)
        self.contract = scaled(nn.Conv2d(wide, channels, 1, bias=False), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, channels, H, W) to the same shape."""
        h = F.leaky_relu(self.expand(x), SLOPE)
        return x + self.contract(F.leaky_relu(self.mix(h), SLOPE))


class Generator(nn.Module):
    """Maps codes (N, latent_dim) to images (N, C, H, W) in [-1, 1].

    Args:
        shape: (C, H, W) with H = W = 28, 32, 64, ...
        latent_dim: Size of the code z.
        width: Channels at full resolution; doubled with each halving, up to 8 * width.
        condition: Number of classes, captions, or ``None``.
    """

    def __init__(self, shape: Sequence[int], latent_dim: int, width: int, condition: Condition = None) -> None:
        super().__init__()
        base, doublings = base_resolution(shape)
        channels = [width * 2 ** min(power, 3) for power in range(doublings, -1, -1)]
        self.code = CodeWithLabel(latent_dim, condition)
        self.basis = nn.Parameter(torch.randn(channels[0], base, base))
        self.coefficients = scaled(nn.Linear(self.code.out_features, channels[0], bias=False))
        self.blocks = nn.ModuleList(InvertedBottleneck(size, len(channels)) for size in channels)
        self.narrow = nn.ModuleList(
            scaled(nn.Conv2d(wide, narrow, 1, bias=False)) for wide, narrow in zip(channels, channels[1:], strict=False)
        )
        self.output = scaled(nn.Conv2d(channels[-1], shape[0], 1, bias=False))

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Maps codes and the condition (int64 (N, ...), or ``None``) to images (N, C, H, W)."""
        h = self.basis * self.coefficients(self.code(z, condition))[:, :, None, None]
        h = self.blocks[0](h.contiguous(memory_format=torch.channels_last))
        for narrow, block in zip(self.narrow, list(self.blocks)[1:], strict=True):
            h = block(upsampled(narrow(h)))  # a 1x1 convolution commutes with upsampling, and is cheaper before it
        return self.output(h).tanh()


class Discriminator(nn.Module):
    """Maps images (N, C, H, W) to logits (N,). ``batch_norm`` is refused: there is no normalisation in these networks.

    Args:
        shape: (C, H, W) with H = W = 28, 32, 64, ...
        width: Channels at full resolution; doubled with each halving, up to 8 * width.
        condition: Number of classes, captions, or ``None``; they enter by projection.
        batch_norm: Must be false.
    """

    def __init__(self, shape: Sequence[int], width: int, condition: Condition = None, batch_norm: bool = False) -> None:
        super().__init__()
        if batch_norm:
            raise ValueError("architecture='resnext' has no batch norm in its discriminator; set batch_norm=false.")
        base, halvings = base_resolution(shape)
        channels = [width * 2 ** min(power, 3) for power in range(halvings + 1)]
        self.input = scaled(nn.Conv2d(shape[0], width, 1, bias=False))
        self.blocks = nn.ModuleList(InvertedBottleneck(size, len(channels)) for size in channels)
        self.widen = nn.ModuleList(
            scaled(nn.Conv2d(narrow, wide, 1, bias=False)) for narrow, wide in zip(channels, channels[1:], strict=False)
        )
        self.basis = scaled(nn.Conv2d(channels[-1], channels[-1], base, groups=channels[-1], bias=False))
        self.head = ProjectionHead(channels[-1], condition)
        scaled(self.head.linear)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Maps images and the condition (int64 (N, ...), or ``None``) to logits (N,)."""
        h = self.blocks[0](self.input(x))
        for widen, block in zip(self.widen, list(self.blocks)[1:], strict=True):
            h = block(widen(downsampled(h)))
        return self.head(self.basis(h).flatten(1), condition)
