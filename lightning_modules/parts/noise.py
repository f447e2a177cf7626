"""The training RNG: the one source of every random number of a training step.

A module holds one ``Noise`` and draws from it alone, so that a test can replace it by a function of (step, global
index) and compare runs of one and two processes number by number.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

DISTANCE = 0x9E3779B1
"""Distance between the indices of two draws for the same examples, 2^32 over the golden ratio.

A seed counts modulo 2^32, where multiples of this number are furthest apart: those of the first 1 000 draws by more
than a million examples.
"""


class Draws(Protocol):
    """A source of random numbers for the examples of a batch, whose number is the first dimension."""

    def normal(self, *shape: int, device: torch.device) -> Tensor:
        """Returns standard normal samples, float32."""
        ...

    def uniform(self, *shape: int, device: torch.device) -> Tensor:
        """Returns uniform samples in [0, 1), float32."""
        ...


class Noise:
    """Random numbers of torch's default generator; the first dimension is this process's part of the batch.

    Args:
        generator: Source of the numbers in place of the default one, outside of training; they are drawn on its device.
    """

    generator: torch.Generator | None = None

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator

    def normal(self, *shape: int, device: torch.device) -> Tensor:
        """Returns standard normal samples, float32."""
        return torch.randn(*shape, generator=self.generator, device=self._place(device)).to(device)

    def uniform(self, *shape: int, device: torch.device) -> Tensor:
        """Returns uniform samples in [0, 1), float32."""
        return torch.rand(*shape, generator=self.generator, device=self._place(device)).to(device)

    def integers(self, high: int, num: int, device: torch.device) -> Tensor:
        """Returns ``num`` uniform samples of {0, ..., high - 1}, int64."""
        return torch.randint(high, (num,), generator=self.generator, device=self._place(device)).to(device)

    def categorical(self, probabilities: Tensor, num: int) -> Tensor:
        """Returns ``num`` samples of the index k, which has probability ``probabilities[k]``, int64."""
        cumulative = probabilities.cumsum(0)
        uniform = self.uniform(num, device=probabilities.device) * cumulative[-1]
        return torch.searchsorted(cumulative, uniform, right=True).clamp(max=len(probabilities) - 1)

    def _place(self, device: torch.device) -> torch.device:
        return device if self.generator is None else self.generator.device


class FixedNoise:
    """Random numbers that are a function of each example's index in its split and of the number of earlier draws.

    Args:
        indices: int64 (N,); the first dimension of every draw is N.
    """

    def __init__(self, indices: Tensor) -> None:
        self.indices, self.draws = indices, 0

    def normal(self, *shape: int, device: torch.device) -> Tensor:
        """Returns standard normal samples, float32."""
        return fixed_normal(self._next_indices(), *shape[1:]).to(device)

    def uniform(self, *shape: int, device: torch.device) -> Tensor:
        """Returns uniform samples in [0, 1), float32."""
        return fixed_uniform(self._next_indices(), *shape[1:]).to(device)

    def _next_indices(self) -> Tensor:
        self.draws += 1
        return self.indices + (self.draws - 1) * DISTANCE


def new_generator() -> torch.Generator:
    """Returns a CPU generator with a fresh seed from the system; the global random state does not change."""
    generator = torch.Generator()
    generator.seed()
    return generator


def draw_normal(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> Tensor:
    """Returns standard normal samples of ``generator``, drawn on its device and moved to ``device``."""
    return torch.randn(*shape, generator=generator, device=generator.device).to(device)


def draw_categorical(probabilities: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """Returns ``num`` class indices, drawn by ``probabilities`` on the generator's device."""
    weights = probabilities.to(generator.device)
    return torch.multinomial(weights, num, replacement=True, generator=generator).to(probabilities.device)


def fixed_normal(indices: Tensor, *shape: int) -> Tensor:
    """Returns standard normal samples (N, *shape) that are a function of each example's index in its split."""
    return _fixed(torch.randn, indices, shape)


def fixed_uniform(indices: Tensor, *shape: int) -> Tensor:
    """Returns uniform samples in [0, 1), (N, *shape), that are a function of each example's index in its split."""
    return _fixed(torch.rand, indices, shape)


def _fixed(draw: Callable[..., Tensor], indices: Tensor, shape: tuple[int, ...]) -> Tensor:
    generator, samples = torch.Generator(), []
    for index in indices.tolist():
        # Neighbouring seeds give related first numbers; multiplication by a large odd number avoids that.
        generator.manual_seed((index + 1) * 0x9E3779B97F4A7C15 % 2**63)
        samples.append(draw(shape, generator=generator))
    return torch.stack(samples).to(indices.device) if samples else torch.empty(0, *shape, device=indices.device)
