"""Signals in a training: what was saved resumes to the uninterrupted run, bit for bit."""

import csv
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_modules.callbacks import EMA, SampleGrid
from lightning_modules.runtime.interruption import Interrupted, interruptible
from lightning_modules.runtime.tracking import Tracking
from tests.processes import on_two
from tests.runtime.stopped_on_processes import stopped
from tests.test_resume import differences, states
from tests.training import TinyData, build

STEPS, BOTH = 12, [signal.SIGINT, signal.SIGTERM]


class Signal(Callback):
    """Sends a signal to this process in a hook, when so many batches were trained."""

    def __init__(self, hook: str, batches: int, signum: int, times: int = 1) -> None:
        self.batches, self.signum, self.times = batches, signum, times
        setattr(self, hook, self.send)

    def send(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        if trainer.global_step == self.batches:
            for _ in range(self.times):
                signal.raise_signal(self.signum)


def fit(name: str, *callbacks: Callback, ckpt_path: str | None = None, method: str = "WGANGP", **settings: Any) -> None:
    """Trains into ``runs/<name>``: an epoch has five batches, every fourth batch is followed by a validation."""
    seed_everything(0, verbose=False)
    module, shape = build(method)
    trainer = Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        logger=Tracking(name, mode="disabled"),
        log_every_n_steps=1,
        val_check_interval=4,
        check_val_every_n_epoch=None,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*callbacks, EMA(), SampleGrid(num_samples=4), ModelCheckpoint(every_n_train_steps=STEPS)],
        **settings,
    )
    with interruptible(trainer):
        trainer.fit(module, TinyData(shape), ckpt_path=ckpt_path, weights_only=True)


@pytest.fixture(autouse=True)
def without_w_and_b(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")


def rows(name: str) -> list[dict[str, str]]:
    with Path("runs", name, "metrics.csv").open(newline="") as file:
        return sorted(csv.DictReader(file), key=lambda row: int(row["step"]))


def last(name: str) -> dict[str, Any]:
    (file,) = Path("runs", name, "checkpoints").glob(f"*step={STEPS}.ckpt")
    return states(file)


@pytest.mark.parametrize(
    ("hook", "batches", "signum"),
    [
        ("on_train_batch_start", 5, signal.SIGINT),  # the first of an epoch
        ("on_train_batch_start", 6, signal.SIGINT),
        ("on_train_batch_start", 6, signal.SIGTERM),
        ("on_train_batch_end", 4, signal.SIGTERM),  # a validation is due
        ("on_train_epoch_end", 5, signal.SIGTERM),
        ("on_validation_start", 4, signal.SIGINT),
        ("on_validation_batch_end", 8, signal.SIGINT),
        ("on_validation_batch_end", 8, signal.SIGTERM),
        ("on_validation_epoch_end", 8, signal.SIGTERM),
    ],
)
def test_an_interrupted_run_resumes_to_the_uninterrupted_one(hook: str, batches: int, signum: int) -> None:
    with pytest.raises(Interrupted) as caught:
        fit("stopped", Signal(hook, batches, signum))
    stop = caught.value
    assert stop.checkpoint == Path("runs/stopped/checkpoints/last.ckpt")
    assert stop.exit_code == {signal.SIGINT: 130, signal.SIGTERM: 143}[signal.Signals(signum)]
    saved = torch.load(stop.checkpoint, weights_only=True)["global_step"]
    assert stop.batches == saved
    assert saved == batches + (hook in ("on_train_batch_start", "on_train_epoch_end")), "the batch is finished"
    fit("stopped", ckpt_path=str(stop.checkpoint))
    fit("whole")
    assert differences(last("whole"), last("stopped")) == []
    assert rows("stopped") == rows("whole"), "with the batches and the validations around the interruption"


def test_a_second_signal_stops_at_once() -> None:
    with pytest.raises(Interrupted) as caught:
        fit("stopped", Signal("on_train_batch_start", 2, signal.SIGINT, times=2))
    assert caught.value.checkpoint is None
    assert not Path("runs/stopped/checkpoints/last.ckpt").exists()


@pytest.mark.parametrize("signum", BOTH)
@pytest.mark.parametrize("hook", ["setup", "on_fit_start", "on_sanity_check_start"])
def test_before_the_training_there_is_nothing_to_save(hook: str, signum: int) -> None:
    with pytest.raises(Interrupted) as caught:
        fit("stopped", Signal(hook, 0, signum))
    assert caught.value.signum == signum
    assert caught.value.checkpoint is None


def test_the_handlers_are_restored() -> None:
    before = [signal.getsignal(signum) for signum in BOTH]
    with pytest.raises(Interrupted):
        fit("stopped", Signal("on_train_batch_start", 2, signal.SIGTERM))
    assert [signal.getsignal(signum) for signum in BOTH] == before


def test_other_errors_stay_what_they_are() -> None:
    class Failing(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit("stopped", Failing())
    assert not Path("runs/stopped/checkpoints/last.ckpt").exists()


def test_processes_stop_at_the_same_batch_whichever_has_the_signal(tmp_path: Path) -> None:
    """Of a save that one process begins alone, the other would not hear; so this test would not end."""
    cases = [
        ((0, 1), "on_train_batch_start", 6, signal.SIGINT),
        ((1,), "on_train_batch_end", 4, signal.SIGTERM),  # a validation is due
        ((0,), "on_validation_batch_end", 8, signal.SIGINT),
    ]
    first, second = on_two(stopped, cases)
    assert first == second
    assert [(run["signum"], run["differences"]) for run in first] == [(case[3], []) for case in cases]
    assert [run["file"] for run in first] == [str(tmp_path / f"stopped-{i}/checkpoints/last.ckpt") for i in range(3)]
    assert all(case[2] <= run["batches"] < STEPS for case, run in zip(cases, first, strict=True))
