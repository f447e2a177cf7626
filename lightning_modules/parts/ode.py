"""Solvers of dx/dt = v(x, t) with given steps, as pure functions; a system is solved forwards or backwards in time.

With h the longest step, the error at the end is O(h^2) for ``heun`` and O(h^4) for ``runge_kutta``, where v is smooth.

Solving Ordinary Differential Equations I (Hairer, Norsett and Wanner, 1993), https://doi.org/10.1007/978-3-540-78862-1
"""

from collections.abc import Callable, Sequence

from torch import Tensor

Field = Callable[[Tensor, float], Tensor]
"""Maps states (N, ...) and a time to their velocities, of the same shape."""


def heun(field: Field, x: Tensor, times: Sequence[float]) -> Tensor:
    """Returns the states at the last time by Heun's method, which is of second order: two evaluations per step.

    Args:
        field: The velocity v.
        x: States at the first time, shape (N, ...).
        times: Ends of the steps in their order, rising or falling.
    """
    for start, stop in zip(times, times[1:], strict=False):
        step = stop - start
        slope = field(x, start)
        x = x + step / 2 * (slope + field(x + step * slope, stop))
    return x


def runge_kutta(field: Field, x: Tensor, times: Sequence[float]) -> Tensor:
    """Returns the states at the last time by the classical Runge-Kutta method of fourth order; arguments as ``heun``.

    It takes four evaluations per step.
    """
    for start, stop in zip(times, times[1:], strict=False):
        step, middle = stop - start, (start + stop) / 2
        first = field(x, start)
        second = field(x + step / 2 * first, middle)
        third = field(x + step / 2 * second, middle)
        fourth = field(x + step * third, stop)
        x = x + step / 6 * (first + 2 * second + 2 * third + fourth)
    return x
