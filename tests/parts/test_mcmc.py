"""Chains against what is known of them: stationary covariances, invariance, reversibility."""

import math

import pytest
import torch
from torch import Tensor

from lightning_modules.parts.mcmc import (
    chain_effective_sample_size,
    effective_sample_size,
    energy_and_gradient,
    hmc_step,
    langevin_step,
    mala_step,
)

PRECISION = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
CHAINS = 60_000  # a variance is known to 0.6 % (one s.e.), so that a bound of 2 % fails one run in 1 000


def quadratic(x: Tensor) -> Tensor:
    return 0.5 * torch.einsum("ni,ij,nj->n", x, PRECISION, x)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def covariance(x: Tensor) -> Tensor:
    return x.T @ x / len(x)


def samples(g: torch.Generator, covariance: Tensor, num: int = CHAINS) -> Tensor:
    z = torch.randn(num, 2, generator=g, dtype=torch.float64)
    return z @ torch.linalg.cholesky(covariance).T


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference, measured by the standard deviations."""
    scale = torch.outer(b.diagonal().sqrt(), b.diagonal().sqrt())
    return ((a - b) / scale).abs().max().item()


def test_energy_and_gradient_under_no_grad_and_inference_mode() -> None:
    x = torch.randn(5, 2, generator=generator(), dtype=torch.float64)
    with torch.inference_mode():
        y = x + 0.0  # an inference tensor, which autograd refuses
        values, gradient = energy_and_gradient(quadratic, y)
    assert torch.allclose(values, quadratic(x))
    assert torch.allclose(gradient, x @ PRECISION)
    assert not x.requires_grad


def test_langevin_has_the_known_biased_covariance() -> None:
    step, g = 0.4, generator()
    identity = torch.eye(2, dtype=torch.float64)
    stationary = PRECISION.inverse() @ (identity - step * PRECISION / 2).inverse()
    x = torch.zeros(CHAINS, 2, dtype=torch.float64)
    for _ in range(40):
        x = langevin_step(quadratic, x, step, torch.randn(x.shape, generator=g, dtype=torch.float64))
    assert relative(covariance(x), stationary) < 0.02
    assert relative(covariance(x), PRECISION.inverse()) > 0.1


def test_langevin_noise_scale_is_a_temperature() -> None:
    step, temperature, g = 0.05, 0.25, generator(1)
    x = torch.zeros(CHAINS, 2, dtype=torch.float64)
    scale = math.sqrt(2 * step * temperature)
    for _ in range(150):
        normal = torch.randn(x.shape, generator=g, dtype=torch.float64)
        x = langevin_step(quadratic, x, step, normal, noise_scale=scale)
    stationary = temperature * PRECISION.inverse() @ (torch.eye(2) - step * PRECISION / 2).inverse()
    assert relative(covariance(x), stationary) < 0.02


def test_langevin_clamps_each_entry_of_the_gradient() -> None:
    x = torch.tensor([[10.0, 0.0], [0.0, 0.01]], dtype=torch.float64)
    moved = langevin_step(quadratic, x, 1.0, torch.zeros_like(x), max_gradient=0.5)
    gradient = (x @ PRECISION).clamp(-0.5, 0.5)
    assert torch.allclose(moved, x - gradient)


@pytest.mark.parametrize("kernel", ["mala", "hmc"])
def test_metropolis_keeps_the_density_invariant_at_coarse_steps(kernel: str) -> None:
    g = generator(2)
    x = samples(g, PRECISION.inverse())
    shares = []
    for _ in range(15):
        x, accepted = mala_step(quadratic, x, 0.5, g) if kernel == "mala" else hmc_step(quadratic, x, 0.9, 3, g)
        shares.append(accepted.double().mean().item())
    assert 0.3 < sum(shares) / len(shares) < 0.99  # the accept step had something to correct
    assert relative(covariance(x), PRECISION.inverse()) < 0.02


@pytest.mark.parametrize("kernel", ["mala", "hmc"])
def test_metropolis_finds_the_density_from_elsewhere(kernel: str) -> None:
    g = generator(3)
    x = torch.full((CHAINS, 2), 2.0, dtype=torch.float64)
    for _ in range(60 if kernel == "mala" else 25):
        x, _ = mala_step(quadratic, x, 0.4, g) if kernel == "mala" else hmc_step(quadratic, x, 0.35, 3, g)
    assert relative(covariance(x), PRECISION.inverse()) < 0.02
    assert (x.mean(0).abs() < 5 * PRECISION.inverse().diagonal().sqrt() / math.sqrt(CHAINS)).all()


def test_mala_is_reversible_on_a_density_that_is_no_gaussian() -> None:
    # Detailed balance on two sets A and B: flow from A to B equals flow from B to A, from stationary samples.
    g = generator(4)
    grid = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    weights = (-(grid.square() - 1).square()).exp()
    x = grid[torch.multinomial(weights, 400_000, replacement=True, generator=g)][:, None]
    y, _ = mala_step(lambda v: (v.square() - 1).square().sum(1), x, 0.15, g)
    in_a, in_b = (lambda v: v[:, 0] > 1.0), (lambda v: (v[:, 0] > 0.2) & (v[:, 0] < 0.8))
    forth, back = (in_a(x) & in_b(y)).sum().item(), (in_b(x) & in_a(y)).sum().item()
    assert forth > 10_000
    assert abs(forth - back) < 5 * math.sqrt(forth + back)  # 5 s.e.


def test_a_proposal_without_an_energy_is_refused() -> None:
    def walled(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0, x[:, 0], torch.full_like(x[:, 0], math.nan))

    x = torch.full((2000, 1), 0.05)
    for seed in range(5):
        x, accepted = mala_step(walled, x, 0.5, generator(seed))
        assert (x > 0).all()
    assert not accepted.all()


def test_chains_are_independent_and_leave_the_global_state_alone() -> None:
    state = torch.get_rng_state()
    x = samples(generator(5), PRECISION.inverse(), 16)
    a, _ = hmc_step(quadratic, x, 0.3, 4, generator(6))
    b, _ = hmc_step(quadratic, x, 0.3, 4, generator(6))
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), state)


def test_effective_sample_size() -> None:
    assert effective_sample_size(torch.zeros(7)).item() == pytest.approx(7)
    assert effective_sample_size(torch.tensor([0.0, -200.0, -200.0])).item() == pytest.approx(1)
    weights = torch.rand(50, generator=generator(7), dtype=torch.float64)
    expected = weights.sum().square() / weights.square().sum()
    assert effective_sample_size(weights.log() + 300).item() == pytest.approx(expected.item())
    assert effective_sample_size(torch.zeros(3, 5), dim=1).tolist() == pytest.approx([5, 5, 5])


def test_chain_ess_of_an_autoregression_and_of_chains_that_keep_apart() -> None:
    g, steps, chains, phi = generator(8), 4000, 16, 0.8
    z = torch.randn(steps, chains, generator=g, dtype=torch.float64)
    series = [z[0] / math.sqrt(1 - phi**2)]
    for row in z[1:]:
        series.append(phi * series[-1] + row)
    x = torch.stack(series)
    expected = steps * chains * (1 - phi) / (1 + phi)
    assert chain_effective_sample_size(x).item() == pytest.approx(expected, rel=0.15)
    assert chain_effective_sample_size(z).item() == pytest.approx(steps * chains, rel=0.1)
    apart = z + 50 * torch.arange(chains)
    assert chain_effective_sample_size(apart).item() < 2 * chains
    with pytest.raises(ValueError, match=r"\b3\b.*\b4\b"):
        chain_effective_sample_size(z[:3])
