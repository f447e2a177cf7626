"""Output layers of models of video: the conditional distribution of the next frame, pixel by pixel.

They have the interface of ``autoregressive.emissions``. Given the past, pixels are independent of each other.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.autoregressive.emissions import Uniform
from lightning_modules.autoregressive.pixel_likelihoods import GreyValues
from lightning_modules.parts.likelihoods import MIN_LOG_SCALE, discretized_logistic_log_prob, not_grey
from lightning_modules.parts.precision import in_single

NUM_COMPONENTS = 3
"""Logistics in the mixture of a pixel, which may be background or either of two things in front of it."""


class Frames(nn.Module):
    """Abstract: frames of 256 grey values v / 255, of whose pixels a convolution computes the parameters.

    Args:
        channels: Channels of a frame.
        height: Height of a frame.
        width: Width of a frame.
        features: Channels of the network's features, which are half as high and wide.
        num_parameters: Parameters of the distribution of one pixel.
    """

    def __init__(self, channels: int, height: int, width: int, features: int, num_parameters: int) -> None:
        super().__init__()
        self.shape = (channels, height, width)
        self.grow = nn.ConvTranspose2d(features, features, 4, stride=2, padding=1)
        self.head = nn.Conv2d(features, num_parameters, 3, padding=1)
        self.in_features = channels

    def start(self, num: int, device: torch.device) -> Tensor:
        """Returns the first input, a black frame."""
        return torch.zeros(num, 1, *self.shape, device=device)

    def embed(self, x: Tensor) -> Tensor:
        """Maps frames from [0, 1] to [-1, 1]."""
        return 2 * x.to(self.head.weight.dtype) - 1

    def steps(self, x: Tensor) -> Tensor:
        """Returns frames in the type of the weights, or in float32 where that is too coarse for 256 grey values."""
        return x.to(torch.promote_types(self.head.weight.dtype, torch.float32))

    def parameters_of(self, features: Tensor) -> Tensor:
        """Returns the parameters of the pixels of the next frames, (N T, P, H, W), of features (N, T, F, H/2, W/2)."""
        parameters: Tensor = self.head(F.leaky_relu(self.grow(features.flatten(0, 1)), 0.2))
        return parameters

    def problem_with(self, x: Tensor) -> str | None:
        """Names a value that is not one of the 256 grey values, if there is one."""
        return not_grey(x)


class GreyFrames(Frames):
    """A discretised logistic distribution over the 256 grey values for every pixel; arguments as in ``Frames``."""

    def __init__(self, channels: int, height: int, width: int, features: int) -> None:
        super().__init__(channels, height, width, features, 2 * channels)
        # Initial scales are large, because a narrow distribution far from the data has large gradients.
        with torch.no_grad():
            self.head.bias[channels:] = -1.0  # type: ignore[index]

    def distribution(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns means and logarithms of scales of the next frames, (N, T, C, H, W) each."""
        mean, log_scale = self.parameters_of(features).unflatten(0, features.shape[:2]).chunk(2, 2)
        return mean, log_scale

    def log_prob(self, features: Tensor, x: Tensor) -> Tensor:
        """Returns log p of each frame, nats, (N, T)."""
        return discretized_logistic_log_prob(2 * x - 1, *self.distribution(features)).flatten(2).sum(2)

    def sample(self, features: Tensor, uniform: Uniform, temperature: float = 1.0) -> Tensor:
        """Samples a frame (N, 1, C, H, W) of 256 grey values; the temperature multiplies the scales."""
        mean, log_scale = (in_single(part) for part in self.distribution(features[:, -1:]))
        u = uniform(*mean.shape).clamp(1e-5, 1 - 1e-5)
        x = mean + temperature * log_scale.clamp(min=MIN_LOG_SCALE).exp() * (u.log() - torch.log1p(-u))
        return ((x.clamp(-1, 1) + 1) * 127.5).round() / 255


class MixtureFrames(Frames):
    """A mixture of three discretised logistics for every pixel, of one or three channels; arguments as in ``Frames``.

    A border whose place is not quite known is one or the other side of it, and not the grey between.

    Raises:
        ValueError: If there are neither one nor three channels.
    """

    def __init__(self, channels: int, height: int, width: int, features: int) -> None:
        pixels = GreyValues((channels, height, width), NUM_COMPONENTS)
        super().__init__(channels, height, width, features, pixels.num_parameters)
        self.pixels = pixels
        assert self.head.bias is not None
        pixels.initialize(self.head.bias)

    def log_prob(self, features: Tensor, x: Tensor) -> Tensor:
        """Returns log p of each frame, nats, (N, T)."""
        return self.pixels.log_prob(self.parameters_of(features), 2 * x.flatten(0, 1) - 1).view(x.shape[:2])

    def sample(self, features: Tensor, uniform: Uniform, temperature: float = 1.0) -> Tensor:
        """Samples a frame (N, 1, C, H, W) of 256 grey values; the temperature divides logits and multiplies scales."""
        numbers = uniform(len(features), self.pixels.num_uniform, *self.shape[1:])
        x = self.pixels.draw(self.parameters_of(features[:, -1:]), numbers, temperature)
        return ((x + 1) * 127.5).round().div(255).unsqueeze(1)
