"""The record of a run: what a card tells of its cost and its curve."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

import zoo
from datamodules import Ring
from lightning_modules import ALI, WGANGP, Gaussian
from lightning_modules.callbacks import ModeCoverage
from tests.standins import StopAfter, quiet_trainer
from zoo.record import MAX_ROWS, TrainingRecord, hardware_of, held_out_measures


def fit(record: TrainingRecord, batches: int, stop_after: int | None = None, **settings: Any) -> tuple[WGANGP, Trainer]:
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
        callbacks=[record, ModeCoverage(num_samples=50), StopAfter(stop_after)],
    )
    trainer.fit(module, data, **settings)
    return module, trainer


def test_it_counts_examples_and_generator_steps_and_keeps_the_metrics() -> None:
    record = TrainingRecord()
    module, trainer = fit(record, 6)
    cost = record.cost(module, trainer.global_step)
    assert cost["examples"] == 6 * 16
    assert cost["generator_updates"] == 3
    assert 0 <= cost["minutes"] < 5
    assert [row["batches"] for row in record.curve()] == [2, 4, 6]
    assert all("val/kl-50" in row for row in record.rows)
    assert not any("discriminator" in key for row in record.rows for key in row)  # a loss is no metric


def test_the_card_says_what_a_run_was_trained_on(tmp_path: Path) -> None:
    module, trainer = fit(TrainingRecord(), 2)
    units, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    expected = f"CPU with {units}, {threads} thread" + "s" * (threads > 1)
    card = zoo.save(module, tmp_path / "trained", samples=False)
    assert card.hardware == expected
    assert f"- Hardware: {expected}\n" in (card.path / "README.md").read_text()
    untrained = zoo.save(Gaussian(shape=(2,)), tmp_path / "untrained", samples=False)
    assert untrained.hardware is None
    other: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("mps")), world_size=2)
    assert hardware_of(other) == "2 x mps"


def test_accumulated_batches_make_one_step() -> None:
    module = WGANGP(shape=[2], architecture="mlp", width=2, latent_dim=2, critic_steps=2, accumulate_batches=4)
    assert TrainingRecord().cost(module, 24)["generator_updates"] == 3


def test_steps_of_a_generator_and_its_encoder_are_counted() -> None:
    module = ALI(shape=[2], architecture="mlp", width=2, latent_dim=2, critic_steps=2)
    assert TrainingRecord().cost(module, 24)["generator_updates"] == 12


def test_it_continues_after_a_resume(tmp_path: Path) -> None:
    first = TrainingRecord()
    _, trainer = fit(first, 2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    second = TrainingRecord()
    fit(second, 4, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert second.examples == 4 * 16
    assert [row["batches"] for row in second.rows] == [2, 4]
    assert second.seconds == pytest.approx(first.seconds + first._elapsed(), abs=60)
    assert second.planned == 4, "the plan of the last part"


def test_it_keeps_the_plan_also_for_a_run_that_was_stopped(tmp_path: Path) -> None:
    record = TrainingRecord()
    _, trainer = fit(record, 6, stop_after=2)
    trainer.save_checkpoint(tmp_path / "stopped.ckpt")
    assert (trainer.global_step, record.planned) == (2, 6)
    state = torch.load(tmp_path / "stopped.ckpt", weights_only=True)["callbacks"]["TrainingRecord"]
    again = TrainingRecord()
    again.load_state_dict(state)
    assert (again.planned, again.examples) == (6, 2 * 16)
    again.load_state_dict({key: value for key, value in state.items() if key != "planned"})
    assert again.planned is None, "files of former versions do not say it"


class Endless(IterableDataset[tuple[Tensor, Tensor]]):
    """Three batches of points, and nothing that says so before they are read."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter([(torch.zeros(2), torch.tensor(0))] * 12)


def test_data_without_a_length_make_no_plan(tmp_path: Path) -> None:
    record, module = TrainingRecord(), WGANGP(shape=(2,), architecture="mlp", width=2)
    trainer = quiet_trainer([record], max_epochs=2)
    trainer.fit(module, DataLoader(Endless(), 4), DataLoader(Endless(), 4))
    assert (trainer.global_step, record.planned) == (6, None)
    card = zoo.save(module, tmp_path / "x", samples=False)
    assert (card.batches, card.planned_batches) == (6, None)


def test_a_trainer_that_has_only_tested_makes_no_plan(tmp_path: Path) -> None:
    data = Ring(batch_size=16, train_size=64, val_size=16, test_size=16)
    module = Gaussian.for_data(data.spec)
    quiet_trainer(max_epochs=2).test(module, data, verbose=False)
    card = zoo.save(module, tmp_path / "x", samples=False)
    assert (card.batches, card.planned_batches) == (None, None)


def test_long_curves_are_thinned_to_their_last_row() -> None:
    record = TrainingRecord()
    record.rows = [{"batches": float(i)} for i in range(101)]
    curve = record.curve()
    assert len(curve) <= MAX_ROWS
    assert curve[-1] == {"batches": 100.0}


@pytest.mark.parametrize("others", [{}, {"val/fid-bars-8": torch.tensor(2.0)}])
def test_losses_of_players_are_recorded_only_if_nothing_else_is_measured(others: dict[str, Tensor]) -> None:
    losses = {"val/discriminator_loss": torch.tensor(1.5)}
    logged = {"train/generator": torch.tensor(1.0), **losses, **others}
    kept = held_out_measures(SimpleNamespace(callback_metrics=logged))  # type: ignore[arg-type]
    assert kept == {name: value.item() for name, value in (others or losses).items()}
