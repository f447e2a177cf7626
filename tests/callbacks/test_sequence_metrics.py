"""Exposure bias during training: the same numbers on any number of processes and at any batch size."""

from typing import Any

import pytest
from torch import nn

from datamodules import MarkovSource, Ring
from lightning_modules import TeacherForcing
from lightning_modules.callbacks import ExposureBias
from lightning_modules.metrics.exposure_bias import exposure_curves, last_of_curves
from lightning_modules.metrics.sequence import Curve
from tests.callbacks.measure_exposure_on_processes import measure
from tests.processes import on_two
from tests.standins import quiet_trainer


def test_the_callback_logs_the_last_window_whatever_the_processes_and_batches() -> None:
    (first, _), (second, _) = on_two(measure, 2)
    one, (other_batches, _) = measure(1)[0], measure(1, batch_size=7)
    exposure = {name for name in one if "prefix4" in name}
    assert exposure == {
        f"test/{name}{floor}-prefix4-steps10to20-300"
        for name in ("js_1gram", "js_2gram", "hidden_frechet")
        for floor in ("", "_floor")
    }
    for name in exposure:
        assert first[name] == second[name] == pytest.approx(one[name], rel=1e-6)
        assert other_batches[name] == one[name]
    assert one["test/js_2gram-prefix4-steps10to20-300"] > 2 * one["test/js_2gram_floor-prefix4-steps10to20-300"]


def test_curves_are_kept_and_validation_is_measured_but_not_the_sanity_check(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def counted(*arguments: Any, **settings: Any) -> dict[str, Curve]:
        measured.append(exposure_curves(*arguments, **settings))
        return measured[-1]

    monkeypatch.setattr("lightning_modules.callbacks.sequence_metrics.exposure_curves", counted)
    data = MarkovSource(length=12, train_size=64, val_size=40, test_size=40, order=1)
    callback = ExposureBias(prefix=2, steps=10, window=5, orders=(1,), components=4)
    trainer = quiet_trainer([callback])
    trainer.fit(TeacherForcing.for_data(data.spec, width=8), data)
    assert measured == [callback.curves]
    curve = callback.curves["js_1gram"]
    assert curve.starts.tolist() == [0, 5]
    logged = trainer.callback_metrics["val/js_1gram-prefix2-steps5to10-20"].item()
    assert logged == pytest.approx(curve.values[-1].item())
    assert last_of_curves(callback.curves, "prefix2", 20).keys() == {
        name.removeprefix("val/") for name in trainer.callback_metrics if "prefix2" in name
    }


def test_what_cannot_be_measured_is_refused_at_once() -> None:
    for settings, message in (
        ({"prefix": 0}, "prefix=0"),
        ({"window": 600}, "window=600"),
        ({"orders": (1, 65)}, r"orders=\[1, 65\]"),
        ({"orders": ()}, r"orders=\[\]"),
        ({"num_sequences": 1}, "num_sequences=1"),
        ({"components": 0}, "components=0"),
    ):
        with pytest.raises(ValueError, match=message):
            ExposureBias(**settings)
    trainer: Any = quiet_trainer()
    trainer.datamodule = Ring()
    with pytest.raises(TypeError, match="Linear"):
        ExposureBias().setup(trainer, nn.Linear(1, 1), "fit")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'ring8'.*kind='points'"):
        ExposureBias().setup(trainer, TeacherForcing(), "fit")


def test_too_few_sequences_are_refused_before_the_first_step() -> None:
    data = MarkovSource(length=12, train_size=64, val_size=3, test_size=40, order=1)
    model = TeacherForcing.for_data(data.spec, width=8)
    trainer = quiet_trainer([ExposureBias(prefix=2, steps=10, window=5, orders=(1,), components=4)])
    with pytest.raises(ValueError, match="val split of markov.* 3 sequences of 12 steps"):
        trainer.fit(model, data)
    assert trainer.global_step == 0
    trainer.test(model, data, verbose=False)
    assert "test/js_1gram-prefix2-steps5to10-20" in trainer.callback_metrics
