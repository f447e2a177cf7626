"""A U-Net of velocities of square images, on patches of 2x2 pixels.

Each patch is one position with 4 C channels, so that the network works at half resolution: a quarter of the arithmetic.
Residual blocks with group normalisation halve the side down to 4 to 8 positions, where all positions attend to each
other, and double it again, each with the features of the same resolution on the way down. Captions enter twice: by one
vector for all positions, and at the lowest resolution by attention of each position to the words, so that a word may
say what is where. The last convolution of each block, and that of the network, start at zero: in the beginning blocks
are identities and velocities 0.

U-Net: Convolutional Networks for Biomedical Image Segmentation (Ronneberger et al., 2015),
https://arxiv.org/abs/1505.04597
Denoising Diffusion Probabilistic Models (Ho et al., 2020), https://arxiv.org/abs/2006.11239, appendix B
Variational Diffusion Models (Kingma et al., 2021), https://arxiv.org/abs/2107.00630 (Fourier features of the input)
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.blocks import base_resolution
from lightning_modules.networks.text_encoder import TEXT_FEATURES, Captions, Condition, Words
from lightning_modules.networks.velocity import HIGHEST_FREQUENCY, TimeAndCondition

PATCH = 2
LARGEST_ATTENDED = 8
"""Side of the largest map of positions that attend to each other."""
CHANNELS_PER_HEAD = 32
CHANNELS_PER_GROUP = 16
HIGHEST_OF_PIXELS = 2**8 * math.pi
"""Radians per unit of [-1, 1] with a period of one of 256 grey values."""
MOST_FREQUENCIES = 9
"""The lowest of them has the range of the pixels as its period."""


def pixel_frequencies(number: bool | int) -> tuple[float, ...]:
    """Returns frequencies of Fourier features of pixels, each half of the next, the last of one grey value.

    Raises:
        ValueError: If the number is negative or above ``MOST_FREQUENCIES``.
    """
    if isinstance(number, bool):  # as in checkpoints of the first version of flows
        number = 2 * number
    if not 0 <= number <= MOST_FREQUENCIES:
        raise ValueError(
            f"fourier_features={number} must lie in 0 to {MOST_FREQUENCIES}: the number of frequencies, of which the "
            "lowest then has the range of the pixels as its period."
        )
    return tuple(HIGHEST_OF_PIXELS / 2**octave for octave in reversed(range(number)))


def group_norm(channels: int) -> nn.GroupNorm:
    """Returns a normalisation over groups of about 16 channels, of equal size."""
    most = max(1, channels // CHANNELS_PER_GROUP)
    return nn.GroupNorm(max(num for num in range(1, most + 1) if channels % num == 0), channels)


def starting_at_zero(convolution: nn.Conv2d) -> nn.Conv2d:
    """Returns a convolution with all weights and biases set to zero."""
    for parameter in convolution.parameters():
        nn.init.zeros_(parameter)
    return convolution


class Block(nn.Module):
    """Residual block whose second normalisation is scaled and shifted by the vector of time and condition."""

    def __init__(self, channels_in: int, channels_out: int, vector_size: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = group_norm(channels_in), group_norm(channels_out)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.conv2 = starting_at_zero(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        self.scale_shift = nn.Linear(vector_size, 2 * channels_out)
        self.shortcut = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """Maps x (N, channels_in, H, W) and vectors (N, vector_size) to (N, channels_out, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.scale_shift(vector)[:, :, None, None].chunk(2, dim=1)
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        return self.shortcut(x) + h


def num_heads(channels: int) -> int:
    """Returns the number of heads of attention, of about 32 channels each and of equal size."""
    return math.gcd(channels, max(1, channels // CHANNELS_PER_HEAD))


def attend(queries: Tensor, keys: Tensor, values: Tensor, hidden: Tensor | None = None) -> Tensor:
    """Returns the mean of values for each query by the softmax of their similarity, (N, heads, C, Q).

    It is written out, because torch's fused attention has no second derivative, which gradients of log p need.

    Args:
        queries: Shape (N, heads, C, Q).
        keys: Shape (N, heads, C, K).
        values: Shape (N, heads, C, K).
        hidden: Which of the values are left out, bool (N, K), not all of one example; ``None`` for none.
    """
    scores = queries.transpose(2, 3) @ keys / math.sqrt(queries.shape[2])
    if hidden is not None:
        scores = scores.masked_fill(hidden[:, None, None], -math.inf)
    return values @ scores.softmax(3).transpose(2, 3)


class Attention(nn.Module):
    """Self-attention between all positions, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = num_heads(channels)
        self.norm = group_norm(channels)
        self.queries_keys_values = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.output = starting_at_zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, channels, H, W) to the same shape."""
        projected = self.queries_keys_values(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1))
        return x + self.output(attend(*projected.unbind(1)).reshape(x.shape))


class WordAttention(nn.Module):
    """Attention of all positions to the words of a caption, added to its input.

    A learned vector stands beside the words: of no word, which is all that is left of a caption that is dropped.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = num_heads(channels)
        self.norm = group_norm(channels)
        self.queries = nn.Conv2d(channels, channels, 1, bias=False)
        self.keys_values = nn.Linear(TEXT_FEATURES, 2 * channels, bias=False)
        self.no_word = nn.Parameter(torch.zeros(TEXT_FEATURES))
        self.output = starting_at_zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, words: Words | None) -> Tensor:
        """Maps (N, channels, H, W) and words, or ``None`` where there is no caption, to the shape of x."""
        read, hidden = self.no_word.expand(len(x), 1, -1), None
        if words is not None:
            read, hidden = torch.cat([read, words.vectors], 1), F.pad(words.hidden, (1, 0))  # False for no word
        keys, values = self.keys_values(read).transpose(1, 2).unflatten(1, (2, self.heads, -1)).unbind(1)
        queries = self.queries(self.norm(x)).flatten(2).unflatten(1, (self.heads, -1))
        return x + self.output(attend(queries, keys, values, hidden).reshape(x.shape))


class UNet(nn.Module):
    """Maps images (N, C, H, W), times and a condition to velocities of the same shape.

    Args:
        shape: (C, H, W) with H = W = 28, 32, 64, ...
        width: Channels at half resolution; twice as many below.
        depth: Blocks per resolution, on each way.
        condition: Number of classes, captions, or ``None``.
        droppable: As in ``TimeAndCondition``.
        fourier_features: Number of frequencies, at most 9, of sines and cosines of the pixels that the network also
            sees: with periods of 1, 2, 4, ... of 256 grey values. A likelihood depends on details that fine, and where
            all pixels of a region have one value, on details of all sizes above. ``True`` is 2.
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int,
        depth: int,
        condition: Condition,
        droppable: bool,
        fourier_features: bool | int,
    ) -> None:
        super().__init__()
        base_resolution(shape)
        levels, side = 1, shape[1] // PATCH
        while side > LARGEST_ATTENDED:
            levels, side = levels + 1, side // 2
        channels = [width if level == 0 else 2 * width for level in range(levels)]
        vector_size = 4 * width
        self.frequencies = pixel_frequencies(fourier_features)
        self.embedding = TimeAndCondition(vector_size, HIGHEST_FREQUENCY["unet"], condition, droppable)
        self.input = nn.Conv2d(PATCH**2 * shape[0] * (1 + 2 * len(self.frequencies)), width, 3, padding=1)
        self.depth, self.down, self.up = depth, nn.ModuleList(), nn.ModuleList()
        self.reduce, self.enlarge = nn.ModuleList(), nn.ModuleList()
        last = width
        for level, size in enumerate(channels):
            self.down.extend(Block(a, size, vector_size) for a in [last] + (depth - 1) * [size])
            if level < levels - 1:
                self.reduce.append(nn.Conv2d(size, size, 3, stride=2, padding=1))
            last = size
        self.middle = nn.ModuleList([Block(last, last, vector_size), Block(last, last, vector_size)])
        self.attention = Attention(last)
        self.words = WordAttention(last) if isinstance(condition, Captions) else None
        for level, size in reversed(list(enumerate(channels))):
            self.up.extend(Block(a + size, size, vector_size) for a in [last] + (depth - 1) * [size])
            if level > 0:
                self.enlarge.append(nn.Conv2d(size, size, 3, padding=1))
            last = size
        self.norm = group_norm(width)
        self.output = starting_at_zero(nn.Conv2d(width, PATCH**2 * shape[0], 3, padding=1))

    def forward(
        self, x: Tensor, time: Tensor, condition: Tensor | None = None, dropped: Tensor | None = None
    ) -> Tensor:
        """Maps images, times (N,), the condition and dropped ones (bool (N,)) to velocities (N, C, H, W)."""
        vector, words = self.embedding(time, condition, dropped)
        vector = F.silu(vector)
        waves = [wave(frequency * x) for frequency in self.frequencies for wave in (torch.sin, torch.cos)]
        patches = F.pixel_unshuffle(torch.cat([x, *waves], 1), PATCH)
        if x.device.type == "cpu":
            # A training step takes a little more than half the time, whatever the layout of the weights.
            patches = patches.contiguous(memory_format=torch.channels_last)
        h = self.input(patches)
        kept = []
        for number, block in enumerate(self.down, start=1):
            h = block(h, vector)
            kept.append(h)
            if number % self.depth == 0 and number < len(self.down):
                h = self.reduce[number // self.depth - 1](h)
        before, after = self.middle
        h = self.attention(before(h, vector))
        h = after(h if self.words is None else self.words(h, words), vector)
        for number, block in enumerate(self.up, start=1):
            h = block(torch.cat([h, kept.pop()], 1), vector)
            if number % self.depth == 0 and number < len(self.up):
                h = self.enlarge[number // self.depth - 1](F.interpolate(h, scale_factor=2))
        return F.pixel_shuffle(self.output(F.silu(self.norm(h))), PATCH)
