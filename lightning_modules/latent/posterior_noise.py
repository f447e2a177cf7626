"""Standard normal noise that samples of q(z|x) are made of, in parts along the number of samples."""

from collections.abc import Callable, Iterable

import torch
from torch import Generator, Tensor

from lightning_modules.parts.noise import draw_normal, fixed_normal

PosteriorNoise = Callable[[int, int], Iterable[Tensor]]
"""Maps (start, stop) to the noise of these examples, (stop - start, k, latent_dim), in parts along k."""
ROWS = 500
"""Number of codes that are decoded at once for a bound, chosen so that their logits stay in the CPU cache."""


def drawn_from(generator: Generator, particles: int, latent_dim: int, device: torch.device) -> PosteriorNoise:
    """Returns noise from a generator, ``ROWS`` samples at a time."""

    def draw(start: int, stop: int) -> Iterable[Tensor]:
        for done in range(0, particles, ROWS):
            size = min(ROWS, particles - done)
            yield draw_normal((stop - start, size, latent_dim), generator, device)

    return draw


def fixed_by(indices: Tensor, particles: int, latent_dim: int) -> PosteriorNoise:
    """Returns noise that is a function of each example's index in its split, int64 (N,)."""
    return lambda start, stop: fixed_normal(indices[start:stop], particles, latent_dim).split(ROWS, 1)
