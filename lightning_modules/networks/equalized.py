"""Layers of progressive growing: learning rates that are equal for all weights, and normalisation without parameters.

Progressive Growing of GANs (Karras et al., 2018), https://arxiv.org/abs/1710.10196, sections 3 and 4.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.text_encoder import Condition, embedding_of

HE = math.sqrt(2)
"""Gain of a layer before a leaky ReLU."""


class EqualizedLinear(nn.Module):
    """Linear layer with weights drawn from N(0, 1) and multiplied by gain / sqrt(in_features) at run time.

    Adam divides by the size of a gradient, so that all weights change by as much in a step. With one size of all, they
    also change by the same share.

    Args:
        in_features: Size of the input.
        out_features: Size of the output.
        gain: The gain.
    """

    def __init__(self, in_features: int, out_features: int, gain: float = HE) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.in_features, self.scale = in_features, gain / math.sqrt(in_features)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, in_features) to (N, out_features)."""
        return F.linear(x * self.scale, self.weight, self.bias)


class EqualizedConv2d(nn.Module):
    """Convolution that keeps the side, with weights as in ``EqualizedLinear``; the fan-in is in_channels * kernel^2."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, gain: float = HE) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.scale, self.padding = gain / math.sqrt(in_channels * kernel**2), kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, in_channels, H, W) to (N, out_channels, H, W)."""
        # The input is multiplied, not the weight: penalties are faster where the kernel itself is a parameter.
        return F.conv2d(x * self.scale, self.weight, self.bias, padding=self.padding)


def pixel_norm(x: Tensor) -> Tensor:
    """Divides x (N, C, ...) by the root of the mean of the squares over channels, at each position."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


class MinibatchStd(nn.Module):
    """Appends a feature map that holds the mean standard deviation, over the batch, of all features.

    Generated batches that vary less than real ones then differ from these in every example. In evaluation mode the map
    holds the running mean of the values in training, so that the output of an example does not depend on the others.

    Args:
        momentum: Share of the newest value in the running mean.
    """

    running_std: Tensor
    mixes_examples = True

    def __init__(self, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("running_std", torch.ones(()))

    def forward(self, h: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C + 1, H, W)."""
        std = self.running_std.to(h.dtype)
        if self.training:
            std = (h.var(0, unbiased=False) + 1e-8).sqrt().mean()
            self.running_std.lerp_(std.detach().to(self.running_std.dtype), self.momentum)
        return torch.cat([h, std.expand(len(h), 1, *h.shape[2:])], 1)


class EqualizedHead(nn.Module):
    """Projection head, as ``ProjectionHead``, whose weights and embeddings are scaled at run time."""

    def __init__(self, in_features: int, condition: Condition) -> None:
        super().__init__()
        self.linear = EqualizedLinear(in_features, 1, gain=1)
        self.embedding = embedding_of(condition, in_features)

    def forward(self, h: Tensor, condition: Tensor | None) -> Tensor:
        """Maps h (N, in_features) and the condition (int64 (N, ...), or ``None``) to logits (N,)."""
        logits = self.linear(h).squeeze(1)
        if self.embedding is None:
            return logits
        return logits + (self.embedding(condition) * h * self.linear.scale).sum(1)
