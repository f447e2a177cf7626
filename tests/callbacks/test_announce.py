"""Metrics are printed during training: those of samples, one line per validation."""

from typing import Any

import pytest
from lightning.pytorch.callbacks import Callback, TQDMProgressBar

from lightning_modules.callbacks import AnnounceMetrics
from tests.standins import StandInData, StandInModel, quiet_trainer


class Metrics(Callback):
    """Logs a metric of samples, a loss of held-out data and one of training."""

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.log("val/fid-stand_in-600", 12.3456789)
        pl_module.log("val/kid-stand_in-600", 0.5)
        pl_module.log("val/loss", 7.0)
        pl_module.log("other-1k", 8.0)


def test_metrics_of_samples_are_printed_after_each_validation(capsys: pytest.CaptureFixture[str]) -> None:
    run = quiet_trainer([Metrics(), AnnounceMetrics()], max_epochs=2, num_sanity_val_steps=0)
    run.fit(StandInModel(), StandInData())
    lines = [line for line in capsys.readouterr().out.splitlines() if "fid" in line]
    assert len(lines) == 2
    for line, batches in zip(lines, (2, 4), strict=True):
        assert f" {batches} " in line
        assert "fid-stand_in-600 12.35" in line
        assert "kid-stand_in-600 0.5" in line
        assert "loss" not in line
        assert "other" not in line


def test_nothing_is_printed_where_no_metric_was_logged(capsys: pytest.CaptureFixture[str]) -> None:
    quiet_trainer([AnnounceMetrics()], num_sanity_val_steps=0).fit(StandInModel(), StandInData())
    assert "batches" not in capsys.readouterr().out


def test_a_progress_bar_prints_above_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []
    monkeypatch.setattr(TQDMProgressBar, "print", lambda self, *parts, **_: printed.extend(parts))
    run = quiet_trainer([Metrics(), AnnounceMetrics(), TQDMProgressBar()], enable_progress_bar=True)
    run.fit(StandInModel(), StandInData())
    assert "fid-stand_in-600 12.35" in printed[-1]
