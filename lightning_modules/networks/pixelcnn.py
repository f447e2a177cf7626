"""The network of PixelCNN++: two streams of shifted convolutions, in which a pixel depends only on earlier pixels.

The *down* stream u at (r, c) depends on the rows above r. The *down-right* stream l at (r, c) depends also on the
pixels of row r left of c; u is an input of each of its blocks. Both have the same U-shaped architecture: blocks at full
resolution, strided convolutions down, blocks, and up again with a skip connection at every block.

References:
    PixelCNN++ (Salimans et al., 2017), https://arxiv.org/abs/1701.05517
    Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016), https://arxiv.org/abs/1606.05328
        (two streams instead of a masked convolution: no blind spot)

NOTE: The paper's second convolution of a block has the kernel of the first one; here it is 1x1, as after the gate of
the Gated PixelCNN, which halves the arithmetic and needs only one cache per block. Up-sampling has a 2x2 kernel in both
streams, so that a pixel of the coarse grid gives four of the fine one and no neighbours overlap.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.text_encoder import Condition, condition_encoder, vectors_of

Uniform = Callable[..., Tensor]
"""Returns uniform random numbers in [0, 1): ``uniform(*shape, device=...)``."""

State = tuple[Tensor, Tensor]
"""Activations of the down and the down-right stream."""

REACH = 3
"""Reach of the first layer's kernels in pixels: with one or two input channels, a wide kernel costs almost nothing."""


def concat_elu(x: Tensor) -> Tensor:
    """Maps (N, C, H, W) to (N, 2C, H, W), elu of x and of -x."""
    return F.elu(torch.cat([x, -x], 1))


class NormalizedConv(nn.Module):
    """Convolution of zero-padded images whose weight is a direction times a scale for each output channel.

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        kernel: Height and width.
        padding: Zeros at the left, right, top and bottom; a negative number crops.
        stride: Stride in both directions.
        scale: Initial norm of the weights of each output channel.

    Weight Normalization (Salimans & Kingma, 2016), https://arxiv.org/abs/1602.07868
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        stride: int = 1,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.padding, self.stride = padding, stride
        self.direction = nn.Parameter(torch.randn(channels_out, channels_in, *kernel) * 0.05)
        self.scale = nn.Parameter(torch.full((channels_out,), scale))
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def weight(self) -> Tensor:
        """Returns the weight, (channels_out, channels_in, *kernel)."""
        return F.normalize(self.direction.flatten(1)).mul(self.scale[:, None]).view_as(self.direction)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, channels_in, H, W) to (N, channels_out, H', W')."""
        if any(self.padding):
            x = F.pad(x, self.padding)
        return F.conv2d(x, self.weight(), self.bias, self.stride)


def down_shifted(channels_in: int, channels_out: int, stride: int = 1) -> NormalizedConv:
    """Returns a convolution over this row and the one above, three columns wide."""
    return NormalizedConv(channels_in, channels_out, (2, 3), (1, 1, 1, 0), stride)


def down_right_shifted(channels_in: int, channels_out: int, stride: int = 1) -> NormalizedConv:
    """Returns a convolution over this pixel and those to the left, above, and above to the left."""
    return NormalizedConv(channels_in, channels_out, (2, 2), (1, 0, 1, 0), stride)


class Enlarge(nn.Module):
    """Maps one pixel to 2x2 pixels: a transposed convolution with kernel and stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = NormalizedConv(channels, 4 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C, 2H, 2W)."""
        return F.pixel_shuffle(self.conv(x), 2)


class GatedBlock(nn.Module):
    """x + a sigmoid(b), where (a, b) is a function of x, of a skip connection and of the condition.

    Args:
        shifted: Builds the convolution from the numbers of its input and output channels.
        width: Channels of x.
        skip: Channels of the skip connection; 0 for none.
        condition: Number of classes, captions, or ``None``.
        dropout: Share of the hidden activations that are set to zero in training.
    """

    def __init__(
        self,
        shifted: Callable[[int, int], NormalizedConv],
        width: int,
        skip: int,
        condition: Condition,
        dropout: float,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.conv = shifted(2 * width, width)
        self.skip = NormalizedConv(2 * skip, width) if skip else None
        self.gate = NormalizedConv(2 * width, 2 * width, scale=0.3)
        self.label = vectors_of(condition, width)

    def forward(self, x: Tensor, skip: Tensor | None, condition: Tensor | None, uniform: Uniform | None) -> Tensor:
        """Maps x (N, width, H, W) to the same shape.

        Args:
            x: The input.
            skip: The skip connection (N, skip, H, W), or ``None``.
            condition: What the network's encoder returns, or ``None``.
            uniform: Random numbers for the dropout; ``None`` for evaluation.
        """
        hidden = self.conv(concat_elu(x))
        if self.skip is not None and skip is not None:
            hidden = hidden + self.skip(concat_elu(skip))
        if self.label is not None:
            hidden = hidden + self.label(condition)[:, :, None, None]
        hidden = concat_elu(hidden)
        if uniform is not None and self.dropout > 0:
            kept = uniform(*hidden.shape, device=hidden.device) >= self.dropout
            hidden = hidden * kept / (1 - self.dropout)
        return x + F.glu(self.gate(hidden), 1)


class Stage(nn.Module):
    """Blocks of both streams at one resolution: the n-th of the down-right stream follows the n-th of the other.

    Args:
        width: Channels.
        depth: Blocks of each stream.
        with_skips: Whether each block has a skip connection from the way down.
        condition: Number of classes, captions, or ``None``.
        dropout: Share of the hidden activations that are set to zero in training.
    """

    def __init__(self, width: int, depth: int, with_skips: bool, condition: Condition, dropout: float) -> None:
        super().__init__()
        skip = width if with_skips else 0
        self.down = nn.ModuleList(GatedBlock(down_shifted, width, skip, condition, dropout) for _ in range(depth))
        self.right = nn.ModuleList(
            GatedBlock(down_right_shifted, width, width + skip, condition, dropout) for _ in range(depth)
        )

    def forward(
        self, state: State, skips: Sequence[State] | None, condition: Tensor | None, uniform: Uniform | None
    ) -> list[State]:
        """Returns the input of the stage and the output of every block; ``skips`` are used from the last to the first.

        ``condition`` and ``uniform`` are those of ``GatedBlock``.
        """
        u, right = state
        states = [state]
        for index, (down_block, right_block) in enumerate(zip(self.down, self.right, strict=True)):
            if skips is None:
                u = right_input = down_block(u, None, condition, uniform)
            else:
                skip_u, skip_right = skips[-1 - index]
                u = down_block(u, skip_u, condition, uniform)
                right_input = torch.cat([u, skip_right], 1)
            right = right_block(right, right_input, condition, uniform)
            states.append((u, right))
        return states


class FirstLayer(nn.Module):
    """Shifts the image by one row or one pixel, so that no later layer has to.

    A channel of ones distinguishes the zeros of the padding from those of the image.

    Args:
        channels: Channels of the image.
        width: Channels of the result.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        side, channels = 2 * REACH + 1, channels + 1
        self.down = NormalizedConv(channels, width, (REACH, side), (REACH, REACH, REACH, -1))
        self.above = NormalizedConv(channels, width, (1, side), (REACH, REACH, 1, -1), scale=0.7)
        self.left = NormalizedConv(channels, width, (2, REACH), (REACH, -1, 1, 0), scale=0.7)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps images (N, C, H, W) to u and l, each (N, width, H, W)."""
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        return self.down(x), self.above(x) + self.left(x)


class PixelCNN(nn.Module):
    """Maps images to the parameters of each pixel's distribution given the pixels before it, in raster order.

    Args:
        shape: (C, H, W); H and W are divisible by 2 ** (num_scales - 1).
        num_parameters: Number of parameters of the distribution of a pixel (all C channels).
        width: Channels of each stream.
        depth: Blocks of each stream at each resolution, on the way down and again on the way up.
        num_scales: Resolutions; each is half of the one before.
        condition: Number of classes, captions, or ``None``.
        dropout: Share of the hidden activations of a block that are set to zero in training.

    Raises:
        ValueError: If a size is not positive, ``dropout`` is out of range, or the image cannot be halved so often.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_parameters: int,
        width: int,
        depth: int,
        num_scales: int,
        condition: Condition = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(width, depth, num_scales) < 1:
            raise ValueError(f"width={width}, depth={depth} and num_scales={num_scales} must be at least 1.")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} must lie in [0, 1).")
        if num_scales > 1 + min(shape[1:]).bit_length():  # before a power that might have millions of digits
            raise ValueError(
                f"shape={list(shape)} cannot be halved {num_scales - 1} times, for num_scales={num_scales}; use fewer "
                "scales."
            )
        factor = 2 ** (num_scales - 1)
        if len(shape) != 3 or shape[1] % factor or shape[2] % factor:
            raise ValueError(
                f"shape={list(shape)} must be (channels, height, width) with sides divisible by {factor} "
                f"for num_scales={num_scales}; use fewer scales or another image_size."
            )
        self.shape, self.depth, self.num_scales = tuple(shape), depth, num_scales
        self.first = FirstLayer(shape[0], width)
        self.encoder = condition_encoder(condition)
        settings = (condition, dropout)
        self.descent = nn.ModuleList(Stage(width, depth, False, *settings) for _ in range(num_scales))
        self.ascent = nn.ModuleList(Stage(width, depth, True, *settings) for _ in range(num_scales))
        self.shrink_down = nn.ModuleList(down_shifted(width, width, 2) for _ in range(num_scales - 1))
        self.shrink_right = nn.ModuleList(down_right_shifted(width, width, 2) for _ in range(num_scales - 1))
        self.enlarge_down = nn.ModuleList(Enlarge(width) for _ in range(num_scales - 1))
        self.enlarge_right = nn.ModuleList(Enlarge(width) for _ in range(num_scales - 1))
        self.head = NormalizedConv(2 * width, num_parameters, scale=0.3)

    def forward(self, x: Tensor, condition: Tensor | None = None, uniform: Uniform | None = None) -> Tensor:
        """Maps images (N, C, H, W) in [-1, 1] to parameters (N, num_parameters, H, W).

        Args:
            x: The images; the parameters at a pixel are a function of the pixels before it alone.
            condition: Classes or captions, int64 (N, ...), for a conditional network, else ``None``.
            uniform: Random numbers for the dropout of training; ``None`` for evaluation.
        """
        state, condition = self.first(x), self.encoder(condition)
        skips: list[list[State]] = []
        for scale, stage in enumerate(self.descent):
            states = stage(state, None, condition, uniform)
            state = states[-1]
            if scale < self.num_scales - 1:
                skips.append(states[1:])
                state = self.shrink_down[scale](state[0]), self.shrink_right[scale](state[1])
            else:  # the output of the last block is the input of the way up
                skips.append(states[:-1])
        for scale in reversed(range(self.num_scales)):
            state = self.ascent[scale](state, skips[scale], condition, uniform)[-1]
            if scale > 0:
                state = self.enlarge_down[scale - 1](state[0]), self.enlarge_right[scale - 1](state[1])
        return self.head(concat_elu(state[1]))


class FullPasses:
    """Computes the parameters of one pixel after another, each by a pass of the whole image through the network.

    Args:
        network: The network in evaluation mode.
        num: Number of images.
        condition: Classes or captions, int64 (num, ...), for a conditional network, else ``None``.
    """

    def __init__(self, network: PixelCNN, num: int, condition: Tensor | None) -> None:
        self.network, self.condition = network, condition
        self.x = network.head.bias.new_zeros(num, *network.shape)

    def parameters_at(self, row: int, column: int) -> Tensor:
        """Returns the parameters of a pixel, (num, num_parameters); must be called in raster order."""
        return self.network(self.x, self.condition)[:, :, row, column]

    def put(self, row: int, column: int, pixel: Tensor) -> None:
        """Sets the pixel whose parameters were computed last, (num, C) in [-1, 1]."""
        self.x[:, :, row, column] = pixel
