"""Discriminator penalties: where the input gradient is taken, and what is asked of its norm.

Each is ``(critic, real, fake, noise) -> scalar``, a mean over examples of a per-example quantity, unweighted.
They assume that the critic treats examples independently: batch normalisation in it breaks them.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_modules.parts.noise import Noise

Critic = Callable[[Tensor], Tensor]
Penalty = Callable[[Critic, Tensor, Tensor, Noise], Tensor]


def gradient_norm(critic: Critic, x: Tensor) -> Tensor:
    """Per-example ``||d critic(x) / dx||_2``, shape (batch,), differentiable in the critic's weights.

    The square root is taken of sum + 1e-12: at an exactly zero gradient its own derivative would be NaN.
    """
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return (gradient.flatten(1).square().sum(1) + 1e-12).sqrt()


def on_segment(real: Tensor, fake: Tensor, noise: Noise) -> Tensor:
    """One uniform point on the segment from each real example to its fake partner."""
    t = noise.uniform(len(real), *[1] * (real.ndim - 1), device=real.device).to(real.dtype)
    return torch.lerp(real, fake, t)


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, noise: Noise) -> Tensor:
    """E (||grad f|| - 1)^2 between real and fake (Gulrajani et al., 2017, eq. 3)."""
    return (gradient_norm(critic, on_segment(real, fake, noise)) - 1).square().mean()


def r1(critic: Critic, real: Tensor, fake: Tensor, noise: Noise) -> Tensor:
    """E ||grad f||^2 / 2 on real data (Mescheder et al., 2018, eq. 9)."""
    return gradient_norm(critic, real).square().mean() / 2


PENALTIES: dict[str, Penalty] = {"gradient_penalty": gradient_penalty, "r1": r1}
