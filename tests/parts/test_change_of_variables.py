"""Divergences against Jacobians, and densities of flows with a solution in closed form."""

import itertools
import math

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from lightning_modules.parts.change_of_variables import (
    Directions,
    flow_log_density,
    random_directions,
    unit_directions,
    with_divergence,
)
from lightning_modules.parts.times import graded_times

DRIFT = torch.tensor([[0.3, -0.8], [0.5, -0.4]], dtype=torch.float64)


def curved(x: Tensor, time: float) -> Tensor:
    """A velocity whose Jacobian depends on the place and is not symmetric."""
    return torch.stack([(x[:, 0] * x[:, 1]).sin() + time, x[:, 0].square() * x[:, 1]], 1)


def linear(x: Tensor, time: float) -> Tensor:
    return x @ DRIFT.T


def points(num: int) -> Tensor:
    return torch.randn(num, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def traces(x: Tensor) -> Tensor:
    jacobian = torch.func.vmap(torch.func.jacrev(lambda one: curved(one[None], 0.5)[0]))(x)
    return jacobian.diagonal(dim1=1, dim2=2).sum(1)


def test_unit_directions_give_the_trace_of_the_jacobian() -> None:
    x = points(5)
    velocity, divergence = with_divergence(curved, x, 0.5, unit_directions(x))
    torch.testing.assert_close(velocity, curved(x, 0.5))
    torch.testing.assert_close(divergence, traces(x))


def test_the_mean_over_all_signs_is_the_trace() -> None:
    x = points(5)
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=2)), dtype=torch.float64)
    directions = Directions(signs[:, None].expand(4, 5, 2), 1 / 4)
    torch.testing.assert_close(with_divergence(curved, x, 0.5, directions)[1], traces(x))
    single = Directions(signs[:1, None].expand(1, 5, 2), 1.0)
    assert not torch.allclose(with_divergence(curved, x, 0.5, single)[1], traces(x))


def test_random_directions_are_fair_signs() -> None:
    uniform = torch.rand(500, 4, 3, generator=torch.Generator().manual_seed(1))
    vectors, weight = random_directions(uniform)
    assert vectors.shape == (4, 500, 3)
    assert weight == 1 / 4
    assert vectors.abs().eq(1).all()
    assert vectors.mean().abs() < 5 / math.sqrt(vectors.numel())


def test_a_linear_flow_has_the_density_of_its_gaussian() -> None:
    x = points(6)
    found = flow_log_density(linear, x, graded_times(20), unit_directions(x))
    flow = torch.linalg.matrix_exp(DRIFT)
    expected = MultivariateNormal(torch.zeros(2, dtype=torch.float64), flow @ flow.T).log_prob(x)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0.0)


def test_gradients_reach_the_examples_where_they_are_enabled() -> None:
    x = points(3).requires_grad_()
    directions = unit_directions(x.detach())
    flow = torch.linalg.matrix_exp(DRIFT)
    (gradient,) = torch.autograd.grad(flow_log_density(linear, x, graded_times(20), directions).sum(), x)
    torch.testing.assert_close(gradient, -x.detach() @ torch.linalg.inv(flow @ flow.T), atol=1e-5, rtol=0.0)
    with torch.no_grad():
        assert not flow_log_density(linear, x, graded_times(2), directions).requires_grad
