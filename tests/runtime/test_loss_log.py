"""Losses are known wherever they are read: by the logger, by callbacks that monitor them, in the progress bar."""

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from lightning_modules import METHODS
from lightning_modules.base import ZooModule
from lightning_modules.parts.critic_schedules import EveryNth
from lightning_modules.parts.penalties import WeightedTerm, r1
from tests.adversarial import tiny_loop
from tests.processes import on_two
from tests.runtime.losses_on_processes import losses_of
from tests.standins import quiet_trainer
from tests.training import GLOBAL_BATCH, TinyData, build, data_of

GAMES = ["WGANGP", "WGAN", "MinimaxGAN", "ComposedGAN"]


def trained(method: str, *callbacks: Callback, overrides: dict[str, Any] | None = None, **settings: Any) -> Trainer:
    torch.manual_seed(0)
    module, shape = build(method, **(overrides or {}))
    trainer = quiet_trainer(callbacks, **{"enable_checkpointing": bool(callbacks), "limit_val_batches": 0, **settings})
    trainer.fit(module, TinyData(shape, GLOBAL_BATCH, **data_of(method)))
    return trainer


class Rows(CSVLogger):
    """Keeps what is logged, by step."""

    def __init__(self) -> None:
        super().__init__("logs")
        self.rows: dict[int, dict[str, float]] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.rows.setdefault(step, {}).update(metrics)


class LastLosses(Callback):
    """Keeps the values that a module has computed last, after every batch."""

    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, ZooModule)
        self.values.append({f"train/{name}": value.item() for name, value in pl_module.last_losses.items()})


@pytest.mark.parametrize("method", GAMES)
@pytest.mark.parametrize(("critic_steps", "every"), [(5, 2), (3, 4), (2, 3), (4, 4)])
def test_the_last_value_of_each_player_is_logged_whenever_losses_are(
    method: str, critic_steps: int, every: int
) -> None:
    logger, last = Rows(), LastLosses()
    trained(
        method,
        last,
        overrides={"critic_steps": critic_steps},
        logger=logger,
        log_every_n_steps=every,
        max_epochs=3,
        enable_checkpointing=False,
    )
    logged = {step: row for step, row in logger.rows.items() if (step + 1) % every == 0}
    assert sorted(logged) == list(range(every - 1, 15, every))
    for step, row in logged.items():
        assert row.keys() >= last.values[step].keys()
        assert {key: row[key] for key in last.values[step]} == last.values[step]
        assert "train/generator" in row
    if critic_steps < every:
        changes = [row["train/generator"] for row in logged.values()]
        assert len(set(changes)) == len(changes)


def test_a_penalty_that_is_due_now_and_then_is_logged_with_the_others() -> None:
    module = tiny_loop.build(penalties={"r1": WeightedTerm(1.0, r1, every=3)})
    logger = Rows()
    quiet_trainer(logger=logger, max_epochs=1, log_every_n_steps=5, limit_val_batches=0).fit(module, tiny_loop.Images())
    assert all("train/r1" in logger.rows[step] for step in (4, 9))


def test_professor_forcing_logs_every_term_that_it_computes() -> None:
    """The discriminator makes no step here, and the model is not trained against it."""
    logger = Rows()
    thresholds = {"discriminator_accuracy_threshold": 0.0, "generator_accuracy_threshold": 1.0}
    trained("ProfessorForcing", overrides=thresholds, logger=logger, log_every_n_steps=2)
    row = logger.rows[1]
    assert row.keys() >= {"train/discriminator", "train/discriminator_accuracy", "train/nats_per_step"}


def test_a_resumed_run_knows_the_last_values() -> None:
    trained("WGANGP", overrides={"critic_steps": 3}, max_steps=4).save_checkpoint("after-4.ckpt")
    module, shape = build("WGANGP", critic_steps=3)
    logger = Rows()
    trainer = quiet_trainer(logger=logger, max_epochs=-1, max_steps=5, log_every_n_steps=5)
    trainer.fit(module, TinyData(shape, GLOBAL_BATCH), ckpt_path="after-4.ckpt")
    assert "train/generator" in logger.rows[4]


def loss_of(method: str) -> str:
    """Names a term that the method logs."""
    trainer = trained(method, log_every_n_steps=1, max_epochs=-1, max_steps=2, enable_checkpointing=False)
    return next(key for key in trainer.callback_metrics if key.startswith("train/"))


@pytest.mark.filterwarnings("ignore:The schedule of growth_steps")  # which early stopping ends before
@pytest.mark.parametrize("method", METHODS)
def test_losses_can_be_monitored_in_epochs_shorter_than_the_logging_interval(method: str, tmp_path: Path) -> None:
    name = loss_of(method)
    stopping = EarlyStopping(name, patience=1, min_delta=1e9)
    best = ModelCheckpoint(tmp_path, monitor=name, save_top_k=1)
    trainer = trained(method, stopping, best, max_epochs=9, log_every_n_steps=50)
    assert trainer.current_epoch == 2
    assert best.best_model_score is not None
    assert torch.isfinite(best.best_model_score)


@pytest.mark.parametrize(
    "settings",
    [
        {"val_check_interval": 2, "limit_val_batches": 1},
        {"val_check_interval": 7, "check_val_every_n_epoch": None, "limit_val_batches": 1, "max_epochs": 3},
        {"max_epochs": -1, "max_steps": 3},
        {"limit_train_batches": 2, "max_epochs": 2},
        {"max_epochs": -1, "stop_after": 3},  # as a limit of time does
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["WGANGP", "Gaussian"])
def test_losses_can_be_monitored_whatever_ends_the_epoch(method: str, settings: dict[str, Any]) -> None:
    settings = dict(settings)
    name = "train/discriminator" if method == "WGANGP" else "train/nll"
    seen: list[bool] = []

    class Reading(EarlyStopping):
        def _run_early_stopping_check(self, trainer: Trainer) -> None:
            seen.append(name in trainer.callback_metrics)
            super()._run_early_stopping_check(trainer)

    class Stopping(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            trainer.should_stop = trainer.global_step == after

    after = settings.pop("stop_after", None)
    callbacks = [Stopping(), Reading(name, patience=99)]
    trained(method, *callbacks, log_every_n_steps=50, enable_checkpointing=False, **settings)
    assert seen
    assert all(seen)


@pytest.mark.parametrize("method", ["WGANGP", "Gaussian"])
def test_checkpoints_can_be_chosen_by_a_loss_between_the_ends_of_epochs(method: str, tmp_path: Path) -> None:
    name = "train/discriminator" if method == "WGANGP" else "train/nll"
    last = LastLosses()
    best = ModelCheckpoint(tmp_path, monitor=name, every_n_train_steps=3, save_top_k=-1)
    trained(method, last, best, max_epochs=2, log_every_n_steps=50)
    expected = [last.values[batch - 1][name] for batch in (3, 6, 9)]
    assert [value.item() for value in best.best_k_models.values()] == pytest.approx(expected)


@pytest.mark.parametrize("method", ["WGANGP", "ProfessorForcing", "VAE", "Classifier"])
def test_the_progress_bar_shows_losses_as_numbers(method: str) -> None:
    class Bar(TQDMProgressBar):
        shown: set[str] = set()

        def get_metrics(self, *arguments: Any) -> Any:
            metrics = super().get_metrics(*arguments)
            self.shown |= {key for key, value in metrics.items() if isinstance(value, float)}
            return metrics

    bar = Bar()
    with redirect_stdout(io.StringIO()):
        trainer = trained(method, bar, enable_progress_bar=True, max_epochs=1, log_every_n_steps=2)
    terms = {key for key in trainer.callback_metrics if key.startswith("train/")}
    assert terms
    assert terms <= bar.shown


def test_nothing_is_fetched_from_the_device_between_the_batches_that_are_logged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetched: list[int] = []
    item, tolist = Tensor.item, Tensor.tolist
    monkeypatch.setattr(Tensor, "item", lambda self: (fetched.append(1), item(self))[1])
    monkeypatch.setattr(Tensor, "tolist", lambda self: (fetched.append(1), tolist(self))[1])
    counts: list[int] = []

    class Count(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            counts.append(len(fetched))

    with redirect_stdout(io.StringIO()):
        trained("Gaussian", Count(), enable_progress_bar=True, max_epochs=1, log_every_n_steps=50, max_steps=4)
    assert counts[1] == counts[2] == counts[3]


@pytest.mark.parametrize("method", ["WGANGP", "Gaussian"])
def test_a_trainer_that_logs_nothing_trains(method: str) -> None:
    torch.manual_seed(0)
    module, shape = build(method)
    trained_steps = Trainer(accelerator="cpu", barebones=True, max_steps=2, limit_val_batches=0)
    trained_steps.fit(module, TinyData(shape, GLOBAL_BATCH))
    assert trained_steps.global_step == 2
    assert trained(method, max_steps=2, log_every_n_steps=0).global_step == 2


@pytest.mark.parametrize(("method", "monitored"), [("WGANGP", "train/discriminator"), ("VAE", "train/reconstruction")])
def test_monitored_losses_are_equal_on_all_processes(method: str, monitored: str) -> None:
    (epochs, losses), other = on_two(losses_of, method, monitored)
    assert (epochs, losses) == other
    assert epochs == 2
    assert monitored in losses


@pytest.mark.parametrize("limit", [1, 2])
def test_the_generators_loss_is_known_before_its_first_step(limit: int, tmp_path: Path) -> None:
    """In epochs shorter than the critic's steps; the run is the same with and without a reader."""

    def trained(*callbacks: Callback) -> tuple[Trainer, Any]:
        module = tiny_loop.build(schedule=EveryNth(5))
        torch.manual_seed(3)
        limits: dict[str, Any] = {"limit_train_batches": limit, "limit_val_batches": 0}
        trainer = quiet_trainer(list(callbacks), max_epochs=6, enable_checkpointing=bool(callbacks), **limits)
        trainer.fit(module, tiny_loop.Images())
        return trainer, module

    saved = ModelCheckpoint(tmp_path, monitor="train/generator", save_top_k=1)
    trainer, module = trained(EarlyStopping("train/generator", patience=20), saved)
    assert trainer.global_step == 6 * limit
    assert saved.best_model_score is not None
    _, plain = trained()
    assert torch.equal(tiny_loop.weights(module), tiny_loop.weights(plain))
