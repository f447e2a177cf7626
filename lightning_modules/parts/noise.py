"""The one seam through which every random number of a training step is drawn.

A module holds one ``Noise`` and draws from it alone, so that a test can put in its place a function of
(step, global index) and compare two processes with one, number by number.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Noise:
    """Draws from torch's default generator; the first dimension is this process's part of the batch."""

    def normal(self, *shape: int, device: torch.device) -> Tensor:
        """Returns standard normal draws, float32."""
        return torch.randn(*shape, device=device)

    def uniform(self, *shape: int, device: torch.device) -> Tensor:
        """Returns draws from [0, 1), float32."""
        return torch.rand(*shape, device=device)

    def integers(self, high: int, num: int, device: torch.device) -> Tensor:
        """Returns ``num`` draws from {0, ..., high - 1}, int64."""
        return torch.randint(high, (num,), device=device)

    def categorical(self, probabilities: Tensor, num: int) -> Tensor:
        """Returns ``num`` draws of the index k with probability ``probabilities[k]``, int64."""
        cumulative = probabilities.cumsum(0)
        draws = self.uniform(num, device=probabilities.device) * cumulative[-1]
        return torch.searchsorted(cumulative, draws, right=True).clamp(max=len(probabilities) - 1)


class GeneratorNoise(Noise):
    """Draws from one generator, made on its device and moved: training's seam for sampling and measuring."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def normal(self, *shape: int, device: torch.device) -> Tensor:
        """Returns standard normal draws, float32."""
        return draw_normal(shape, self.generator, device)

    def uniform(self, *shape: int, device: torch.device) -> Tensor:
        """Returns draws from [0, 1), float32."""
        return torch.rand(*shape, generator=self.generator, device=self.generator.device).to(device)

    def integers(self, high: int, num: int, device: torch.device) -> Tensor:
        """Returns ``num`` draws from {0, ..., high - 1}, int64."""
        return torch.randint(high, (num,), generator=self.generator, device=self.generator.device).to(device)


def new_generator() -> torch.Generator:
    """Returns a CPU generator with a fresh seed from the system; the global random state stays as it is."""
    generator = torch.Generator()
    generator.seed()
    return generator


def draw_normal(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> Tensor:
    """Returns standard normal draws of ``generator``, made on its device and moved to ``device``."""
    return torch.randn(*shape, generator=generator, device=generator.device).to(device)


def draw_categorical(probabilities: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """Returns ``num`` class indices drawn by ``probabilities``, made on the generator's device."""
    weights = probabilities.to(generator.device)
    return torch.multinomial(weights, num, replacement=True, generator=generator).to(probabilities.device)


def fixed_normal(indices: Tensor, *shape: int) -> Tensor:
    """Returns standard normal draws (N, *shape) that are a function of each example's index in its split."""
    return _fixed(torch.randn, indices, shape)


def fixed_uniform(indices: Tensor, *shape: int) -> Tensor:
    """Returns draws from [0, 1), (N, *shape), that are a function of each example's index in its split."""
    return _fixed(torch.rand, indices, shape)


def _fixed(draw: Callable[..., Tensor], indices: Tensor, shape: tuple[int, ...]) -> Tensor:
    generator, draws = torch.Generator(), []
    for index in indices.tolist():
        # Neighbouring seeds give related first numbers; multiplying by a large odd one sets them apart.
        generator.manual_seed((index + 1) * 0x9E3779B97F4A7C15 % 2**63)
        draws.append(draw(*shape, generator=generator))
    return torch.stack(draws).to(indices.device) if draws else torch.empty(0, *shape, device=indices.device)
