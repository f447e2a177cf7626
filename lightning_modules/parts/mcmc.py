"""Markov chains for a density known up to a constant, p(x) proportional to exp(-E(x)): batched, pure functions.

An energy maps (N, ...) to nats (N,); every row is an independent chain. ``langevin_step`` discretises the Langevin
diffusion and is biased by its step size; ``mala_step`` and ``hmc_step`` correct that by a Metropolis-Hastings
acceptance step and leave exp(-E) exactly invariant.

NOTE: On a quadratic E = x' L x / 2 the stationary covariance of ``langevin_step`` is L^-1 (I - step_size L / 2)^-1, and
it diverges where step_size times the largest curvature reaches 2.

MCMC using Hamiltonian dynamics (Neal, 2011), https://arxiv.org/abs/1206.1901
Exponential convergence of Langevin distributions and their discrete approximations (Roberts and Tweedie, 1996),
https://doi.org/10.2307/3318418
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from lightning_modules.parts.precision import in_float64

BEST_ACCEPTANCE = {"hmc": 0.65, "mala": 0.57}
"""Shares of proposals that the kernels accept where they mix fastest in high dimensions (Beskos et al., 2013,
https://doi.org/10.3150/12-BEJ414; Roberts and Rosenthal, 1998, https://doi.org/10.1111/1467-9868.00123)."""
Energy = Callable[[Tensor], Tensor]
"""Maps (N, ...) to energies (N,), in nats; row i of the result depends on row i alone."""


def energy_and_gradient(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns E(x), shape (N,), and its gradient by x, in the shape of x, both detached.

    It also works under ``no_grad`` and in ``inference_mode``, in which validation and sampling run.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        values = energy(x)
        (gradient,) = torch.autograd.grad(values.sum(), x)
    return values.detach(), gradient


def langevin_step(
    energy: Energy,
    x: Tensor,
    step_size: float,
    normal: Tensor,
    *,
    noise_scale: float | None = None,
    max_gradient: float | None = None,
) -> Tensor:
    """Makes one step of unadjusted Langevin dynamics, x - step_size grad E(x) + sqrt(2 step_size) z.

    Args:
        energy: The energy, in nats.
        x: Chains, shape (N, ...).
        step_size: Factor of the gradient.
        normal: Standard normal samples z, in the shape of x; an argument, so that training uses its own source.
        noise_scale: Factor of z, by default sqrt(2 step_size). Any other value v samples at the temperature
            v^2 / (2 step_size) instead of 1.
        max_gradient: Entries of the gradient are clamped to [-max_gradient, max_gradient]; ``None`` for no clamping.

    Returns:
        The chains after the step, detached.
    """
    _, gradient = energy_and_gradient(energy, x)
    if max_gradient is not None:
        gradient = gradient.clamp(-max_gradient, max_gradient)
    scale = math.sqrt(2 * step_size) if noise_scale is None else noise_scale
    return x.detach() - step_size * gradient + scale * normal


def mala_step(energy: Energy, x: Tensor, step_size: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Makes one step of the Metropolis-adjusted Langevin algorithm; it leaves exp(-E) invariant at any step size.

    Args:
        energy: The energy, in nats.
        x: Chains, shape (N, ...).
        step_size: As in ``langevin_step``.
        generator: Source of random numbers, which are drawn on its device and moved.

    Returns:
        The chains after the step, and which proposals were accepted, bool (N,).
    """
    normal = _normal_like(x, generator)
    before, gradient = energy_and_gradient(energy, x)
    proposal = x.detach() - step_size * gradient + math.sqrt(2 * step_size) * normal
    after, gradient_after = energy_and_gradient(energy, proposal)
    # log q(y|x) = -|y - x + step grad E(x)|^2 / (4 step) up to a constant; for the forward move it is -|z|^2 / 2.
    backward = -(x - proposal + step_size * gradient_after).square().flatten(1).sum(1) / (4 * step_size)
    forward = -normal.square().flatten(1).sum(1) / 2
    return _accept(x, proposal, before - after + backward - forward, generator)


def hmc_step(
    energy: Energy, x: Tensor, step_size: float, num_leapfrog: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Makes one step of Hamiltonian Monte Carlo with unit masses: new momenta, leapfrog steps, accept or reject.

    Args:
        energy: The energy, in nats.
        x: Chains, shape (N, ...).
        step_size: Time per leapfrog step; stable below 2 / sqrt(largest curvature).
        num_leapfrog: Leapfrog steps, at least 1.
        generator: Source of random numbers, which are drawn on its device and moved.

    Returns:
        The chains after the step, and which proposals were accepted, bool (N,).
    """
    momentum = _normal_like(x, generator)
    before, gradient = energy_and_gradient(energy, x)
    kinetic = momentum.square().flatten(1).sum(1) / 2
    position, after = x.detach(), before
    for _ in range(num_leapfrog):
        momentum = momentum - step_size / 2 * gradient
        position = position + step_size * momentum
        after, gradient = energy_and_gradient(energy, position)
        momentum = momentum - step_size / 2 * gradient
    kinetic_after = momentum.square().flatten(1).sum(1) / 2
    return _accept(x, position, before - after + kinetic - kinetic_after, generator)


def effective_sample_size(log_weights: Tensor, dim: int = 0) -> Tensor:
    """Returns Kish's effective sample size (sum w)^2 / sum w^2 of importance weights: between 1 and their number.

    Near 1 a single sample dominates, and an estimate from these weights, its standard error included, is not reliable.

    Args:
        log_weights: Logarithms of the weights, unnormalised.
        dim: The dimension of the samples.
    """
    return (2 * log_weights.logsumexp(dim) - (2 * log_weights).logsumexp(dim)).exp()


def chain_effective_sample_size(series: Tensor) -> Tensor:
    """Returns the effective sample size of chains, for the mean of a quantity that was recorded along them.

    The autocorrelation at each lag is estimated from the variance within and between chains, so that chains that each
    stay in their own region count at most as their number. Sums of neighbouring lags are added while they are positive,
    after they are made monotonically decreasing (Geyer, 1992). See section 3 of Rank-normalization, folding, and
    localization (Vehtari et al., 2021), https://arxiv.org/abs/1903.08008; without its splitting and ranks.

    Args:
        series: The quantity, shape (steps, chains), steps >= 4.

    Raises:
        ValueError: If there are fewer than four steps.
    """
    steps, chains = series.shape
    if steps < 4:
        raise ValueError(f"{steps} steps are too few to estimate autocorrelations; at least 4 are needed.")
    series = in_float64(series)
    centred = series - series.mean(0)
    spectrum = torch.fft.rfft(centred, n=2 * steps, dim=0)
    autocovariance = torch.fft.irfft(spectrum.abs().square(), n=2 * steps, dim=0)[:steps] / steps
    within = autocovariance[0].mean() * steps / (steps - 1)
    between = series.mean(0).var() if chains > 1 else torch.zeros_like(within)
    variance = within * (steps - 1) / steps + between
    if variance == 0:
        return torch.tensor(float(steps * chains))
    correlation = 1 - (within - autocovariance.mean(1) * steps / (steps - 1)) / variance
    pairs = correlation[: steps // 2 * 2].view(-1, 2).sum(1)
    positive = (pairs > 0).cumprod(0).bool()
    time = 2 * pairs[positive].cummin(0).values.sum() - 1
    return steps * chains / time.clamp(min=1 / math.log10(steps * chains))


def _normal_like(x: Tensor, generator: Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x.device)


def _accept(x: Tensor, proposal: Tensor, log_ratio: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    uniform = torch.rand(len(x), generator=generator, device=generator.device, dtype=x.dtype).to(x.device)
    accepted = uniform.log() < log_ratio  # false for a proposal with a NaN energy, which is thus rejected
    keep = accepted.view(-1, *[1] * (x.ndim - 1))
    return torch.where(keep, proposal, x.detach()), accepted
