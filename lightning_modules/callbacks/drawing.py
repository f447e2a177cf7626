"""The base of callbacks that draw: when, where the PNG goes, and to which loggers."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from lightning_modules.callbacks.ema import averaged_weights
from lightning_modules.callbacks.judged_blocks import undisturbed
from lightning_modules.parts.pictures import save_png


class Drawing(Callback, ABC):
    """Abstract: draws one picture from fixed noise, at every validation or each so many batches.

    Process 0 draws alone, in eval mode, with averaged weights where an ``EMA`` callback keeps them; no
    random state is touched. The PNG is ``<log dir>/<name>/step-<batches>.png``, and every logger that can
    ``log_image`` gets it.

    Args:
        every_n_batches: Batches from one picture to the next; ``None`` for one each validation.
        seed: Seed of the noise, the same each time, so that the pictures show the model change and nothing else.

    Raises:
        ValueError: If ``every_n_batches`` is below 1.
    """

    name: str

    def __init__(self, every_n_batches: int | None, seed: int) -> None:
        if every_n_batches is not None and every_n_batches < 1:
            raise ValueError(f"every_n_batches={every_n_batches} must be at least 1, or None for each validation.")
        self.every_n_batches = every_n_batches
        self.seed = seed

    @abstractmethod
    def draw(self, trainer: Trainer, module: LightningModule) -> Image.Image:
        """Draws; called on process 0 only, inside everything that sampling needs."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draws every ``every_n_batches``."""
        if self.every_n_batches is not None and trainer.global_step % self.every_n_batches == 0:
            self._record(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws, except in the sanity check, unless batches decide."""
        if self.every_n_batches is None and not trainer.sanity_checking:
            self._record(trainer, pl_module)

    def _record(self, trainer: Trainer, module: LightningModule) -> None:
        folder = Path(trainer.log_dir or trainer.default_root_dir) / self.name  # a collective call
        if not trainer.is_global_zero:
            return
        with undisturbed(module), averaged_weights(trainer, module):
            picture = self.draw(trainer, module)
        save_png(picture, folder / f"step-{trainer.global_step:08d}.png")
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image(self.name, [picture], step=trainer.global_step)
