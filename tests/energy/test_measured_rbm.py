"""How an RBM is measured: likelihoods against enumeration, validation against the same numbers by hand."""

import math
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from torch.nn import functional as F

from datamodules import SyntheticImages
from lightning_modules import RBM
from lightning_modules.energy.partition import LowEffectiveSampleSize
from lightning_modules.parts.likelihoods import bernoulli_log_prob
from tests.energy.enumerated_rbms import PLACES, QUIET, SHAPE, Patterns, distribution, tiny
from tests.energy.small_rbms import states


def test_log_prob_is_normalised_from_either_layer() -> None:
    for num_hidden in (4, 9):  # the smaller layer is summed over: hidden, then visible
        module = tiny(num_hidden=num_hidden)
        assert module.log_prob(states(6).view(-1, *SHAPE)).exp().sum().item() == pytest.approx(1, abs=1e-12)
    with pytest.raises(ValueError, match=r"RBM.*log Z.*set_log_partition.*log_partition\(\)"):
        RBM().log_prob(torch.zeros(1, 1, 28, 28))


def test_pseudo_likelihood_is_the_product_of_conditionals() -> None:
    module, v = tiny(), states(6)
    log_p = distribution(module).log()
    expected = torch.zeros(64, dtype=torch.float64)
    for unit in range(6):
        other = (v - F.one_hot(torch.tensor(unit), 6)).abs()
        flipped = log_p[(other.long() @ PLACES)]
        expected += torch.logaddexp(log_p, flipped) - log_p
    pixels = torch.arange(6).expand(64, -1)
    torch.testing.assert_close(module.unchecked_pseudo_nll(v, pixels), expected, rtol=1e-10, atol=1e-10)


def test_validation_compares_held_out_with_training_images() -> None:
    data = Patterns()
    module = RBM([1, 3, 3], num_hidden=4, lr=0.05, cd_steps=1)
    trainer = Trainer(max_steps=4, **QUIET)
    trainer.fit(module, data)
    metrics = trainer.callback_metrics
    x = data.sources["val"].data  # type: ignore[attr-defined]
    assert module.reference is not None
    gap = module.energy(x).mean() - module.energy(module.reference).mean()
    assert metrics["val/free_energy_gap"].item() == pytest.approx(gap.item(), abs=1e-4)
    reconstruction = -bernoulli_log_prob(module.visible_input(module.encode(x)), x.flatten(1)).mean()
    assert metrics["val/reconstruction_cross_entropy"].item() == pytest.approx(reconstruction.item(), rel=1e-4)
    exact = module.pseudo_nll(x, torch.arange(9).expand(len(x), -1)).mean()
    assert metrics["val/pseudo_nll"].item() == pytest.approx(exact.item(), rel=0.2)  # from 9 pixels, with replacement


def measured(module: RBM, **settings: Any) -> dict[str, Any]:
    data = SyntheticImages(
        shape=[1, 8, 8], num_classes=2, size=64, val_size=8, test_size=300, binarize=True, **settings
    )
    return {**Trainer(**QUIET).test(module, data, verbose=False)[0], "data": data}


def test_held_out_likelihood_exact_annealed_and_in_reverse() -> None:
    seed_everything(0, verbose=False)
    module = RBM([1, 8, 8], num_hidden=8, schedule=400, num_reversed=260)
    with torch.no_grad():
        module.weight.mul_(20)
        module.visible_bias.normal_()
        module.hidden_bias.normal_()
    first = measured(module, batch_size=32)
    data = first.pop("data")
    x = data.images("test")[0].gt(127).float()
    nll = -module.log_prob(x)
    assert first["test/nll-exact"] == pytest.approx(nll.mean().item(), rel=1e-6)
    error = first["test/ais_standard_error"]
    assert error < 0.05
    assert abs(first["test/nll-ais"] - first["test/nll-exact"]) < 5 * error
    assert first["test/ais_log_partition"] == pytest.approx(module.exact_log_partition(), abs=5 * error)
    assert 50 < first["test/ais_ess"] <= 100
    assert first["test/ais_chains"] == 100
    assert first["test/ais_temperatures"] == 400
    assert abs(first["test/nll-raise-260"] - nll[:260].mean().item()) < 0.5
    assert first["test/nll_standard_error-raise-260"] > 0
    bits = first["test/nll-raise-260"] / 64 / math.log(2)
    assert first["test/bits_per_dim-raise-260"] == pytest.approx(bits, rel=1e-6)
    annealed = (nll[:260].mean() + first["test/ais_log_partition"] - module.exact_log_partition()).item()
    assert first["test/nll-ais-260"] == pytest.approx(annealed, rel=1e-6)
    distance = first["test/raise_minus_ais-260"]
    assert distance == pytest.approx(first["test/nll-raise-260"] - annealed, abs=1e-6)
    spread = first["test/raise_minus_ais_standard_error-260"]
    assert error < spread < first["test/nll_standard_error-raise-260"]
    assert -5 * spread < distance < 0.5

    second = measured(module, batch_size=50)
    for name, value in first.items():
        assert second[name] == pytest.approx(value, rel=1e-6), name  # whatever the batch size


def test_an_untrustworthy_estimate_is_warned_of_where_it_is_made() -> None:
    module = tiny(scale=8.0)
    with pytest.warns(LowEffectiveSampleSize, match=r"\d+\.\d of 20"):
        module.log_partition(3, num_chains=20, generator=torch.Generator().manual_seed(1))
