"""Partition functions and likelihoods of energy-based models: annealed importance sampling, its reverse, enumeration.

The density of a model exp(-E(x)) needs the normaliser log Z (eq. 1.19), a sum or an integral over all x. Annealed
importance sampling (AIS) runs chains from a base distribution with a known normaliser along a path of distributions
f_beta, 0 = beta_0 <= ... <= beta_K = 1, to the model. The weight of a chain is the product of the density ratios along
the path, and the mean weight estimates Z. All chains are the rows of one tensor.

NOTE: The mean weight is unbiased for Z, so its logarithm is low in expectation, and log-likelihoods with it are too
high. The reverse (RAISE) starts at a held-out example and runs back to the base. It gives a stochastic lower bound of
log p_ann, not of the model's log p; p_ann is the distribution of the last state of the forward chain, and approaches p
as K grows. With few temperatures p_ann may put more mass on data than the model, and the bound is then above log p.

NOTE: If the effective sample size is small, a few chains dominate, and the standard error itself is not reliable:
errors of 0.7 nats have been seen at a standard error below 0.6 and an effective sample size of 3.8 out of 100.

Annealed Importance Sampling (Neal, 2001), https://arxiv.org/abs/physics/9803008
On the quantitative analysis of deep belief networks (Salakhutdinov and Murray, 2008),
https://doi.org/10.1145/1390156.1390266
Accurate and conservative estimates of MRF log-likelihood using reverse annealing (Burda, Grosse and Salakhutdinov,
2015), https://arxiv.org/abs/1412.8566
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor
from tqdm import tqdm

from lightning_modules.energy.annealing_paths import SALAKHUTDINOV, AnnealingPath, State, temperatures
from lightning_modules.parts.checks import as_count
from lightning_modules.parts.mcmc import Energy, effective_sample_size
from lightning_modules.parts.noise import new_generator
from lightning_modules.parts.normalizers import LogPartition
from lightning_modules.parts.precision import in_float64

MAX_ENUMERATED = 25
BLOCK = 2**14
"""Number of states that are enumerated at once."""


class LowEffectiveSampleSize(UserWarning):
    """The effective sample size is below half the number of chains: the estimate and its error are not reliable."""


@dataclass(frozen=True)
class PartitionEstimate(LogPartition):
    """An estimate of log Z by annealed importance sampling; the mean of the weights is unbiased for Z.

    Attributes:
        log_partition: Logarithm of the mean weight, nats; low in expectation.
        standard_error: Standard error of ``log_partition``, by the delta method, nats.
        source: ``"ais"``.
        effective_sample_size: (sum w)^2 / sum w^2, between 1 and ``num_chains``.
        num_chains: Number of independent chains.
        num_temperatures: Number of inverse temperatures, both ends included.
        acceptance: Mean acceptance rate; 1 for Gibbs sampling.
        log_weights: Log-weight of each chain, float64 (num_chains,).
        samples: Last states of the chains: samples of p_ann, and with their weights samples of the model.
    """

    effective_sample_size: float
    num_chains: int
    num_temperatures: int
    acceptance: float
    log_weights: Tensor
    samples: Tensor

    def interval(self, deviations: float = 3.0) -> tuple[float, float]:
        """Returns log(mean weight -+ ``deviations`` standard errors of it); the lower end may be -infinity."""
        width = deviations * self.standard_error
        lower = math.log1p(-width) if width < 1 else -math.inf
        return self.log_partition + lower, self.log_partition + math.log1p(width)

    @property
    def is_trustworthy(self) -> bool:
        """Whether the effective sample size is at least half the number of chains."""
        return self.effective_sample_size >= self.num_chains / 2


@dataclass(frozen=True)
class ReverseEstimate:
    """Log-likelihoods by reverse annealing: stochastic lower bounds of log p_ann, in nats.

    Attributes:
        log_likelihood: Logarithm of the mean weight of each example's chains, float64 (N,). Its expectation is at most
            log p_ann(x).
        mean: Mean over the examples.
        standard_error: Standard error of ``mean`` over the examples; ``nan`` for a single example.
        effective_sample_size: Effective sample size of each example's chains, (N,).
        num_chains: Chains per example.
        num_temperatures: Number of inverse temperatures, both ends included.
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
        num_chains: Number of chains, at least 2.
        generator: Source of all random numbers; ``None`` takes a fresh seed from the system.

    Returns:
        The estimate with its standard error and effective sample size. If the latter is below half the number of
        chains, a ``LowEffectiveSampleSize`` warning is issued.

    Raises:
        ValueError: If an argument is out of range.
        FloatingPointError: If a weight is NaN or infinite; the message names the inverse temperature.
    """
    num_chains = as_count("num_chains", num_chains, 2, ": a standard error needs two")
    betas, generator = temperatures(schedule), generator or new_generator()
    state = path.start(num_chains, generator)
    log_weights, accepted = torch.full((num_chains,), path.base_log_partition, dtype=torch.float64), torch.zeros(())
    for before, after in progress(list(pairwise(betas)), "AIS"):
        log_weights += in_float64(path.log_ratio(state, before, after)).to(log_weights.device)
        check_weights(log_weights, after)
        state, share = path.step(state, after, generator)
        accepted = accepted + share
    estimate = estimate_from(log_weights, len(betas), accepted.item() / (len(betas) - 1), path.values(state))
    if not estimate.is_trustworthy:
        warnings.warn(
            f"AIS: the effective sample size is only {estimate.effective_sample_size:.1f} of {num_chains} chains, so "
            f"log Z = {estimate.log_partition:.2f} and its standard error are not reliable. Use more than {len(betas)} "
            "temperatures, or a base closer to the model.",
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
    """Estimates log p_ann of examples, from below: chains start at the examples and run back to the base.

    p_ann is the distribution of the last state of the chain that ``annealed_importance_sampling`` runs with the same
    schedule.

    Args:
        path: ``RBMPath`` or ``EnergyPath``.
        x: Examples, shape (N, ...).
        schedule: As in ``annealed_importance_sampling``.
        num_chains: Chains per example; more of them tighten the bound.
        generator: Source of all random numbers; ``None`` takes a fresh seed from the system.

    Raises:
        ValueError: If an argument is out of range.
        FloatingPointError: If a weight is NaN or infinite; the message names the inverse temperature.
    """
    num_chains = as_count("num_chains", num_chains)
    if len(x) < 1:
        raise ValueError(f"The number of examples, {len(x)}, must be at least 1.")
    betas, generator = temperatures(schedule), generator or new_generator()
    state = path.observe(x.repeat_interleave(num_chains, 0))
    log_weights = path.log_density(state, 1.0).cpu().double() - path.base_log_partition
    for before, after in progress(list(pairwise(betas))[::-1], "RAISE"):
        state, _ = path.step(state, after, generator)
        log_weights += path.log_ratio(state, after, before).cpu().double()
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
    """Returns log Z of eq. 1.19, the logarithm of the sum of exp(-E) over all states of binary units, nats.

    Args:
        energy: Maps states (N, num_units) in {0, 1} to energies (N,). For an RBM the free energy of the layer with
            fewer units.
        num_units: Number of units, at most 25: each further one doubles the time.
        device: Device of the computation.
        dtype: Floating-point type of the states.

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
        sums.append(in_float64(-energy((states[:, None] >> places & 1).to(dtype))).logsumexp(0))
    return torch.stack(sums).logsumexp(0).item()


def estimate_from(log_weights: Tensor, num_temperatures: int, acceptance: float, samples: Tensor) -> PartitionEstimate:
    """Summarises the weights of independent chains."""
    num = len(log_weights)
    total = log_weights.logsumexp(0)
    # Relative to the mean weight, because the standard error of a logarithm is the relative error of its argument.
    relative = (log_weights - total).exp() * num
    return PartitionEstimate(
        log_partition=total.item() - math.log(num),
        standard_error=(relative.std() / math.sqrt(num)).item(),
        source="ais",
        effective_sample_size=effective_sample_size(log_weights).item(),
        num_chains=num,
        num_temperatures=num_temperatures,
        acceptance=acceptance,
        log_weights=log_weights,
        samples=samples,
    )


def check_weights(log_weights: Tensor, beta: float) -> None:
    """Raises FloatingPointError if a weight is NaN or infinite; a weight of zero is allowed."""
    fine = log_weights < math.inf
    if not fine.all():
        wrong = log_weights[~fine][0].item()
        raise FloatingPointError(
            f"At the inverse temperature {beta:g} a chain has the log-weight {wrong:g}: the energy is NaN there, "
            "or unbounded below. Use a smaller step_size, or a model with a bounded energy."
        )


def progress(steps: Sequence[State], what: str) -> "tqdm[State]":
    """Iterates over steps with a progress bar on a terminal."""
    return tqdm(steps, desc=what, leave=False, disable=None)
