"""Converts stored pixels to the values that a method trains on, a whole batch at a time."""

import torch
from torch import Tensor


class Pixels:
    """Maps uint8 pixels v to float32: v / 127.5 - 1 in [-1, 1], or one of two noisy forms.

    Args:
        binarize: Bernoulli samples in {0, 1} that are 1 with probability v / 255
            (dynamic binarization, Salakhutdinov and Murray, 2008, https://doi.org/10.1145/1390156.1390266).
        dequantize: x = 2 (v + u) / 256 - 1 with u uniform in [0, 1), so that a density is well defined
            (Theis et al., 2016, https://arxiv.org/abs/1511.01844). On this scale, bits per dimension are
            nats / (D ln 2) + 7 for D dimensions.
        channels_last: Whether the result has this memory format, which suits convolutions.

    Raises:
        ValueError: If both forms are asked for.
    """

    def __init__(self, binarize: bool = False, dequantize: bool = False, channels_last: bool = False) -> None:
        if binarize and dequantize:
            raise ValueError("binarize=True and dequantize=True exclude each other: choose one.")
        self.binarize, self.dequantize = binarize, dequantize
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    @property
    def noisy(self) -> bool:
        """Whether a call needs noise."""
        return self.binarize or self.dequantize

    @property
    def name(self) -> str:
        """What is done beyond scaling: "binarized", "dequantized" or, for nothing, an empty string."""
        return "binarized" if self.binarize else "dequantized" if self.dequantize else ""

    @property
    def value_range(self) -> tuple[float, float]:
        """Lowest and highest value of the result."""
        return (0.0, 1.0) if self.binarize else (-1.0, 1.0)

    def __call__(self, pixels: Tensor, uniform: Tensor | None = None) -> Tensor:
        """Converts a batch.

        Args:
            pixels: Shape (N, C, H, W), uint8.
            uniform: Uniform noise in [0, 1) of the same shape, where ``noisy``; otherwise None.

        Returns:
            Shape (N, C, H, W), float32.
        """
        pixels = pixels.contiguous(memory_format=self.memory_format)
        if uniform is None:
            return pixels.sub(127.5).mul_(1 / 127.5)  # one pass over memory fewer than v / 127.5 - 1
        if self.binarize:
            return (uniform * 255 < pixels).to(torch.float32, memory_format=self.memory_format)
        return pixels.to(torch.float32).add_(uniform).mul_(2 / 256).sub_(1)


def as_pixels(images: Tensor, channels: int, origin: str) -> Tensor:
    """Returns images as uint8 after checking that they are images.

    Args:
        images: Shape (N, C, H, W), any real type, whole values in 0..255.
        channels: Number of channels C to expect.
        origin: Where the images come from, for the message.

    Returns:
        Shape (N, C, H, W), uint8.

    Raises:
        ValueError: If there are none, or their shape is another, or a value is not a number in 0..255.
    """
    if images.ndim != 4 or images.shape[1] != channels:
        raise ValueError(f"{origin}: expected images (N, {channels}, H, W), got shape {tuple(images.shape)}.")
    if images.numel() == 0:
        raise ValueError(f"{origin}: there are 0 images.")
    if images.dtype == torch.uint8:
        return images
    if not images.isfinite().all():
        raise ValueError(f"{origin}: the images have values that are not finite numbers (NaN or infinity).")
    low, high = images.min().item(), images.max().item()
    if low < 0 or high > 255 or (images.is_floating_point() and high <= 1):
        raise ValueError(f"{origin}: expected pixel values in 0..255, got {low:g}..{high:g}.")
    return images.round().to(torch.uint8)
