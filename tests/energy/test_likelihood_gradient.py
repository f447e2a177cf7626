"""The derivation of eq. 1.28, step by step, for an RBM whose sums over all states are short."""

import pytest
import torch
from torch import Tensor

from lightning_modules import RBM
from lightning_modules.energy.partition import exact_log_partition
from tests.energy.enumerated_rbms import SHAPE, distribution, gradient, tiny
from tests.energy.small_rbms import states

X = 11
"""The state whose likelihood is differentiated."""


def log_partition(module: RBM) -> Tensor:
    return (-module.unchecked_energy(states(6))).logsumexp(0)


def numeric_gradient(module: RBM, step: float = 1e-5) -> Tensor:
    """Central differences of log Z as the library enumerates it, by every parameter."""
    slopes = []
    with torch.no_grad():
        for parameter in module.parameters():
            for index in range(parameter.numel()):
                values = []
                for change in (step, -2 * step):
                    parameter.view(-1)[index] += change
                    values.append(exact_log_partition(module.unchecked_energy, 6))
                parameter.view(-1)[index] += step
                slopes.append((values[0] - values[1]) / (2 * step))
    return torch.tensor(slopes, dtype=torch.float64)


def test_an_energy_over_its_sum_is_a_distribution() -> None:
    """Eq. 1.18 to 1.20: exp(-f) is positive and sums to Z, so exp(-f) / Z sums to 1."""
    module = tiny()
    with torch.no_grad():
        weights = (-module.unchecked_energy(states(6))).exp()
    assert (weights > 0).all()
    z = weights.sum()
    assert exact_log_partition(module.unchecked_energy, 6) == pytest.approx(z.log().item(), abs=1e-12)
    torch.testing.assert_close(module.log_prob(states(6).view(-1, *SHAPE)).exp(), weights / z)
    assert module.log_prob(states(6).view(-1, *SHAPE)).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_the_gradient_of_minus_log_q_has_two_terms() -> None:
    """Eq. 1.21 to 1.23: the quotient differentiated as it stands, against d f and d log Z apart."""
    module, v = tiny(), states(6)
    weights = (-module.unchecked_energy(v)).exp()
    quotient = weights[X] / weights.sum()
    torch.testing.assert_close(quotient.log(), -module.unchecked_energy(v[X : X + 1])[0] - log_partition(module))
    whole = gradient(module, -quotient.log())
    terms = gradient(module, module.unchecked_energy(v[X : X + 1])[0]) + gradient(module, log_partition(module))
    torch.testing.assert_close(whole, terms)


def test_the_gradient_of_log_z_is_minus_an_expectation_under_the_model() -> None:
    """Eq. 1.24 to 1.27: differences of log Z, the sum of derivatives over Z, and -E_q of d f are the same."""
    module, v = tiny(), states(6)
    z = log_partition(module).exp().detach()
    by_state = torch.stack([gradient(module, (-module.unchecked_energy(row[None])[0]).exp()) for row in v])
    slopes = torch.stack([gradient(module, module.unchecked_energy(row[None])[0]) for row in v])
    q = distribution(module).detach()
    numeric = numeric_gradient(module)  # 1.24
    torch.testing.assert_close(by_state.sum(0) / z, numeric, atol=1e-8, rtol=0)  # 1.25
    torch.testing.assert_close((-q[:, None] * slopes).sum(0), numeric, atol=1e-8, rtol=0)  # 1.26
    drawn = torch.multinomial(q, 200_000, replacement=True, generator=torch.Generator().manual_seed(0))
    sample = slopes[drawn]
    error = sample.std(0) / len(drawn) ** 0.5
    assert ((sample.mean(0) + numeric).abs() < 5 * error + 1e-8).all()  # 1.27, false alarms once in 50 000 seeds


def test_descending_the_contrast_lowers_the_energy_of_data_below_that_of_samples() -> None:
    """The sign of eq. 1.28: f falls on data, relative to samples of the model, and the data's likelihood rises."""
    module, v = tiny(), states(6)
    data = torch.zeros(64, dtype=torch.float64)
    data[[3, 40, 41]] = 1 / 3
    q = distribution(module).detach()

    def measured() -> tuple[float, float]:
        energies = module.unchecked_energy(v).detach()
        nll = (data * energies).sum() + log_partition(module).detach()
        return ((data - q) * energies).sum().item(), nll.item()

    before = measured()
    ((data - q) * module.unchecked_energy(v)).sum().backward()
    with torch.no_grad():
        for parameter in module.parameters():
            assert parameter.grad is not None
            parameter -= 0.05 * parameter.grad
    after = measured()
    assert after[0] < before[0] - 0.01
    assert after[1] < before[1] - 0.01
