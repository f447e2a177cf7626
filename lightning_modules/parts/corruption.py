"""Instance noise: Gaussian noise on all inputs of a discriminator, which fades during training."""

from dataclasses import dataclass

from torch import Tensor

from lightning_modules.parts.noise import Noise
from lightning_modules.parts.schedules import Schedule


@dataclass(frozen=True)
class InstanceNoise:
    """x + sigma * epsilon with epsilon ~ N(0, I), eq. 1.40 with gamma = sigma^2.

    Args:
        strength: The standard deviation sigma, a function of the number of earlier batches, in units of the data.
    """

    strength: Schedule

    def __call__(self, x: Tensor, step: int, noise: Noise) -> Tensor:
        """Returns noisy examples, of the shape and type of x; x itself where sigma is 0."""
        sigma = self.strength(step)
        return x + (sigma * noise.normal(*x.shape, device=x.device)).to(x.dtype) if sigma else x
