"""Estimates of log Z against enumeration and closed forms; the last state of annealing by its exact distribution."""

import math

import pytest
import torch
from torch import Tensor

from lightning_modules.energy.annealing_paths import EnergyPath
from lightning_modules.energy.partition import (
    LowEffectiveSampleSize,
    annealed_importance_sampling,
    estimate_from,
    exact_log_partition,
    reverse_annealed_importance_sampling,
)
from tests.energy.small_rbms import FEW, distribution_of_last_state, free_energy, generator, path_of, rbm, states

# Enumeration


def test_enumeration_of_either_layer_and_an_explicit_sum_agree() -> None:
    """Eq. 1.19."""
    weight, a, c = parameters = rbm(6, 4, 1.5)
    v, h = states(6), states(4)
    joint = (v @ a)[:, None] + (h @ c)[None] + v @ weight @ h.T
    truth = joint.flatten().logsumexp(0).item()
    assert exact_log_partition(lambda x: free_energy(parameters, x), 6) == pytest.approx(truth, abs=1e-12)
    assert exact_log_partition(lambda x: free_energy([weight.T, c, a], x), 4) == pytest.approx(truth, abs=1e-12)
    assert exact_log_partition(lambda x: 0 * x[:, 0], 17) == pytest.approx(17 * math.log(2), abs=1e-12)  # many blocks


@pytest.mark.parametrize("num", [26, 500, 0])
def test_too_many_units_are_refused(num: int) -> None:
    with pytest.raises(ValueError, match=f"num_units={num}.*25.*annealed_importance_sampling"):
        exact_log_partition(lambda x: x.sum(1), num)


# Annealed importance sampling


def test_weights_are_unbiased_for_z_and_chains_end_in_p_ann() -> None:
    parameters = rbm(4, 3, 1.5)
    path, num = path_of(parameters), 100_000
    truth = exact_log_partition(lambda x: free_energy(parameters, x), 4)
    estimate = annealed_importance_sampling(path, FEW, num_chains=num, generator=generator(2))
    ratios = (estimate.log_weights - truth).exp()
    error = ratios.std().item() / math.sqrt(num)
    assert error < 0.01
    assert abs(ratios.mean().item() - 1) < 5 * error  # 5 s.e.: less than one seed in a million
    annealed = distribution_of_last_state(path, FEW)
    places = (estimate.samples @ torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)).long()
    statistic = ((places.bincount(minlength=16) - num * annealed).square() / (num * annealed)).sum().item()
    assert statistic < 44.3  # as above
    model = (-free_energy(parameters, states(4))).softmax(0)
    assert (annealed - model).abs().sum() > 0.01  # and these are not the same


def test_against_the_sum_over_a_million_states() -> None:
    parameters = rbm(64, 20, 0.3, torch.float32)
    weight, a, c = parameters
    truth = exact_log_partition(lambda x: free_energy([weight.T, c, a], x), 20, dtype=torch.float32)
    estimate = annealed_importance_sampling(path_of(parameters), 1000, generator=generator(3))
    assert estimate.num_chains == 100
    assert estimate.num_temperatures == 1000
    assert estimate.acceptance == 1
    assert estimate.effective_sample_size > 50
    assert abs(estimate.log_partition - truth) < 0.1
    lower, upper = estimate.interval()
    assert lower < truth < upper

    # Reverse annealing from 100 samples of the model: nearer with more temperatures, and within 1.5 nats.
    x = estimate.samples[:100]
    exact = (-free_energy(parameters, x).double() - truth).mean().item()
    gaps = []
    for num_temperatures in (10, 100, 1000):
        reverse = reverse_annealed_importance_sampling(path_of(parameters), x, num_temperatures, generator=generator(4))
        gaps.append(exact - reverse.mean)
    assert abs(gaps[2]) < 1.5
    assert abs(gaps[0]) > abs(gaps[1]) > abs(gaps[2])


def test_the_standard_error_is_the_spread_of_estimates() -> None:
    path = path_of(rbm(6, 4, 1.0))
    estimates = [annealed_importance_sampling(path, 20, num_chains=100, generator=generator(s)) for s in range(200)]
    spread = torch.tensor([estimate.log_partition for estimate in estimates]).std().item()
    claimed = sum(estimate.standard_error for estimate in estimates) / len(estimates)
    assert claimed == pytest.approx(spread, rel=0.25)  # a spread of 200 is known to 5 %


def test_a_poor_estimate_is_warned_of() -> None:
    """Two modes far from the base, and no temperatures to find them by."""
    path = path_of(rbm(30, 20, 1.5))
    with pytest.warns(LowEffectiveSampleSize, match=r"\d+\.\d of 50"):
        estimate = annealed_importance_sampling(path, 5, num_chains=50, generator=generator())
    assert not estimate.is_trustworthy
    assert estimate.effective_sample_size < 25


def test_summaries_of_weights() -> None:
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    estimate = estimate_from(weights.log() + 800, 7, 1.0, weights)
    assert estimate.log_partition == pytest.approx(math.log(2) + 800)
    assert estimate.standard_error == pytest.approx(1 / math.sqrt(3) / 2)
    assert estimate.effective_sample_size == pytest.approx(36 / 14)
    lower, upper = estimate.interval(1.0)
    assert upper == pytest.approx(math.log(2 + 1 / math.sqrt(3)) + 800)
    assert lower == pytest.approx(math.log(2 - 1 / math.sqrt(3)) + 800)
    assert estimate.interval(10.0)[0] == -math.inf


def test_random_numbers_come_from_the_generator_alone() -> None:
    path, state = path_of(rbm(6, 4, 0.5)), torch.get_rng_state()
    first, second = (annealed_importance_sampling(path, 10, num_chains=4, generator=generator()) for _ in range(2))
    assert torch.equal(first.log_weights, second.log_weights)
    assert annealed_importance_sampling(path, 10, num_chains=4).log_partition != first.log_partition
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match=r"num_chains=1\b"):
        annealed_importance_sampling(path, 10, num_chains=1)
    with pytest.raises(ValueError, match="num_chains=0"):
        reverse_annealed_importance_sampling(path, states(6), 10, num_chains=0)


# Reverse annealing


def test_reverse_weights_are_unbiased_for_p_ann_and_their_logarithms_low() -> None:
    path, num = path_of(rbm(4, 3, 1.5)), 40_000
    annealed = distribution_of_last_state(path, FEW)
    x = states(4)[[0, 5, 15]]
    estimate = reverse_annealed_importance_sampling(path, x.repeat_interleave(num, 0), FEW, generator=generator(5))
    logs = estimate.log_likelihood.view(3, num)
    ratios = logs.exp() / annealed[[0, 5, 15], None]
    errors = ratios.std(1) / math.sqrt(num)
    assert (errors < 0.02).all()
    assert ((ratios.mean(1) - 1).abs() < 5 * errors).all()  # 5 s.e.
    assert (logs.mean(1) < annealed[[0, 5, 15]].log()).all()


def test_more_chains_tighten_the_bound() -> None:
    path = path_of(rbm(6, 4, 1.5))
    x = states(6)
    one, many = (
        reverse_annealed_importance_sampling(path, x, FEW, num_chains=chains, generator=generator(6))
        for chains in (1, 200)
    )
    truth = distribution_of_last_state(path, FEW).log()
    assert many.effective_sample_size.shape == (64,)
    assert one.effective_sample_size.tolist() == pytest.approx([1.0] * 64)
    assert one.mean < many.mean < truth.mean().item() + 0.05
    assert many.mean == pytest.approx(truth.mean().item(), abs=0.1)
    assert many.standard_error == pytest.approx(many.log_likelihood.std().item() / 8)


def test_what_is_bounded_is_p_ann_and_not_p() -> None:
    """With few temperatures p_ann gives some states more than the model does, and so does the estimate."""
    parameters = rbm(4, 3, 1.5)
    path, x = path_of(parameters), states(4)
    model = (-free_energy(parameters, x)).log_softmax(0)
    annealed = distribution_of_last_state(path, [0.0, 1.0]).log()
    best = (annealed - model).argmax()
    assert annealed[best] > model[best] + 0.2
    estimate = reverse_annealed_importance_sampling(
        path, x[best].expand(2000, -1), [0.0, 1.0], num_chains=10, generator=generator(7)
    )
    assert estimate.mean > model[best] + 0.1


# Any energy


PRECISION = torch.tensor([[2.0, 0.6], [0.6, 1.0]])
CENTRES = torch.tensor([[1.5, 0.0], [-1.5, 0.0], [0.0, 1.5], [0.0, -1.5]])
DEVIATION = 0.3


def quadratic(x: Tensor) -> Tensor:
    y = x - 0.5
    return 0.5 * torch.einsum("ni,ij,nj->n", y, PRECISION, y) - 3.0


def four_modes(x: Tensor) -> Tensor:
    """-log of an even mixture of four normalised Gaussians, plus 2: log Z is -2."""
    squares = (x[:, None] - CENTRES).square().sum(2) / (2 * DEVIATION**2)
    return 2.0 + math.log(4) + math.log(2 * math.pi * DEVIATION**2) - (-squares).logsumexp(1)


@pytest.mark.parametrize("kernel", ["hmc", "mala"])
@pytest.mark.parametrize("name", ["quadratic", "four_modes"])
def test_log_partition_of_energies_known_in_closed_form(kernel: str, name: str) -> None:
    energy = {"quadratic": quadratic, "four_modes": four_modes}[name]
    truth = {"quadratic": 3.0 + math.log(2 * math.pi) - 0.5 * math.log(PRECISION.det().item()), "four_modes": -2.0}
    path = EnergyPath(energy, [2], scale=1.5, kernel=kernel, num_leapfrog=4).tuned(100, generator=generator())
    with torch.inference_mode():  # as in Trainer.test
        estimate = annealed_importance_sampling(path, 100, num_chains=500, generator=generator(8))
    assert estimate.standard_error < 0.06
    assert abs(estimate.log_partition - truth[name]) < 5 * estimate.standard_error  # 5 s.e.
    assert estimate.effective_sample_size > 250
    assert 0.4 < estimate.acceptance < 0.85  # the accept step had something to do, and the pilot run its effect

    x = estimate.samples[:200]
    reverse = reverse_annealed_importance_sampling(path, x, 100, generator=generator(9))
    exact = (-energy(x) - truth[name]).mean().item()
    assert reverse.mean == pytest.approx(exact, abs=0.3)


def test_weights_are_unbiased_however_coarse_the_kernel() -> None:
    """Steps so long that most are refused cost variance and no bias."""
    path = EnergyPath(quadratic, [2], scale=1.0, kernel="mala", step_size=2.0)
    truth = 3.0 + math.log(2 * math.pi) - 0.5 * math.log(PRECISION.det().item())
    estimate = annealed_importance_sampling(path, FEW, num_chains=50_000, generator=generator(10))
    assert estimate.acceptance < 0.3
    assert abs(estimate.log_partition - truth) < 5 * estimate.standard_error < 0.05


def test_states_that_the_model_excludes_have_no_weight() -> None:
    def half_plane(x: Tensor) -> Tensor:
        inside = 0.5 * x.square().sum(1) + math.log(2 * math.pi)
        return torch.where(x[:, 0] > 0, inside, torch.full_like(inside, math.inf))

    path = EnergyPath(half_plane, [2], step_size=0.3, num_leapfrog=3)
    estimate = annealed_importance_sampling(path, 10, num_chains=4000, generator=generator(11))
    assert abs(estimate.log_partition - math.log(0.5)) < 5 * estimate.standard_error
    assert (estimate.log_weights == -math.inf).any()


@pytest.mark.parametrize("value", [-math.inf, math.nan])
def test_energies_that_run_away_are_named(value: float) -> None:
    def broken(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0.5, torch.full_like(x[:, 0], value), x.square().sum(1))

    with pytest.raises(FloatingPointError, match=r"\b0\.25\b.*\b(inf|nan)\b"):
        annealed_importance_sampling(EnergyPath(broken, [2]), 5, generator=generator())
