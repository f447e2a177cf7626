"""What Lightning 2.6 does otherwise when it resumes at the end of an epoch than in a run that goes on."""

from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loops.fit_loop import RestartStage
from lightning.pytorch.loops.loop import _Loop
from torch.utils.data import DataLoader


def begin_the_next_epoch(trainer: Trainer) -> None:
    """Lets a run that resumes at the end of an epoch begin the next one; to be called when training starts.

    With ``max_steps`` Lightning goes on with that epoch's validation, and where none is due, with a further batch of an
    epoch that has no more. Without ``max_steps`` it begins the next epoch, which is what is done here.
    """
    loop: Any = trainer.fit_loop
    if loop.restarted_on_epoch_end and not loop.epoch_loop._should_check_val_fx(loop._data_fetcher):
        _Loop.restarting.fset(loop, False)  # type: ignore[attr-defined]
        loop._restart_stage = RestartStage.RESUMED_ON_EPOCH_END
        loop.epoch_progress.increment_completed()


def draw_seeds_of_loaders(trainer: Trainer) -> None:
    """Draws the seeds of plain loaders again, when random states were restored; to be called when training starts.

    A loader draws its seed from torch's generator when an epoch begins. For an epoch that a resumed run begins with,
    it has done so before the states were restored, and in a run that goes on, after they were saved.
    """
    loop: Any = trainer.fit_loop
    at_the_end = loop.restarted_mid_epoch and loop.epoch_loop.batch_progress.is_last_batch
    if at_the_end or loop.resumed_on_epoch_end:
        for loader in loop._combined_loader.flattened:
            if isinstance(loader, DataLoader) and loader.generator is None:
                torch.empty((), dtype=torch.int64).random_()
