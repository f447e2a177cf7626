"""What a run has to tell the training loaders of this library, whoever made them, and what it keeps for resuming.

A datamodule of this library does the same for its own loaders; here it is done for those that are passed to
``Trainer.fit`` or come from a datamodule of the user's own.
"""

from typing import Any, Protocol, runtime_checkable

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import BatchSampler

from datamodules.spec import Batch
from lightning_modules.runtime.class_frequencies import take_class_frequencies
from lightning_modules.runtime.positions import flat


@runtime_checkable
class ExactLoader(Protocol):
    """A loader whose batches are a function of its state, such as ``datamodules.loader.TrainingLoader``."""

    limit: int | None
    repeats: bool

    def state_dict(self) -> dict[str, Any]:
        """Returns the position of the next batch."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues at a position."""
        ...


class TrainingData(Callback):
    """Tells loaders how many batches an epoch has and whether it is repeated; keeps their position in checkpoints.

    Lightning keeps it, too, but drops it if ``configure_optimizers`` asks for the length of the run or if the run is
    resumed at the end of an epoch.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses what Lightning would read as other batches than the caller means; warns if there are to be none.

        Raises:
            ValueError: If batches were passed in place of a loader, or batches of a ``BatchSampler`` cannot be shared.
        """
        if stage == "fit" and trainer.limit_train_batches == 0:  # Lightning returns without a word
            rank_zero_warn(f"limit_train_batches=0: {type(pl_module).__name__} is not trained on any batch.")
        passed = flat(getattr(trainer.fit_loop._data_source, "instance", None)) if stage == "fit" else []
        if any(isinstance(loader, (Tensor, Batch)) for loader in passed):
            raise ValueError(
                "A list of batches is read as several loaders: pass a DataLoader, such as "
                "DataLoader(TensorDataset(x), batch_size=64)."
            )
        sampled = [loader for loader in passed if type(getattr(loader, "batch_sampler", None)) is BatchSampler]
        if trainer.world_size > 1 and any(loader.batch_size is None for loader in sampled):
            raise ValueError(
                f"Lightning cannot share the batches of a BatchSampler among {trainer.world_size} processes: give the "
                "DataLoader batch_size and sampler instead."
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepares the loader, which continues at the position of the checkpoint, and counts classes.

        Raises:
            ValueError: If there are several training loaders, or the position does not fit the loader.
        """
        loaders = flat(trainer.train_dataloader)
        if len(loaders) > 1:
            raise ValueError(
                f"{type(pl_module).__name__} trains on one loader, but was given {len(loaders)} (a list is read as "
                "several loaders); join their data sets, as torch.utils.data.ConcatDataset does."
            )
        self.on_train_epoch_start(trainer, pl_module)
        for loader in loaders:
            if isinstance(loader, ExactLoader) and self._loaded is not None:
                loader.load_state_dict(self._loaded)
            take_class_frequencies(pl_module, loader)
        self._loaded = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepares the loader, which may be new (``reload_dataloaders_every_n_epochs``)."""
        for loader in flat(trainer.train_dataloader):
            if isinstance(loader, ExactLoader):
                loader.limit = int(trainer.num_training_batches)
                loader.repeats = trainer.overfit_batches > 0  # type: ignore[attr-defined]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps the position of the loader."""
        for loader in flat(trainer.train_dataloader):
            if isinstance(loader, ExactLoader):
                checkpoint["training_loader"] = loader.state_dict()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps the position until training starts."""
        self._loaded = checkpoint.get("training_loader")
