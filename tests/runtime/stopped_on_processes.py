"""Runs on two processes that signals stop, beside the run that no signal stops."""

import signal
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_modules.callbacks import EMA
from lightning_modules.parts.processes import rank
from lightning_modules.runtime.interruption import Interrupted, interruptible
from tests.test_resume import differences, states
from tests.training import TinyData, build

STEPS = 12


class SignalTo(Callback):
    """Sends one signal to some processes in a hook, when so many batches were trained."""

    def __init__(self, ranks: tuple[int, ...], hook: str, batches: int, signum: int) -> None:
        self.ranks, self.batches, self.signum = ranks, batches, signum
        setattr(self, hook, self.send)

    def send(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        if trainer.global_step == self.batches and rank() in self.ranks:
            self.ranks = ()
            signal.raise_signal(self.signum)


def fit(name: str, *callbacks: Callback, ckpt_path: str | None = None) -> None:
    """Trains into the folder ``name``: an epoch has five batches, every fourth batch is followed by a validation."""
    seed_everything(0, verbose=False)
    module, shape = build("WGANGP")
    trainer = Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        default_root_dir=name,
        logger=False,
        val_check_interval=4,
        check_val_every_n_epoch=None,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*callbacks, EMA(), ModelCheckpoint(f"{name}/checkpoints", every_n_train_steps=STEPS)],
    )
    with interruptible(trainer):
        trainer.fit(module, TinyData(shape), ckpt_path=ckpt_path, weights_only=True)


def last(name: str) -> dict[str, Any]:
    (file,) = Path(name, "checkpoints").glob(f"*step={STEPS}.ckpt")
    return states(file)


def stopped(cases: list[tuple[tuple[int, ...], str, int, int]]) -> list[dict[str, Any]]:
    """Stops a run in each case and resumes it; returns when it stopped, and what differs from the whole run then."""
    fit("whole")
    results = []
    for index, case in enumerate(cases):
        name = f"stopped-{index}"
        try:
            fit(name, SignalTo(*case))
        except Interrupted as stop:
            found = {"signum": stop.signum, "batches": stop.batches, "file": str(stop.checkpoint)}
            fit(name, ckpt_path=str(stop.checkpoint))
            results.append({**found, "differences": differences(last("whole"), last(name))})
    return results
