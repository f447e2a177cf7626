"""Networks that grow from a low resolution to that of the data, each new layer faded in.

All layers exist from the start; ``set_stage`` says up to which level they are used. Both networks always have images of
the full side: a generator that has grown to half of it repeats pixels, and the discriminator averages them. So samples
have one shape throughout training, and so have the data.

NOTE: The generator ends in a tanh, the paper's in a linear layer, so that images stay in [-1, 1]. A stage is kept in
buffers, which checkpoints and averages of weights hold.

Progressive Growing of GANs for Improved Quality, Stability, and Variation (Karras et al., 2018),
https://arxiv.org/abs/1710.10196, tables 2 and 3.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.blocks import CodeWithLabel, base_resolution
from lightning_modules.networks.equalized import (
    EqualizedConv2d,
    EqualizedHead,
    EqualizedLinear,
    MinibatchStd,
    pixel_norm,
)
from lightning_modules.networks.text_encoder import Condition

SMALLEST = 4
"""Least side that growing may begin with."""


def growth_levels(shape: Sequence[int], num_resolutions: int | None) -> int:
    """Returns the number of resolutions, each twice the one before, the last of which is that of the images.

    Args:
        shape: (C, H, W).
        num_resolutions: Their number, or ``None`` for a first side of 4 to 7 pixels.

    Raises:
        ValueError: If the images are not square, or the number does not divide their side into 4 pixels or more.
    """
    if num_resolutions is None:
        return base_resolution(shape)[1] + 1
    _, height, width = shape
    halvings = num_resolutions - 1
    first = height >> max(halvings, 0)
    if height != width or halvings < 0 or first < SMALLEST or first << halvings != height:
        raise ValueError(
            f"num_resolutions={num_resolutions} does not fit shape={list(shape)}: the side of square images must be a "
            f"first side of at least {SMALLEST} pixels, doubled num_resolutions - 1 times."
        )
    return num_resolutions


def doubled(x: Tensor, times: int = 1) -> Tensor:
    """Repeats each pixel, so that the sides double ``times`` times."""
    return F.interpolate(x, scale_factor=2**times) if times else x


def halved(x: Tensor, times: int = 1) -> Tensor:
    """Averages pixels, so that the sides halve ``times`` times."""
    return F.avg_pool2d(x, 2**times) if times else x


def activated(x: Tensor) -> Tensor:
    """The leaky ReLU of all layers."""
    return F.leaky_relu(x, 0.2)


class Grown(nn.Module):
    """Abstract: a network with a block of layers, and a layer to or from images, for each level of resolution.

    Args:
        blocks: The blocks, of which those up to the present level are used.
        images: The layers to or from images, of which that of the present level is used, and while it is faded in,
            that of the level below.
    """

    level: Tensor
    alpha: Tensor

    def __init__(self, blocks: Sequence[nn.Module], images: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks, self.images = nn.ModuleList(blocks), nn.ModuleList(images)
        self.top = self.present = len(blocks) - 1
        self.fading = False
        self.register_buffer("level", torch.tensor(self.top))
        self.register_buffer("alpha", torch.ones(()))

    def set_stage(self, level: int, alpha: float) -> None:
        """Uses all layers up to a level, which is weighted by alpha, and freezes those that are not used.

        Args:
            level: 0 for the lowest resolution.
            alpha: Share of this level in [0, 1], the rest being that of the level below; 1 once it is faded in.
        """
        self.present, self.fading = level, level > 0 and alpha < 1
        self.level.fill_(level)
        self.alpha.fill_(alpha)
        for number, (block, image) in enumerate(zip(self.blocks, self.images, strict=True)):
            block.requires_grad_(number <= level)
            image.requires_grad_(number == level or (self.fading and number == level - 1))

    def set_level(self, level: int) -> None:
        """Uses all layers up to a level that is faded in, of which none is frozen yet."""
        self.present, self.fading = level, False
        self.level.fill_(level)
        self.alpha.fill_(1.0)

    @property
    def has_grown(self) -> bool:
        """Whether all layers are used, and none is faded in."""
        return self.present == self.top and not self.fading

    def as_grown(self, x: Tensor) -> Tensor:
        """Returns images (N, C, H, W) in the resolution of the present stage, in their own shape.

        While a level is faded in, they are as much of that level as generated images are.
        """
        missing = self.top - self.present
        if missing == 0 and not self.fading:
            return x
        x = halved(x, missing)
        if self.fading:
            x = self.blended(doubled(halved(x)), x)
        return doubled(x, missing)

    def blended(self, below: Tensor, above: Tensor) -> Tensor:
        """Returns (1 - alpha) below + alpha above."""
        return torch.lerp(below, above, self.alpha.to(above.dtype))

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        # Python's numbers, because a forward pass that reads a tensor would wait for the device.
        self.present = int(self.level)
        self.fading = self.present > 0 and bool(self.alpha < 1)


class FirstGeneratorBlock(nn.Module):
    """Maps a code to feature maps of the lowest resolution."""

    def __init__(self, in_features: int, channels: int, side: int) -> None:
        super().__init__()
        # The gain is a quarter of the usual one, as in the authors' code.
        self.linear = EqualizedLinear(in_features, channels * side * side, gain=2**0.5 / 4)
        self.unflatten = nn.Unflatten(1, (channels, side, side))
        self.conv = EqualizedConv2d(channels, channels, 3)

    def forward(self, code: Tensor) -> Tensor:
        """Maps (N, in_features) to (N, channels, side, side)."""
        h = pixel_norm(activated(self.unflatten(self.linear(code))))
        return pixel_norm(activated(self.conv(h)))


class GeneratorBlock(nn.Module):
    """Doubles the side, and convolves twice."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = EqualizedConv2d(in_channels, out_channels, 3)
        self.conv2 = EqualizedConv2d(out_channels, out_channels, 3)

    def forward(self, h: Tensor) -> Tensor:
        """Maps (N, in_channels, H, W) to (N, out_channels, 2H, 2W)."""
        h = pixel_norm(activated(self.conv1(doubled(h))))
        return pixel_norm(activated(self.conv2(h)))


class LastDiscriminatorBlock(nn.Module):
    """Maps feature maps of the lowest resolution, and their deviation over the batch, to features."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.std = MinibatchStd()
        self.conv = EqualizedConv2d(channels + 1, channels, 3)
        self.linear = EqualizedLinear(channels * side * side, channels)

    def forward(self, h: Tensor) -> Tensor:
        """Maps (N, channels, side, side) to (N, channels)."""
        h = activated(self.conv(self.std(h)))
        return activated(self.linear(h.flatten(1)))


class DiscriminatorBlock(nn.Module):
    """Convolves twice, and halves the side."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = EqualizedConv2d(in_channels, in_channels, 3)
        self.conv2 = EqualizedConv2d(in_channels, out_channels, 3)

    def forward(self, h: Tensor) -> Tensor:
        """Maps (N, in_channels, H, W) to (N, out_channels, H / 2, W / 2)."""
        return halved(activated(self.conv2(activated(self.conv1(h)))))


def channels_of_levels(width: int, num_levels: int) -> list[int]:
    """Returns the channels of each level: ``width`` at the top, twice as many at each lower one, at most 8 * width."""
    return [width * 2 ** min(power, 3) for power in range(num_levels - 1, -1, -1)]


class Generator(Grown):
    """Maps codes (N, latent_dim) to images (N, C, H, W) in [-1, 1].

    Args:
        shape: (C, H, W) with H = W.
        latent_dim: Size of the code z.
        width: Channels at full resolution; doubled with each halving, up to 8 * width.
        condition: Number of classes, captions, or ``None``; an embedding is appended to the code.
        num_resolutions: As in ``growth_levels``.

    Attributes:
        normalises_code: Whether G(c z) = G(z) for all c > 0; with a condition, code and embedding are normalised
            together, and the length of the code counts.
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent_dim: int,
        width: int,
        condition: Condition = None,
        num_resolutions: int | None = None,
    ) -> None:
        channels = channels_of_levels(width, growth_levels(shape, num_resolutions))
        code = CodeWithLabel(latent_dim, condition)
        first = FirstGeneratorBlock(code.out_features, channels[0], shape[1] >> (len(channels) - 1))
        blocks = [GeneratorBlock(wide, narrow) for wide, narrow in zip(channels, channels[1:], strict=False)]
        super().__init__([first, *blocks], [EqualizedConv2d(number, shape[0], 1, gain=1) for number in channels])
        self.code, self.normalises_code = code, condition is None

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Maps codes and the condition (int64 (N, ...), or ``None``) to images (N, C, H, W)."""
        h = below = pixel_norm(self.code(z, condition))
        for block in self.blocks[: self.present + 1]:
            below, h = h, block(h)
        x = self.images[self.present](h).tanh()
        if self.fading:
            x = self.blended(doubled(self.images[self.present - 1](below).tanh()), x)
        return doubled(x, self.top - self.present)


class Discriminator(Grown):
    """Maps images (N, C, H, W) to logits (N,).

    Args:
        shape: (C, H, W) with H = W.
        width: Channels at full resolution; doubled with each halving, up to 8 * width.
        condition: Number of classes, captions, or ``None``; they enter by projection.
        num_resolutions: As in ``growth_levels``.
    """

    def __init__(
        self, shape: Sequence[int], width: int, condition: Condition = None, num_resolutions: int | None = None
    ) -> None:
        channels = channels_of_levels(width, growth_levels(shape, num_resolutions))
        last = LastDiscriminatorBlock(channels[0], shape[1] >> (len(channels) - 1))
        blocks = [DiscriminatorBlock(narrow, wide) for wide, narrow in zip(channels, channels[1:], strict=False)]
        super().__init__([last, *blocks], [EqualizedConv2d(shape[0], number, 1) for number in channels])
        self.head = EqualizedHead(channels[0], condition)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Maps images and the condition (int64 (N, ...), or ``None``) to logits (N,)."""
        x = halved(x, self.top - self.present)
        h = activated(self.images[self.present](x))
        for level in range(self.present, -1, -1):
            h = self.blocks[level](h)
            if self.fading and level == self.present:
                h = self.blended(activated(self.images[level - 1](halved(x))), h)
        return self.head(h, condition)
