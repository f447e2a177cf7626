"""Mode coverage during training: on a model whose modes are known."""

import math

import pytest

from lightning_modules.callbacks import ModeCoverage
from lightning_modules.metrics.modes import evaluate_points
from tests.standins import RING_SPEC, RingData, RingModel, StandInData, StandInModel, quiet_trainer


@pytest.mark.parametrize("modes", [8, 4])
def test_mode_coverage_is_logged(modes: int) -> None:
    run, model = quiet_trainer([ModeCoverage()], max_epochs=2), RingModel(modes)
    run.fit(model, RingData())
    assert model.calls == [250] * 10 * 2  # two validations, and none in the sanity check
    values = {name: value.item() for name, value in run.callback_metrics.items()}
    assert set(values) == {f"val/{name}-2500" for name in ("modes", "modes_hit", "high_quality", "kl")}
    assert values["val/modes-2500"] == modes
    # four standard errors of a binomial of 2500
    assert values["val/high_quality-2500"] == pytest.approx(0.98889, abs=0.0084)
    assert values["val/kl-2500"] == pytest.approx(math.log(8 / modes), abs=0.01)
    outside = evaluate_points(RingModel(modes), spec=RING_SPEC, split="val")
    assert values == pytest.approx(outside, rel=1e-6)


def test_a_test_is_logged_under_its_name() -> None:
    run = quiet_trainer([ModeCoverage(num_samples=1000)])
    run.test(RingModel(), RingData(), verbose=False)
    assert set(run.callback_metrics) == {f"test/{name}-1k" for name in ("modes", "modes_hit", "high_quality", "kl")}


def test_what_has_no_modes_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match="'stand_in'"):
        quiet_trainer([ModeCoverage()]).fit(StandInModel(), StandInData())
    with pytest.raises(ValueError, match="num_samples=1"):
        ModeCoverage(num_samples=1)
