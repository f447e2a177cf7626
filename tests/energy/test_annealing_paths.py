"""Inverse temperatures, and the paths from a base to a model: ends, ratios, reversible steps."""

from itertools import pairwise
from typing import Any

import pytest
import torch

from lightning_modules.energy.annealing_paths import EnergyPath, linear, salakhutdinov, temperatures
from tests.energy.small_rbms import annealed_gibbs_operator, free_energy, generator, path_of, rbm, states

# Temperatures


def test_the_standard_schedule() -> None:
    betas = salakhutdinov()
    assert len(betas) == 14_503
    assert betas == temperatures(betas) == temperatures("salakhutdinov")
    steps = {round(after - before, 9) for before, after in pairwise(betas)}
    assert steps == {0.0, 1e-3, 1e-4, 1e-5}
    assert sum(before == after for before, after in pairwise(betas)) == 2


def test_schedules_that_do_not_lead_from_base_to_model_are_refused() -> None:
    assert temperatures(5) == linear(5) == [0, 0.25, 0.5, 0.75, 1]
    for bad in ([0.0, 0.5], [0.1, 1.0], [0.0, 0.6, 0.5, 1.0], [1.0], [0.0, float("nan"), 1.0]):
        with pytest.raises(ValueError, match="schedule.*0.*1"):
            temperatures(bad)
    for few in (1, 0, -3):
        with pytest.raises(ValueError, match=rf"schedule={few}\b"):
            temperatures(few)
    with pytest.raises(ValueError, match="'cosine'.*'salakhutdinov'"):
        temperatures("cosine")
    for neither in (1.5, float("nan"), None):
        with pytest.raises(ValueError, match=f"schedule={neither}.*'salakhutdinov'"):
            temperatures(neither)  # type: ignore[arg-type]


# The path of an RBM


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_ratios_are_differences_of_log_densities(scale: float) -> None:
    """Also where exp overflows in any other order of the sums."""
    path = path_of(rbm(6, 4, scale))
    state = path.observe(states(6))
    for before, after in [(0.0, 0.1), (0.4, 0.41), (0.3, 1.0), (1.0, 0.9)]:
        expected = path.log_density(state, after) - path.log_density(state, before)
        torch.testing.assert_close(path.log_ratio(state, before, after), expected, rtol=1e-10, atol=1e-10)


def test_ends_of_the_path_are_base_and_model() -> None:
    parameters = rbm(6, 4, 1.0)
    path, v = path_of(parameters), states(6)
    state = path.observe(v)
    assert path.log_density(state, 0.0).logsumexp(0).item() == pytest.approx(path.base_log_partition, abs=1e-12)
    torch.testing.assert_close(path.log_density(state, 1.0), -free_energy(parameters, v), rtol=0, atol=1e-12)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_the_gibbs_step_is_reversible_and_follows_its_operator(beta: float) -> None:
    path = path_of(rbm(4, 3, 1.0))
    v, operator = states(4), annealed_gibbs_operator(path, beta)
    distribution = path.log_density(path.observe(v), beta).softmax(0)
    flow = distribution[:, None] * operator
    torch.testing.assert_close(flow, flow.T, rtol=0, atol=1e-15)

    num, row = 50_000, 5
    state, share = path.step(path.observe(v[row].expand(num, -1)), beta, generator(1))
    assert share == 1
    reached = (state.visible @ torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)).long()
    counts = reached.bincount(minlength=16).double()
    expected = num * operator[row]
    statistic = ((counts - expected).square() / expected).sum().item()
    assert statistic < 44.3  # chi-square with 15 degrees of freedom: exceeded by one seed in 10 000
    torch.testing.assert_close(state.hidden_input, state.visible @ path.weight + path.hidden_bias)


# The path of any energy


def test_settings_of_an_energy_path_are_checked() -> None:
    with pytest.raises(ValueError, match="kernel='gibbs'.*hmc.*mala"):
        EnergyPath(lambda x: x.square().sum(1), [2], kernel="gibbs")
    bad: list[tuple[str, Any]] = [("scale", 0.0), ("step_size", -1.0), ("num_leapfrog", 0)]
    for name, value in bad:
        with pytest.raises(ValueError, match=f"{name}={value}"):
            EnergyPath(lambda x: x.square().sum(1), [2], **{name: value})
