"""Partition functions and likelihoods of energy-based models: annealed importance sampling, its reverse, enumeration.

A model known as exp(-E(x)) is normalised by log Z (eq. 1.19), a sum or an integral over all x. Annealed importance
sampling (AIS) walks from a base distribution, whose normaliser is known, through a path of distributions f_beta,
0 = beta_0 <= ... <= beta_K = 1, to the model; chains are weighted by the ratios that they pass, and the mean weight
estimates Z. All chains are the rows of one tensor.

NOTE: The mean weight is unbiased for Z, so its logarithm is low in expectation, and log-likelihoods under it come out
high. The reverse (RAISE) starts at a held-out example and walks back: it is a stochastic lower bound of log p_ann, the
law of the last state of the forward chain, and not of the model's log p, which p_ann nears as K grows. With few
temperatures p_ann may put more mass on data than the model does, and the bound then lies above log p.

NOTE: Where the effective sample size is small a handful of chains decides, and the standard error itself is not to be
trusted: errors of 0.7 nats have been seen at a standard error below 0.6 and 3.8 effective chains of 100.

Annealed Importance Sampling (Neal, 2001), https://arxiv.org/abs/physics/9803008
On the quantitative analysis of deep belief networks (Salakhutdinov and Murray, 2008),
https://doi.org/10.1145/1390156.1390266
Accurate and conservative estimates of MRF log-likelihood using reverse annealing (Burda, Grosse and Salakhutdinov,
2015), https://arxiv.org/abs/1412.8566
"""

import math
import warnings
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from tqdm import tqdm

from lightning_modules.parts.mcmc import Energy, effective_sample_size, hmc_step, mala_step
from lightning_modules.parts.noise import new_generator

MAX_ENUMERATED = 25
BLOCK = 2**14
"""States that are enumerated at once."""
SALAKHUTDINOV = "salakhutdinov"
KERNELS = ("hmc", "mala")
TARGETS = {"hmc": 0.65, "mala": 0.57}  # acceptance at which these chains move fastest in many dimensions

State = TypeVar("State")


class LowEffectiveSampleSize(UserWarning):
    """Fewer than half the chains count: the estimate and its standard error are not to be trusted."""


# Temperatures


def linear(num_temperatures: int) -> list[float]:
    """Returns inverse temperatures from 0 to 1 in equal steps, both ends included."""
    if not isinstance(num_temperatures, int) or num_temperatures < 2:
        raise ValueError(
            f"num_temperatures={num_temperatures!r} must be an integer of at least 2, for the ends 0 and 1."
        )
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
    """Returns inverse temperatures: a number of them in equal steps, ``"salakhutdinov"``, or a list of one's own.

    Raises:
        ValueError: If a list does not rise from 0 to 1, or the name is unknown.
    """
    if isinstance(schedule, int):
        return linear(schedule)
    if isinstance(schedule, str):
        if schedule != SALAKHUTDINOV:
            raise ValueError(f"schedule={schedule!r} must be {SALAKHUTDINOV!r}, a number of temperatures or a list.")
        return salakhutdinov()
    betas = [float(beta) for beta in schedule]
    rises = all(before <= after for before, after in pairwise(betas))
    if len(betas) < 2 or betas[0] != 0 or betas[-1] != 1 or not rises:
        raise ValueError("schedule: inverse temperatures must rise from exactly 0 to exactly 1.")
    return betas


# Paths from a base distribution to a model


class AnnealingPath(Protocol[State]):
    """Distributions f_beta from a base that can be drawn from exactly (beta 0) to a model (beta 1), unnormalised.

    A ``State`` holds chains, one a row, with what is worth keeping of them from one call to the next.
    """

    base_log_partition: float
    """log Z of f_0, nats."""

    def start(self, num_chains: int, generator: Generator) -> State:
        """Draws from the base."""
        ...

    def observe(self, x: Tensor) -> State:
        """Sets chains to examples (N, ...)."""
        ...

    def values(self, state: State) -> Tensor:
        """Returns where the chains are, (N, ...)."""
        ...

    def log_density(self, state: State, beta: float) -> Tensor:
        """Returns log f_beta, nats, shape (N,)."""
        ...

    def log_ratio(self, state: State, before: float, after: float) -> Tensor:
        """Returns log f_after - log f_before, nats, shape (N,), without the rounding of a difference of sums."""
        ...

    def step(self, state: State, beta: float, generator: Generator) -> tuple[State, Tensor | float]:
        """Moves chains by a kernel that is reversible under f_beta; also returns the share that was accepted."""
        ...


class GibbsState(NamedTuple):
    """Visible units (N, D) of an RBM, in {0, 1}, and what they send to the hidden ones, v W + c, shape (N, H)."""

    visible: Tensor
    hidden_input: Tensor


class RBMPath:
    """From independent visible units at given rates to an RBM, by block Gibbs sampling: two matrix products a step.

    f_beta(v) = exp(v ((1 - beta) a_0 + beta a)) prod_j (1 + exp(beta (v W + c)_j)): f_0 is the RBM of biases a_0
    and no weights, and log Z_0 = sum_i softplus(a_0i) + H log 2.

    Args:
        weight: W, shape (D, H).
        visible_bias: a, shape (D,).
        hidden_bias: c, shape (H,).
        base_bias: a_0, shape (D,), finite: logits of the data's mean rates. Zeros make the base uniform, which takes
            many more temperatures.
    """

    def __init__(self, weight: Tensor, visible_bias: Tensor, hidden_bias: Tensor, base_bias: Tensor) -> None:
        self.weight, self.visible_bias, self.hidden_bias = weight, visible_bias, hidden_bias
        self.base_bias = base_bias.to(visible_bias)
        self.back = weight.T.contiguous()
        base = F.softplus(self.base_bias.double()).sum()
        self.base_log_partition = base.item() + weight.shape[1] * math.log(2)

    def start(self, num_chains: int, generator: Generator) -> GibbsState:
        """Draws each visible unit by its base rate."""
        return self.observe(bernoulli(self.base_bias.expand(num_chains, -1), generator))

    def observe(self, x: Tensor) -> GibbsState:
        """Takes examples (N, ...) in {0, 1}, flattened."""
        visible = x.flatten(1).to(self.weight)
        return GibbsState(visible, torch.addmm(self.hidden_bias, visible, self.weight))

    def values(self, state: GibbsState) -> Tensor:
        """Returns the visible units, (N, D)."""
        return state.visible

    def log_density(self, state: GibbsState, beta: float) -> Tensor:
        """Returns log f_beta of the visible units, shape (N,)."""
        visible = state.visible @ ((1 - beta) * self.base_bias + beta * self.visible_bias)
        return visible + F.softplus(beta * state.hidden_input).sum(1)

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

    def step(self, state: GibbsState, beta: float, generator: Generator) -> tuple[GibbsState, float]:
        """Draws hidden units given visible ones and these anew: reversible on the visible units."""
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
        kernel: ``"hmc"`` or ``"mala"``; both with the accept step, without which the weights would be biased.
        step_size: Of the kernel, as ``parts.mcmc`` takes it, or a function of beta, as ``tuned`` makes it.
        num_leapfrog: Leapfrog steps of ``"hmc"``.
        device: Where chains live.
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
        """Draws from the Gaussian."""
        shape = (num_chains, *self.mean.shape)
        normal = torch.randn(shape, generator=generator, device=generator.device, dtype=self.mean.dtype)
        return self.observe(self.mean + self.scale * normal.to(self.mean.device))

    def observe(self, x: Tensor) -> MetropolisState:
        """Takes points (N, *shape)."""
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
        """One step of Hamiltonian or Langevin dynamics, accepted or refused."""

        def annealed(x: Tensor) -> Tensor:
            return (1 - beta) * self.base_energy(x) + beta * self.energy(x)

        step_size = self.step_size(beta)
        if self.kernel == "hmc":
            x, accepted = hmc_step(annealed, state.x, step_size, self.num_leapfrog, generator)
        else:
            x, accepted = mala_step(annealed, state.x, step_size, generator)
        return self.observe(x), accepted.double().mean()

    def tuned(
        self,
        schedule: str | int | Sequence[float],
        *,
        num_chains: int = 50,
        generator: Generator | None = None,
    ) -> "EnergyPath":
        """Returns the same path with step sizes that a pilot run has found, one for each temperature.

        The chains of the pilot run are thrown away: step sizes that a chain adapts to its own history would leave its
        weight biased.
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
                size *= math.exp(accepted.item() - TARGETS[self.kernel])
            for beta in betas:
                state, accepted = pilot.step(state, beta, generator)
                found.append(size)
                size *= math.exp(PILOT_RATE * (accepted.item() - TARGETS[self.kernel]))
        pilot.step_size = lambda beta: found[min(bisect_left(betas, beta), len(found) - 1)]
        return pilot


PILOT_STEPS, PILOT_RATE = 50, 0.2


def constant(value: float) -> Callable[[float], float]:
    """Returns the function that is ``value`` everywhere."""
    return lambda _: value


def bernoulli(logits: Tensor, generator: Generator) -> Tensor:
    """Draws units in {0, 1} that are 1 with probability sigmoid(logits), in the type of ``logits``."""
    uniform = torch.rand(logits.shape, generator=generator, device=generator.device, dtype=logits.dtype)
    return (uniform.to(logits.device) < logits.sigmoid()).to(logits.dtype)


# Estimates


@dataclass(frozen=True)
class PartitionEstimate:
    """log Z as annealed importance sampling estimates it; the mean of the weights is unbiased for Z.

    Attributes:
        log_partition: Logarithm of the mean weight, nats; low in expectation.
        standard_error: Of ``log_partition``, by the delta method, nats.
        effective_sample_size: (sum w)^2 / sum w^2, between 1 and ``num_chains``.
        num_chains: Independent chains.
        num_temperatures: Inverse temperatures, both ends included.
        acceptance: Mean share of accepted moves; 1 for Gibbs sampling.
        log_weights: Of each chain, float64 (num_chains,).
        samples: Last states of the chains, draws of p_ann; weighted they are draws of the model.
    """

    log_partition: float
    standard_error: float
    effective_sample_size: float
    num_chains: int
    num_temperatures: int
    acceptance: float
    log_weights: Tensor
    samples: Tensor

    def interval(self, deviations: float = 3.0) -> tuple[float, float]:
        """Returns log(mean weight -+ so many standard errors of it); the lower end may be -infinity."""
        width = deviations * self.standard_error
        lower = math.log1p(-width) if width < 1 else -math.inf
        return self.log_partition + lower, self.log_partition + math.log1p(width)

    @property
    def is_trustworthy(self) -> bool:
        """Whether at least half the chains count."""
        return self.effective_sample_size >= self.num_chains / 2


@dataclass(frozen=True)
class ReverseEstimate:
    """Log-likelihoods by reverse annealing: stochastic lower bounds of log p_ann, in nats.

    Attributes:
        log_likelihood: Of each example, float64 (N,): the logarithm of the mean weight of its chains. Its expectation
            is at most log p_ann(x).
        mean: Over the examples.
        standard_error: Of ``mean``, over the examples; ``nan`` for one of them.
        effective_sample_size: Of each example's chains, (N,).
        num_chains: Chains an example.
        num_temperatures: Inverse temperatures, both ends included.
    """

    log_likelihood: Tensor
    mean: float
    standard_error: float
    effective_sample_size: Tensor
    num_chains: int
    num_temperatures: int


@torch.no_grad()
def annealed_importance_sampling(
    path: AnnealingPath[State],
    schedule: str | int | Sequence[float] = SALAKHUTDINOV,
    *,
    num_chains: int = 100,
    generator: Generator | None = None,
) -> PartitionEstimate:
    """Estimates log Z of the model at the end of ``path``.

    Args:
        path: ``RBMPath`` or ``EnergyPath``.
        schedule: A number of inverse temperatures in equal steps, ``"salakhutdinov"``, or a list from 0 to 1.
        num_chains: At least 2.
        generator: Source of all randomness; ``None`` takes a fresh seed from the system.

    Returns:
        The estimate with its standard error and effective sample size. A ``LowEffectiveSampleSize`` is warned of where
        fewer than half the chains count.

    Raises:
        ValueError: If an argument is out of range.
        FloatingPointError: If a weight is no number, with the temperature.
    """
    if num_chains < 2:
        raise ValueError(f"num_chains={num_chains} must be at least 2: a standard error needs two.")
    betas, generator = temperatures(schedule), generator or new_generator()
    state = path.start(num_chains, generator)
    log_weights, accepted = torch.full((num_chains,), path.base_log_partition, dtype=torch.float64), torch.zeros(())
    for before, after in progress(list(pairwise(betas)), "AIS"):
        log_weights += path.log_ratio(state, before, after).double().to(log_weights.device)
        check_weights(log_weights, after)
        state, share = path.step(state, after, generator)
        accepted = accepted + share
    estimate = estimate_from(log_weights, len(betas), accepted.item() / (len(betas) - 1), path.values(state))
    if not estimate.is_trustworthy:
        warnings.warn(
            f"AIS: only {estimate.effective_sample_size:.1f} of {num_chains} chains count (effective sample size), so "
            f"log Z = {estimate.log_partition:.2f} and its standard error are not to be trusted. More temperatures "
            f"than {len(betas)}, or a base nearer to the model, are the remedies.",
            LowEffectiveSampleSize,
            stacklevel=3,
        )
    return estimate


@torch.no_grad()
def reverse_annealed_importance_sampling(
    path: AnnealingPath[State],
    x: Tensor,
    schedule: str | int | Sequence[float] = SALAKHUTDINOV,
    *,
    num_chains: int = 1,
    generator: Generator | None = None,
) -> ReverseEstimate:
    """Estimates log p_ann of examples, from below: chains start at them and walk back to the base.

    p_ann is the law of the last state of the chain that ``annealed_importance_sampling`` runs with the same schedule.

    Args:
        path: ``RBMPath`` or ``EnergyPath``.
        x: Examples, shape (N, ...).
        schedule: As in ``annealed_importance_sampling``.
        num_chains: Chains an example; more of them tighten the bound.
        generator: Source of all randomness; ``None`` takes a fresh seed from the system.

    Raises:
        ValueError: If an argument is out of range.
        FloatingPointError: If a weight is no number, with the temperature.
    """
    if num_chains < 1 or len(x) < 1:
        raise ValueError(f"num_chains={num_chains} and the number of examples, {len(x)}, must be at least 1.")
    betas, generator = temperatures(schedule), generator or new_generator()
    state = path.observe(x.repeat_interleave(num_chains, 0))
    log_weights = path.log_density(state, 1.0).double().cpu() - path.base_log_partition
    for before, after in progress(list(pairwise(betas))[::-1], "RAISE"):
        state, _ = path.step(state, after, generator)
        log_weights += path.log_ratio(state, after, before).double().cpu()
        check_weights(log_weights, before)
    weights = log_weights.view(len(x), num_chains)
    values = weights.logsumexp(1) - math.log(num_chains)
    error = values.std().item() / math.sqrt(len(x)) if len(x) > 1 else math.nan
    sizes = effective_sample_size(weights, 1)
    return ReverseEstimate(values, values.mean().item(), error, sizes, num_chains, len(betas))


@torch.no_grad()
def exact_log_partition(
    energy: Energy, num_units: int, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64
) -> float:
    """Returns log of the sum of exp(-E) over all states of binary units, nats.

    Args:
        energy: Maps states (N, num_units) in {0, 1} to energies (N,). For an RBM the free energy of the layer with
            fewer units.
        num_units: At most 25: each more doubles the time.
        device: Where to compute.
        dtype: Of the states.

    Raises:
        ValueError: If there are more than 25 units.
    """
    if not 1 <= num_units <= MAX_ENUMERATED:
        raise ValueError(
            f"num_units={num_units}: up to {MAX_ENUMERATED} binary units can be enumerated; estimate log Z with "
            "annealed_importance_sampling."
        )
    places, sums = torch.arange(num_units, device=device), []
    for start in progress(range(0, 2**num_units, BLOCK), "states"):
        states = torch.arange(start, min(start + BLOCK, 2**num_units), device=device)
        sums.append((-energy((states[:, None] >> places & 1).to(dtype))).double().logsumexp(0))
    return torch.stack(sums).logsumexp(0).item()


def estimate_from(log_weights: Tensor, num_temperatures: int, acceptance: float, samples: Tensor) -> PartitionEstimate:
    """Summarises the weights of independent chains."""
    num = len(log_weights)
    total = log_weights.logsumexp(0)
    # Relative to the mean weight; the s.e. of a logarithm is the relative one of its argument.
    relative = (log_weights - total).exp() * num
    return PartitionEstimate(
        log_partition=total.item() - math.log(num),
        standard_error=(relative.std() / math.sqrt(num)).item(),
        effective_sample_size=effective_sample_size(log_weights).item(),
        num_chains=num,
        num_temperatures=num_temperatures,
        acceptance=acceptance,
        log_weights=log_weights,
        samples=samples,
    )


def check_weights(log_weights: Tensor, beta: float) -> None:
    """Raises FloatingPointError for a weight that is no number or infinite; a weight of zero is one."""
    fine = log_weights < math.inf
    if not fine.all():
        wrong = log_weights[~fine][0].item()
        raise FloatingPointError(
            f"At the inverse temperature {beta:g} a chain has the log-weight {wrong:g}: the energy is no number, "
            "or falls without bound there. A smaller step_size, or a model that is bounded, is the remedy."
        )


def progress(steps: Sequence[State], what: str) -> "tqdm[State]":
    """Shows a bar on a terminal while the steps are walked through."""
    return tqdm(steps, desc=what, leave=False, disable=None)
