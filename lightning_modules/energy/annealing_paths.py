"""Paths of distributions from a base with a known normaliser to an energy-based model; see ``partition``."""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from lightning_modules.parts.checks import as_count
from lightning_modules.parts.mcmc import BEST_ACCEPTANCE, Energy, hmc_step, mala_step
from lightning_modules.parts.noise import new_generator
from lightning_modules.parts.precision import in_finest, in_float64, without_autocast

SALAKHUTDINOV = "salakhutdinov"
KERNELS = ("hmc", "mala")
PILOT_STEPS, PILOT_RATE = 50, 0.2

State = TypeVar("State")


def linear(num_temperatures: int) -> list[float]:
    """Returns inverse temperatures from 0 to 1 in equal steps, both ends included."""
    num_temperatures = as_count("num_temperatures", num_temperatures, 2, ", for the ends 0 and 1")
    return [step / (num_temperatures - 1) for step in range(num_temperatures)]


def salakhutdinov() -> list[float]:
    """Returns the 14 503 inverse temperatures of the RBM literature.

    Steps of 1/1000 up to 0.5, of 1/10 000 up to 0.9 and of 1/100 000 up to 1; the two joints occur twice.
    """
    first = [step / 1000 for step in range(501)]
    second = [step / 10_000 for step in range(5000, 9001)]
    third = [step / 100_000 for step in range(90_000, 100_001)]
    return first + second + third


def temperatures(schedule: str | int | Sequence[float]) -> list[float]:
    """Returns inverse temperatures: a number of them in equal steps, those of ``"salakhutdinov"``, or a given list.

    Raises:
        ValueError: If a list does not rise from 0 to 1, the name is unknown, or it is none of these.
    """
    if isinstance(schedule, int) or getattr(schedule, "ndim", None) == 0:  # a number, also of numpy or torch
        as_count("schedule", schedule, 2, ": the number of temperatures, with both ends 0 and 1")
        return linear(schedule)  # type: ignore[arg-type]
    if isinstance(schedule, str) and schedule == SALAKHUTDINOV:
        return salakhutdinov()
    if isinstance(schedule, str) or not hasattr(schedule, "__iter__"):
        raise ValueError(f"schedule={schedule!r} must be {SALAKHUTDINOV!r}, a number of temperatures or a list.")
    betas = [float(beta) for beta in schedule]
    rises = all(before <= after for before, after in pairwise(betas))
    if len(betas) < 2 or betas[0] != 0 or betas[-1] != 1 or not rises:
        raise ValueError("schedule: inverse temperatures must rise from exactly 0 to exactly 1.")
    return betas


class AnnealingPath(Protocol[State]):
    """Unnormalised distributions f_beta from a base that can be sampled exactly (beta 0) to a model (beta 1).

    A ``State`` holds chains, one per row, and values that later calls reuse.
    """

    base_log_partition: float
    """log Z of f_0, nats."""

    def start(self, num_chains: int, generator: Generator) -> State:
        """Samples the base."""
        ...

    def observe(self, x: Tensor) -> State:
        """Sets chains to examples (N, ...)."""
        ...

    def values(self, state: State) -> Tensor:
        """Returns the present points of the chains, (N, ...)."""
        ...

    def log_density(self, state: State, beta: float) -> Tensor:
        """Returns log f_beta, nats, shape (N,)."""
        ...

    def log_ratio(self, state: State, before: float, after: float) -> Tensor:
        """Returns log f_after - log f_before, nats, shape (N,), without the rounding of a difference of sums."""
        ...

    def step(self, state: State, beta: float, generator: Generator) -> tuple[State, Tensor | float]:
        """Moves chains by a kernel that is reversible under f_beta; also returns the acceptance rate."""
        ...


class GibbsState(NamedTuple):
    """Visible units (N, D) of an RBM, in {0, 1}, and the input of the hidden units, v W + c, shape (N, H)."""

    visible: Tensor
    hidden_input: Tensor


class RBMPath:
    """From independent visible units at given rates to an RBM, by block Gibbs sampling: two matrix products per step.

    f_beta(v) = exp(v ((1 - beta) a_0 + beta a)) prod_j (1 + exp(beta (v W + c)_j)): f_0 is the RBM of biases a_0
    and no weights, and log Z_0 = sum_i softplus(a_0i) + H log 2.

    Args:
        weight: W, shape (D, H).
        visible_bias: a, shape (D,).
        hidden_bias: c, shape (H,).
        base_bias: a_0, shape (D,), finite: logits of the data's mean rates. Zeros make the base uniform, which needs
            many more temperatures.
    """

    def __init__(self, weight: Tensor, visible_bias: Tensor, hidden_bias: Tensor, base_bias: Tensor) -> None:
        self.weight, self.visible_bias, self.hidden_bias = weight, visible_bias, hidden_bias
        self.base_bias = base_bias.to(visible_bias)
        self.back = weight.T.contiguous()
        base = F.softplus(in_float64(self.base_bias)).sum()
        self.base_log_partition = base.item() + weight.shape[1] * math.log(2)

    @property
    def device(self) -> torch.device:
        """The device of the RBM's parameters."""
        return self.weight.device

    def start(self, num_chains: int, generator: Generator) -> GibbsState:
        """Samples each visible unit with its base rate."""
        return self.observe(bernoulli(self.base_bias.expand(num_chains, -1), generator))

    @without_autocast
    def observe(self, x: Tensor) -> GibbsState:
        """Sets chains to examples (N, ...) in {0, 1}, flattened."""
        visible = x.flatten(1).to(self.weight)
        return GibbsState(visible, torch.addmm(self.hidden_bias, visible, self.weight))

    def values(self, state: GibbsState) -> Tensor:
        """Returns the visible units, (N, D)."""
        return state.visible

    @without_autocast
    def log_density(self, state: GibbsState, beta: float) -> Tensor:
        """Returns log f_beta of the visible units, shape (N,)."""
        visible = state.visible @ ((1 - beta) * self.base_bias + beta * self.visible_bias)
        return visible + F.softplus(beta * state.hidden_input).sum(1)

    @without_autocast
    def log_ratio(self, state: GibbsState, before: float, after: float) -> Tensor:
        """Returns log f_after - log f_before, shape (N,).

        softplus(y) = max(y, 0) + log(1 + exp(-|y|)); its second term lies in [0, log 2] and its differences are taken
        unit by unit. A difference of two large sums would leave a rounding error at each of thousands of steps.
        """
        x, difference = state.hidden_input, after - before
        size = -x.abs()
        upper, lower = (after * size).exp_(), (before * size).exp_()
        bounded = upper.sub_(lower).div_(lower.add_(1)).log1p_()
        linear_part = state.visible @ (self.visible_bias - self.base_bias) + x.relu().sum(1)
        return difference * linear_part + bounded.sum(1)

    @without_autocast
    def step(self, state: GibbsState, beta: float, generator: Generator) -> tuple[GibbsState, float]:
        """Samples hidden units given visible ones, then visible given hidden: reversible on the visible units."""
        hidden = bernoulli(beta * state.hidden_input, generator)
        bias = (1 - beta) * self.base_bias + beta * self.visible_bias
        visible = bernoulli(torch.addmm(bias, hidden, self.back, alpha=beta), generator)
        return GibbsState(visible, torch.addmm(self.hidden_bias, visible, self.weight)), 1.0


class MetropolisState(NamedTuple):
    """Points (N, ...) and their energies (N,)."""

    x: Tensor
    energy: Tensor


class EnergyPath:
    """From a Gaussian to any differentiable energy, f_beta = N(x; mean, scale^2)^(1 - beta) exp(-beta E(x)).

    Args:
        energy: E, in nats; maps (N, *shape) to (N,).
        shape: Shape of one example.
        mean: Mean of the base in every coordinate, or a tensor of ``shape``.
        scale: Its standard deviation. The base should cover the model, or the weights will have a heavy tail.
        kernel: ``"hmc"`` or ``"mala"``; both with an acceptance step, without which the weights would be biased.
        step_size: Step size of the kernel as in ``parts.mcmc``, or a function of beta, as ``tuned`` finds it.
        num_leapfrog: Leapfrog steps of ``"hmc"``.
        device: Device of chains.
        dtype: Floating-point type of chains.

    Raises:
        ValueError: If the kernel is unknown, or a number is not positive.
    """

    def __init__(
        self,
        energy: Energy,
        shape: Sequence[int],
        *,
        mean: float | Tensor = 0.0,
        scale: float = 1.0,
        kernel: str = "hmc",
        step_size: float | Callable[[float], float] = 0.1,
        num_leapfrog: int = 10,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if kernel not in KERNELS:
            raise ValueError(f"kernel={kernel!r} must be one of {', '.join(KERNELS)}.")
        if not scale > 0 or num_leapfrog < 1 or (not callable(step_size) and not step_size > 0):
            raise ValueError(
                f"scale={scale} and step_size={step_size} must be positive and num_leapfrog={num_leapfrog} at least 1."
            )
        self.energy, self.kernel, self.num_leapfrog = energy, kernel, num_leapfrog
        self.mean = torch.as_tensor(mean, dtype=dtype, device=device).expand(tuple(shape))
        self.scale = scale
        self.step_size = step_size if callable(step_size) else constant(step_size)
        self.base_log_partition = 0.0  # the base is normalised

    def base_energy(self, x: Tensor) -> Tensor:
        """Returns -log N(x; mean, scale^2), shape (N,)."""
        z = (x - self.mean) / self.scale
        constant_part = math.log(2 * math.pi) / 2 + math.log(self.scale)
        return 0.5 * z.square().flatten(1).sum(1) + self.mean.numel() * constant_part

    def start(self, num_chains: int, generator: Generator) -> MetropolisState:
        """Samples the Gaussian."""
        shape = (num_chains, *self.mean.shape)
        normal = torch.randn(shape, generator=generator, device=generator.device, dtype=self.mean.dtype)
        return self.observe(self.mean + self.scale * normal.to(self.mean.device))

    def observe(self, x: Tensor) -> MetropolisState:
        """Sets chains to points (N, *shape)."""
        x = x.to(self.mean)
        return MetropolisState(x, self.energy(x).detach())

    def values(self, state: MetropolisState) -> Tensor:
        """Returns the points, (N, *shape)."""
        return state.x

    def log_density(self, state: MetropolisState, beta: float) -> Tensor:
        """Returns log f_beta, shape (N,)."""
        base = -(1 - beta) * self.base_energy(state.x)
        return base - beta * state.energy if beta else base

    def log_ratio(self, state: MetropolisState, before: float, after: float) -> Tensor:
        """Returns log f_after - log f_before, shape (N,)."""
        return (after - before) * (self.base_energy(state.x) - state.energy)

    def step(self, state: MetropolisState, beta: float, generator: Generator) -> tuple[MetropolisState, Tensor]:
        """Makes one step of Hamiltonian or Langevin dynamics, with an acceptance step."""

        def annealed(x: Tensor) -> Tensor:
            return (1 - beta) * self.base_energy(x) + beta * self.energy(x)

        step_size = self.step_size(beta)
        if self.kernel == "hmc":
            x, accepted = hmc_step(annealed, state.x, step_size, self.num_leapfrog, generator)
        else:
            x, accepted = mala_step(annealed, state.x, step_size, generator)
        return self.observe(x), in_finest(accepted).mean()

    def tuned(
        self,
        schedule: str | int | Sequence[float],
        *,
        num_chains: int = 50,
        generator: Generator | None = None,
    ) -> "EnergyPath":
        """Returns the same path with step sizes from a pilot run, one for each temperature.

        The chains of the pilot run are discarded, because step sizes that depend on a chain's own history would bias
        its weight.
        """
        generator, betas, found = generator or new_generator(), temperatures(schedule), []
        size = self.step_size(0.0)
        pilot = EnergyPath(
            self.energy,
            self.mean.shape,
            mean=self.mean,
            scale=self.scale,
            kernel=self.kernel,
            step_size=lambda beta: size,
            num_leapfrog=self.num_leapfrog,
            device=self.mean.device,
            dtype=self.mean.dtype,
        )
        with torch.no_grad():
            state = pilot.start(num_chains, generator)
            for _ in range(PILOT_STEPS):
                state, accepted = pilot.step(state, 0.0, generator)
                size *= math.exp(accepted.item() - BEST_ACCEPTANCE[self.kernel])
            for beta in betas:
                state, accepted = pilot.step(state, beta, generator)
                found.append(size)
                size *= math.exp(PILOT_RATE * (accepted.item() - BEST_ACCEPTANCE[self.kernel]))
        pilot.step_size = lambda beta: found[min(bisect_left(betas, beta), len(found) - 1)]
        return pilot


def constant(value: float) -> Callable[[float], float]:
    """Returns a function that always returns ``value``."""
    return lambda _: value


def bernoulli(logits: Tensor, generator: Generator) -> Tensor:
    """Samples units in {0, 1} that are 1 with probability sigmoid(logits), in the type of ``logits``."""
    uniform = torch.rand(logits.shape, generator=generator, device=generator.device, dtype=logits.dtype)
    return (uniform.to(logits.device) < logits.sigmoid()).to(logits.dtype)
