"""Jacobian clamping: a penalty on a generator whose output changes too little or too much with the code."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_modules.parts.conditions import Conditioned
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.sampling import averages_kept

Codes = Callable[[Tensor], Tensor]
LEAST_EPSILON = 1e-3
"""Least distance of two codes. Rounding adds about 1e-6 to the distance of two images, and 1e-3 to Q."""


@dataclass(frozen=True)
class JacobianClamping:
    """E (max(Q, lambda_max) - lambda_max)^2 + (min(Q, lambda_min) - lambda_min)^2 (Odena et al., 2018, Algorithm 1).

    Q = ||G(z) - G(z')|| / ||z - z'|| is measured for each example, at a z' in a random direction from z (eq. 1.45). It
    lies between the smallest and the largest singular value of a linear generator. Batch normalisation normalises G(z')
    by the statistics of the batch of z, so that the two differ by the code alone.

    Args:
        lambda_min: Least change per unit of the code that is not penalised.
        lambda_max: Largest one.
        epsilon: Distance from z to z'.
        fraction: On which part of the batch it is computed, 1 over a whole number: 0.25 for every fourth example.

    Raises:
        ValueError: If a number is out of range, or the bounds are in the wrong order.
    """

    lambda_min: float = 1.0
    lambda_max: float = 20.0
    epsilon: float = 1.0
    fraction: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.lambda_min <= self.lambda_max:
            raise ValueError(
                f"lambda_min={self.lambda_min} must be at least 0 and at most lambda_max={self.lambda_max}."
            )
        if not LEAST_EPSILON <= self.epsilon < math.inf:
            raise ValueError(
                f"clamp_epsilon={self.epsilon} must be at least {LEAST_EPSILON} and finite: changes of examples over "
                "smaller distances are lost in the rounding of float32."
            )
        if not 1e-6 <= self.fraction <= 1 or abs(self.fraction * round(1 / self.fraction) - 1) > 0.01:
            raise ValueError(
                f"clamp_fraction={self.fraction} must be 1 over a whole number, such as 1, 0.5 or 0.25: it takes every "
                "so many-th example."
            )

    def __call__(self, generator: Codes, z: Tensor, noise: Noise) -> Tensor:
        """Returns the mean penalty over the chosen examples of a batch of codes (N, latent_dim)."""
        generator, z = self.chosen(generator), z[:: self.stride]
        if isinstance(generator, Conditioned):
            with averages_kept(generator.network):  # the game has updated them by the whole batch
                examples, generator = generator.recording(z)
        else:
            examples = generator(z)
        return self.of_changes(self.changes(generator, z, examples, noise))

    def of_outputs(self, generator: Codes, z: Tensor, examples: Tensor, noise: Noise) -> Tensor:
        """Does the same with G(z) of the whole batch, (N, ...), as the game has computed it."""
        chosen = self.chosen(generator), z[:: self.stride], examples[:: self.stride]
        return self.of_changes(self.changes(*chosen, noise))

    @property
    def stride(self) -> int:
        """Distance of the chosen examples: the parts of two processes are then those of one with their union."""
        return round(1 / self.fraction)

    def chosen(self, generator: Codes) -> Codes:
        """Returns the generator with the labels of the chosen examples."""
        return generator.every(self.stride) if isinstance(generator, Conditioned) else generator

    def changes(self, generator: Codes, z: Tensor, examples: Tensor, noise: Noise) -> Tensor:
        """Returns Q of each code, (N,), given G(z)."""
        direction = noise.normal(*z.shape, device=z.device).to(z.dtype)
        moved = z + self.epsilon * direction / torch.linalg.vector_norm(direction, dim=1, keepdim=True)
        near = generator.by_statistics(moved) if isinstance(generator, Conditioned) else generator(moved)
        difference = (examples - near).flatten(1)
        # The derivative of a square root at 0, where the generator is constant, would be NaN.
        return ((difference / self.epsilon).square().sum(1) + 1e-12).sqrt()

    def of_changes(self, q: Tensor) -> Tensor:
        """Returns the mean squared distance of Q from [lambda_min, lambda_max]."""
        return (q - q.clamp(self.lambda_min, self.lambda_max)).square().mean()
