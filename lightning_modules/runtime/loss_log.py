"""Losses of training: logged at intervals, and known wherever a callback or the progress bar reads them."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

PREFIX = "train/"


class LossLoggingModule(LightningModule):
    """Abstract: keeps the last value of every term, and publishes all of them together in the batches that need it.

    Terms need not be computed in the batches that are logged: a generator may move in other batches than those, and a
    penalty may be due in every sixteenth. So values are kept when they are computed, which costs nothing, and the last
    ones are published together.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last_losses: dict[str, Tensor] = {}
        self._own_losses: set[str] = set()  # names of values that differ between processes
        self._published_batches, self.batches_before = -1, 0

    @property
    def batches_trained(self) -> int:
        """Number of completed batches; unlike ``global_step`` it does not change within a training step.

        Outside of ``Trainer.fit``: those that the weights were trained on, also where a checkpoint was loaded.
        """
        if self.trainer.state.fn == TrainerFn.FITTING:
            return self.trainer.fit_loop.epoch_loop._batches_that_stepped
        return self.batches_before

    def on_train_end(self) -> None:
        """Keeps the number of batches for a later evaluation."""
        self.batches_before = self.batches_trained

    def log_losses(self, terms: Mapping[str, Tensor], *, equal_everywhere: bool = False) -> None:
        """Keeps scalars, which ``publish_losses`` logs under ``train/``; ``objective`` and ``counted_batch`` call it.

        Args:
            terms: Name to scalar.
            equal_everywhere: Whether the values are means over all processes already.
        """
        self.last_losses |= {name: value.detach() for name, value in terms.items()}
        if equal_everywhere:
            self._own_losses.difference_update(terms)
        else:
            self._own_losses.update(terms)

    def publish_losses(self) -> None:
        """Logs the last value of each term as ``train/<name>``, averaged over processes, if a reader needs it now.

        ``self.log`` takes half a millisecond per key, also on batches whose values the logger then drops. So values
        are logged every ``log_every_n_steps`` batches, and before validation, the end of an epoch and a checkpoint
        that is chosen by a loss. The progress bar gets numbers: Lightning would fetch them from the device in every
        batch.
        """
        if not self.last_losses or not losses_are_read(self.trainer, self.batches_trained):
            return
        values = self._means()
        self.log_dict(values)
        self._published_batches = self.batches_trained
        bar = self.trainer.progress_bar_callback
        if bar is not None and getattr(bar, "is_enabled", True):
            numbers = torch.stack(list(values.values())).tolist()
            self.trainer.progress_bar_metrics.update(zip(values, numbers, strict=True))

    def on_train_epoch_end(self) -> None:
        """Makes the last values known to the callbacks that monitor them, also where an epoch was cut short."""
        if self.last_losses and not self.trainer.barebones and self._published_batches != self.batches_trained - 1:
            self.trainer.callback_metrics.update(self._means())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the last values: the next ones of some terms may be many batches away."""
        checkpoint["losses"] = {name: value.cpu() for name, value in self.last_losses.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the last values."""
        self.last_losses = dict(checkpoint.get("losses", {}))

    def _means(self) -> dict[str, Tensor]:
        values = torch.stack([value.to(self.device, torch.float32) for value in self.last_losses.values()])
        if self._own_losses:
            values = self.trainer.strategy.reduce(values, reduce_op="mean")
        return {PREFIX + name: value for name, value in zip(self.last_losses, values, strict=True)}


def losses_are_read(trainer: Trainer, batches: int) -> bool:
    """Returns whether losses are read after the batch that follows ``batches`` others.

    Readers are the logger, and callbacks that monitor a loss when an epoch ends, before or in validation, or when they
    write a checkpoint.
    """
    if trainer.barebones:
        return False
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    if (every and (batches + 1) % every == 0) or trainer.is_last_batch:
        return True
    loop, interval = trainer.fit_loop, trainer.val_check_batch
    index = loop.total_batch_idx if trainer.check_val_every_n_epoch is None else loop.batch_idx
    if isinstance(interval, int) and (index + 1) % interval == 0:
        return True
    return any(
        isinstance(callback, ModelCheckpoint)
        and str(callback.monitor).startswith(PREFIX)
        and _saves_after(callback, batches + 1)
        for callback in trainer.checkpoint_callbacks
    )


def _saves_after(callback: ModelCheckpoint, batches: int) -> bool:
    every = callback._every_n_train_steps
    return callback._train_time_interval is not None or (every > 0 and batches % every == 0)
