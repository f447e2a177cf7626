"""Training inside of a study: on the CPU, without logs, bars or files, with measurements along the way."""

import signal
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader

from zoo.silence import without_advice

Value = TypeVar("Value")


class Along(Callback, Generic[Value]):
    """Measures a module after given numbers of batches.

    Args:
        places: Numbers of batches, 0 for before the training.
        measure: Maps the module to what is kept of it; it must not change the module.

    Attributes:
        values: What was measured, by the number of batches.
    """

    def __init__(self, places: Iterable[int], measure: Callable[[Any], Value]) -> None:
        self.places, self.measure = frozenset(places), measure
        self.values: dict[int, Value] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures the module before the training."""
        self.at(0, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measures the module where it is asked for."""
        self.at(trainer.global_step, pl_module)

    def at(self, batches: int, module: LightningModule) -> None:
        """Measures the module if this is one of the places."""
        if batches in self.places:
            self.values[batches] = self.measure(module)


def fit(
    module: LightningModule, data: LightningDataModule | DataLoader[Any], batches: int, *callbacks: Callback
) -> None:
    """Trains a module for a number of batches; the caller has seeded torch before the module was built.

    Raises:
        KeyboardInterrupt: For Ctrl-C.
    """
    handler = signal.getsignal(signal.SIGINT)
    with without_advice(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*have no `val_dataloader`", UserWarning)  # none is wanted
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            max_steps=batches,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=list(callbacks),
        )
        try:
            trainer.fit(module, data)
        except SystemExit as stop:  # which Lightning makes of Ctrl-C, and takes no further one
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from stop
