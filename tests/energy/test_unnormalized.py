"""log p of models with an energy: normalised where log Z is known, refused by a sentence where it is not."""

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules import EBM, NCE, RBM, Gaussian
from lightning_modules.energy.partition import PartitionEstimate
from lightning_modules.parts import plane
from lightning_modules.parts.capabilities import HasDensity, HasEnergy, HasLogPartition
from lightning_modules.parts.normalizers import LogPartition
from tests.energy.small_rbms import states

PLANE: dict[str, Any] = {"shape": [2], "architecture": "mlp", "width": 2, "temperature": 1.0, "reference_scale": 1.0}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def points(**settings: Any) -> EBM:
    torch.manual_seed(0)
    return EBM(**{**PLANE, **settings})


def riemann(module: Any, extent: float, steps: int = 600) -> float:
    """The integral of p over a square, by a grid of its own."""
    axis = torch.linspace(-extent, extent, steps, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        return float(module.log_prob(grid).exp().sum() * (2 * extent / (steps - 1)) ** 2)


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.5}, {"reference_scale": 2.0}], ids=repr)
def test_an_ebm_in_the_plane_is_normalised(settings: dict[str, Any]) -> None:
    module = points(**settings)
    assert riemann(module, 12.0) == pytest.approx(1, abs=1e-5)
    found = module.log_partition()
    assert (found.source, found.is_exact) == ("grid", True)
    x = torch.randn(5, 2)
    expected = -module.energy(x).double() - found.log_partition
    torch.testing.assert_close(module.log_prob(x), expected, atol=1e-12, rtol=0)
    assert module.log_prob(x).dtype == torch.float64


def test_the_gaussian_of_an_ebm_without_network_is_known() -> None:
    module = points(reference_scale=1.5).double()
    torch.nn.init.zeros_(module.network.head.weight)  # type: ignore[union-attr, arg-type]
    assert module.log_partition().log_partition == pytest.approx(math.log(2 * math.pi * 1.5**2), abs=1e-6)
    x = torch.randn(4, 2, dtype=torch.float64)
    expected = torch.distributions.Normal(0.0, 1.5).log_prob(x).sum(1)
    torch.testing.assert_close(module.log_prob(x), expected, atol=1e-6, rtol=0)


def test_a_normaliser_is_that_of_the_present_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x, grids = points(), torch.randn(3, 2), []
    compute = plane.on_grid
    monkeypatch.setattr(plane, "on_grid", lambda *a, **k: grids.append(1) or compute(*a, **k))  # type: ignore[func-returns-value]
    before = module.log_prob(x)
    computed = len(grids)
    assert torch.equal(module.log_prob(x), before)
    assert len(grids) == computed  # it is computed once
    with torch.no_grad():
        module.network.head.weight.mul_(3)  # type: ignore[union-attr, operator]
    after = module.log_prob(x)
    assert len(grids) > computed
    assert not torch.equal(after, before)
    assert riemann(module, 12.0) == pytest.approx(1, abs=1e-5)
    module.network.head.weight.data = module.network.head.weight.data / 3  # type: ignore[union-attr]
    torch.testing.assert_close(module.log_prob(x), before)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module.normalizer)).of(module)):
        assert other is not None


def test_a_density_that_the_grid_does_not_hold_is_refused() -> None:
    for settings in ({"reference_scale": 40.0}, {"reference_scale": None}, {"temperature": 1e-6}):
        with pytest.raises(ValueError, match=r"\[-\d+, \d+\]\^2.*mass.*nats"):
            points(**settings).log_prob(torch.zeros(1, 2))


def test_images_of_an_ebm_have_no_nats_unless_log_z_is_given() -> None:
    module, x = EBM(shape=[1, 8, 8], width=2), torch.zeros(2, 1, 8, 8)
    with pytest.raises(ValueError, match=r"EBM.*log Z.*set_log_partition.*log_partition\(\)"):
        module.log_prob(x)
    with pytest.raises(ValueError, match=r"EBM.*shape=\[1, 8, 8\].*temperature=1.25e-06.*set_log_partition"):
        module.log_partition()
    for value in (3.5, LogPartition(3.5, 0.2, "ais")):
        module.set_log_partition(value)
        torch.testing.assert_close(module.log_prob(x), -module.energy(x).double() - 3.5)
    with torch.no_grad():
        next(module.parameters()).add_(1.0)
    with pytest.raises(ValueError, match="set_log_partition"):  # it was that of other weights
        module.log_prob(x)
    for bad in (math.nan, math.inf, True, "3", None):
        with pytest.raises(ValueError, match="log_partition="):
            module.set_log_partition(bad)  # type: ignore[arg-type]


def test_points_outside_of_the_plane_are_estimated() -> None:
    module = points(shape=[3], reference_scale=1.5)
    torch.nn.init.zeros_(module.network.head.weight)  # type: ignore[union-attr, arg-type]
    found = module.log_partition(50, num_chains=64, generator=generator())
    assert found.source == "ais"
    assert found.log_partition == pytest.approx(1.5 * math.log(2 * math.pi * 1.5**2), abs=1e-4)
    with pytest.raises(ValueError, match="set_log_partition"):
        module.log_prob(torch.zeros(1, 3))
    module.set_log_partition(found)
    assert module.log_prob(torch.zeros(1, 3)).item() == pytest.approx(-found.log_partition, abs=1e-6)


def test_an_rbm_is_exact_where_it_can_be_enumerated_and_else_takes_an_estimate() -> None:
    module = RBM(shape=[1, 2, 3], num_hidden=4).double()
    x = states(6).view(-1, 1, 2, 3)
    assert module.log_prob(x).exp().sum().item() == pytest.approx(1, abs=1e-9)
    assert module.known_log_partition().source == "enumeration"
    large = RBM(shape=[1, 6, 6], num_hidden=30, schedule=20, num_chains=50)
    x = torch.zeros(2, 1, 6, 6)
    with pytest.raises(ValueError, match="RBM.*set_log_partition"):
        large.log_prob(x)
    estimate = large.log_partition(generator=generator())
    assert isinstance(estimate, PartitionEstimate)
    assert estimate.source == "ais"
    assert large.energy(estimate.samples).isfinite().all()
    large.set_log_partition(estimate)
    torch.testing.assert_close(large.log_prob(x), -large.energy(x).double() - estimate.log_partition)


def test_noise_contrastive_estimation_says_that_its_normaliser_is_learned() -> None:
    module = NCE(shape=[2], architecture="mlp", width=2, noise_density=Gaussian([2]))
    with torch.no_grad():
        module.log_normalizer.fill_(0.7)
    found = module.log_partition()
    assert (found.source, found.is_exact) == ("learned", False)
    assert found.log_partition == pytest.approx(-0.7)
    assert math.isnan(found.standard_error)
    x = torch.randn(4, 2)
    torch.testing.assert_close(module.log_prob(x), -module.energy(x) - found.log_partition)


MODELS: list[Any] = [
    points(),
    NCE(shape=[2], architecture="mlp", width=2),
    RBM(shape=[1, 2, 3], num_hidden=4, schedule=20, num_chains=20),
]


@pytest.mark.parametrize("module", MODELS, ids=lambda module: type(module).__name__)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_model_with_an_energy_returns_the_same_kind_of_result(module: Any) -> None:
    assert isinstance(module, HasEnergy)
    assert isinstance(module, HasDensity)
    assert isinstance(module, HasLogPartition)
    found = module.log_partition()
    assert isinstance(found, LogPartition)
    assert math.isfinite(found.log_partition)
    assert found.standard_error >= 0 or math.isnan(found.standard_error)
    assert found.source in ("enumeration", "grid", "ais", "learned", "given")


def test_gradients_of_log_p_reach_the_points() -> None:
    module, x = points().double(), torch.randn(3, 2, dtype=torch.float64, requires_grad=True)

    def density(values: Tensor) -> Tensor:
        return module.log_prob(values)

    assert torch.autograd.gradcheck(density, (x,))


def test_schedules_may_be_whole_numbers_of_any_type() -> None:
    module = RBM(shape=[1, 2, 3], num_hidden=4)
    for schedule in (np.int64(5), torch.tensor(5)):
        assert module.log_partition(schedule, num_chains=np.int64(20), generator=generator()).num_temperatures == 5  # type: ignore[arg-type]
