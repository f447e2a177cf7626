"""Langevin chains of a deep energy-based model, with Metropolis-Hastings proposals of uniform noise."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.parts.mcmc import langevin_step
from lightning_modules.parts.noise import Noise


class LangevinChains(NamedTuple):
    """A sampler of exp(-f(x) / T).

    Attributes:
        potential: f, maps examples (N, *shape) to (N,).
        step_size: Factor of the gradient of f in a Langevin step.
        temperature: T; the noise of a step has the standard deviation sqrt(2 step_size T).
        max_gradient: Entries of the gradient are clamped to this, or ``None``.
        mh_proposal_every: Number of Langevin steps between Metropolis-Hastings proposals; ``None`` for no proposals.
        initial_scale: Uniform noise spans [-initial_scale, initial_scale] in each coordinate.
        bounded: Whether states are clamped to [-1, 1], the range of images.
        dtype: Floating-point type of states, that of the potential's weights.
    """

    potential: Callable[[Tensor], Tensor]
    step_size: float
    temperature: float
    max_gradient: float | None
    mh_proposal_every: int | None
    initial_scale: float
    bounded: bool
    dtype: torch.dtype = torch.float32

    def start(self, uniform: Tensor) -> Tensor:
        """Maps uniform samples in [0, 1) to initial states."""
        return self.initial_scale * (2 * uniform.to(self.dtype) - 1)

    def run(self, x: Tensor, steps: int, noise: Noise) -> Tensor:
        """Returns chains (N, *shape) after ``steps`` Langevin steps and the proposals in between."""
        for step in range(steps):
            if self.mh_proposal_every is not None and step % self.mh_proposal_every == 0:
                proposal = self.start(noise.uniform(*x.shape, device=x.device))
                x = self.mh_proposal(x, proposal, noise.uniform(len(x), device=x.device))
            x = self.langevin_step(x, noise.normal(*x.shape, device=x.device))
        return x

    def langevin_step(self, x: Tensor, normal: Tensor) -> Tensor:
        """Makes one Langevin step of chains (N, *shape), with standard normal numbers of the same shape."""
        deviation = math.sqrt(2 * self.step_size * self.temperature)
        normal, limit = normal.to(self.dtype), self.max_gradient
        x = langevin_step(self.potential, x, self.step_size, normal, noise_scale=deviation, max_gradient=limit)
        return x.clamp(-1, 1) if self.bounded else x

    @torch.no_grad()
    def mh_proposal(self, x: Tensor, proposal: Tensor, uniform: Tensor) -> Tensor:
        """Makes a Metropolis-Hastings step with uniform noise as proposal.

        It leaves exp(-f / T) invariant: within the range of the noise it is symmetric, and chains outside do not move.

        Args:
            x: Chains, shape (N, *shape).
            proposal: Uniform within the range of the noise, in the shape of x.
            uniform: Uniform in [0, 1), shape (N,), for the acceptance step.
        """
        energy, proposed = (self.potential(state) / self.temperature for state in (x, proposal))
        accepted = uniform.log() < energy - proposed
        accepted &= x.abs().flatten(1).amax(1) <= self.initial_scale
        return torch.where(accepted.view(-1, *[1] * (x.ndim - 1)), proposal, x)
