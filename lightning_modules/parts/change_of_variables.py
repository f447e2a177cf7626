"""The density of a continuous flow, by the instantaneous change of variables.

If x_0 ~ N(0, I) and dx/dt = v(x, t), then along a path d log p_t(x_t) / dt = -div v(x_t, t), so that

    log p_1(x_1) = log N(x_0; 0, I) - integral from 0 to 1 of div v(x_t, t) dt.

The divergence is the trace of the Jacobian J = dv/dx, a sum of e' J e over directions e. Over the D unit vectors it is
exact. Over random signs e, whose covariance is I, the mean of e' J e is an unbiased estimate (Hutchinson).

NOTE: log p is as exact as the solver. An estimated trace makes log p unbiased, and so p itself too large on average.

Neural Ordinary Differential Equations (Chen et al., 2018), https://arxiv.org/abs/1806.07366
FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative Models (Grathwohl et al., 2018),
https://arxiv.org/abs/1810.01367
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.parts.likelihoods import standard_normal_log_prob
from lightning_modules.parts.ode import Field, runge_kutta


class Directions(NamedTuple):
    """Directions e of a sum of e' J e.

    Attributes:
        vectors: Shape (K, N, ...): K directions for each of N examples.
        weight: Factor of the sum: 1 for unit vectors, 1 / K for the mean over random directions.
    """

    vectors: Tensor
    weight: float


def unit_directions(x: Tensor) -> Directions:
    """Returns the D unit vectors for each example of ``x`` (N, ...), which make the trace exact."""
    size = x[0].numel()
    units = torch.eye(size, dtype=x.dtype, device=x.device).view(size, 1, *x.shape[1:])
    return Directions(units.expand(size, *x.shape), 1.0)


def random_directions(uniform: Tensor) -> Directions:
    """Returns vectors of random signs from uniform samples in [0, 1), (N, K, ...): K directions for each example."""
    signs = torch.where(uniform < 0.5, -1.0, 1.0).to(uniform.dtype)
    return Directions(signs.transpose(0, 1), 1 / uniform.shape[1])


def with_divergence(field: Field, x: Tensor, time: float, directions: Directions) -> tuple[Tensor, Tensor]:
    """Returns the velocities of x (N, ...), and their divergences by ``directions``, (N,).

    Both have gradients where gradients are enabled.
    """
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if graph and x.requires_grad else x.detach().requires_grad_()
        velocity = field(x, time)
        divergence = x.new_zeros(len(x))
        for vectors in directions.vectors:
            (product,) = torch.autograd.grad(velocity, x, vectors, retain_graph=True, create_graph=graph)
            divergence = divergence + (product * vectors).flatten(1).sum(1)
    if not graph:
        velocity, divergence = velocity.detach(), divergence.detach()
    return velocity, directions.weight * divergence


def flow_log_density(field: Field, x: Tensor, times: Sequence[float], directions: Directions) -> Tensor:
    """Returns log p_1(x) in nats, shape (N,), with gradients where they are enabled.

    Args:
        field: The velocity v.
        x: Examples at t = 1, shape (N, ...).
        times: Ends of the solver's steps, rising from 0 to 1.
        directions: Of the trace of the Jacobian; the same ones along the whole path.
    """

    def augmented(state: Tensor, time: float) -> Tensor:
        velocity, divergence = with_divergence(field, state[:, :-1].view_as(x), time, directions)
        return torch.cat([velocity.flatten(1), divergence[:, None]], 1)

    # Back in time, the last entry becomes minus the integral of the divergence.
    start = torch.cat([x.flatten(1), x.new_zeros(len(x), 1)], 1)
    state = runge_kutta(augmented, start, list(reversed(times)))
    return standard_normal_log_prob(state[:, :-1]) + state[:, -1]
