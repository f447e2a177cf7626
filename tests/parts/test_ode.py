"""Solvers against a solution in closed form: dx/dt = x cos(t) has x(t) = x(0) exp(sin t)."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lightning_modules.parts.ode import heun, runge_kutta

START = torch.tensor([[1.0], [-2.0]], dtype=torch.float64)
END = START * math.exp(math.sin(2.0))


def field(x: Tensor, time: float) -> Tensor:
    return x * math.cos(time)


def even_times(steps: int) -> list[float]:
    return [2 * i / steps for i in range(steps + 1)]


@pytest.mark.parametrize(("solver", "order", "evaluations"), [(heun, 2, 2), (runge_kutta, 4, 4)])
def test_the_error_falls_with_the_order_of_the_solver(
    solver: Callable[..., Tensor], order: int, evaluations: int
) -> None:
    counted = []

    def watched(x: Tensor, time: float) -> Tensor:
        counted.append(time)
        return field(x, time)

    errors = [(solver(watched, START, even_times(steps)) - END).abs().max().item() for steps in (40, 80, 160)]
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert coarse / fine == pytest.approx(2**order, rel=0.1)
    assert len(counted) == evaluations * (40 + 80 + 160)


@pytest.mark.parametrize("solver", [heun, runge_kutta])
def test_backwards_in_time_the_start_is_found_again(solver: Callable[..., Tensor]) -> None:
    uneven = [0.0, 0.01, *even_times(400)[4:]]
    torch.testing.assert_close(solver(field, END, uneven[::-1]), START, atol=1e-4, rtol=0.0)
