"""The record of a run: what a card tells of its cost and its curve."""

from pathlib import Path

import pytest
from lightning.pytorch import Trainer

from datamodules import Ring
from lightning_modules import WGANGP
from lightning_modules.callbacks import ModeCoverage
from zoo.record import MAX_ROWS, TrainingRecord


def fit(record: TrainingRecord, batches: int, **settings: object) -> tuple[WGANGP, Trainer]:
    data = Ring(batch_size=16, train_size=64, val_size=16)
    module = WGANGP.for_data(data.spec, width=2, latent_dim=2, critic_steps=2)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=batches,
        val_check_interval=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[record, ModeCoverage(num_samples=50)],
    )
    trainer.fit(module, data, **settings)  # type: ignore[arg-type]
    return module, trainer


def test_it_counts_examples_and_generator_steps_and_keeps_the_measures() -> None:
    record = TrainingRecord()
    module, trainer = fit(record, 6)
    cost = record.cost(module, trainer.global_step)
    assert cost["examples"] == 6 * 16
    assert cost["generator_updates"] == 3
    assert 0 <= cost["minutes"] < 5
    assert [row["batches"] for row in record.curve()] == [2, 4, 6]
    assert all("val/kl-50" in row for row in record.rows)
    assert not any("discriminator" in key for row in record.rows for key in row)  # a loss is no measure


def test_it_goes_on_after_a_resume(tmp_path: Path) -> None:
    first = TrainingRecord()
    _, trainer = fit(first, 2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    second = TrainingRecord()
    fit(second, 4, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert second.examples == 4 * 16
    assert [row["batches"] for row in second.rows] == [2, 4]
    assert second.seconds == pytest.approx(first.seconds + first._elapsed(), abs=60)


def test_long_curves_are_thinned_to_their_last_row() -> None:
    record = TrainingRecord()
    record.rows = [{"batches": float(i)} for i in range(101)]
    curve = record.curve()
    assert len(curve) <= MAX_ROWS
    assert curve[-1] == {"batches": 100.0}
