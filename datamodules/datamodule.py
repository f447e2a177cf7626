"""What all datamodules share: splits, loaders, and a state that resumes a run exactly."""

from dataclasses import replace
from typing import Any

import torch.distributed
from lightning.pytorch import LightningDataModule

from datamodules.loader import EvaluationLoader, Source, TrainingLoader, Transform
from datamodules.spec import DataSpec

SPLITS = ("train", "val", "test")


class ZooDataModule(LightningDataModule):
    """Abstract: a subclass fills ``self.sources`` in ``setup`` and sets ``self.spec``.

    The position in the training data is part of the datamodule's own state. Lightning would also keep the
    state of the loader, but it drops that when a run is resumed at the end of an epoch, or when
    ``configure_optimizers`` reads ``trainer.estimated_stepping_batches``; the state of a datamodule is always
    restored.

    Attributes:
        spec: Describes the examples. ``setup`` fills in ``class_counts``.
        batch_size: Examples per process and batch.
        seed: Seed of order and noise, at least 0.
        transform: Maps (raw examples, uniform noise or None) to the examples of a batch; None leaves them as they are.
        noise: Whether ``transform`` needs noise.
        sources: The data of each split, by its name; empty before ``setup``.
    """

    spec: DataSpec
    batch_size: int
    seed: int
    transform: Transform | None = None
    noise: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.sources: dict[str, Source] = {}
        self._state_to_load: dict[str, Any] | None = None

    def source(self, split: str) -> Source:
        """Returns the examples of a split, and reads the data first if that has not happened.

        Raises:
            ValueError: If ``split`` is not "train", "val" or "test".
        """
        if split not in SPLITS:
            raise ValueError(f"split={split!r} is not one of {', '.join(SPLITS)}.")
        if not self.sources:
            self.prepare_data()
            self.setup("fit")
        return self.sources[split]

    def train_dataloader(self) -> TrainingLoader:
        """Returns the loader of the training split, shuffled; see ``TrainingLoader``, also for errors."""
        rank, world_size = self._place()
        loader = TrainingLoader(
            self.source("train") if (layout := self.training_layout(self.batch_size * world_size)) is None else layout,
            self.batch_size,
            self.seed,
            self.transform,
            self.noise,
            rank,
            world_size,
            start_epoch=self.trainer.current_epoch if self.trainer else 0,
        )
        loader.limit = self._limit(len(loader))
        if self._state_to_load is not None:
            loader.load_state_dict(self._state_to_load)
            self._state_to_load = None
        return loader

    def training_layout(self, size: int) -> Source | None:
        """Hook: returns the training examples if their layout depends on the ``size`` of a global batch."""
        return None

    def evaluation_batch_size(self, split: str, world_size: int) -> int | None:
        """Hook: returns the examples per process and held-out batch where they are not ``batch_size``."""
        return None

    def val_dataloader(self) -> EvaluationLoader | list[EvaluationLoader]:
        """Returns the loader of the validation split, in order; an empty list where the split is empty."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> EvaluationLoader | list[EvaluationLoader]:
        """Returns the loader of the test split, in order; an empty list where the split is empty."""
        return self._evaluation_loader("test")

    def state_dict(self) -> dict[str, Any]:
        """Returns the position in the training data, as plain numbers; empty before training."""
        # Not the last loader made: a callback may have asked for another one in between.
        loader = self.trainer.train_dataloader if self.trainer else None
        return {"training_loader": loader.state_dict()} if isinstance(loader, TrainingLoader) else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the state for the next ``train_dataloader``, which refuses one that does not fit."""
        self._state_to_load = state_dict.get("training_loader")

    def noise_key(self, split: str) -> tuple[int, int]:
        """Returns the key of a split's fixed noise, which is a function of this key and of the index of an example."""
        return self.seed, SPLITS.index(split)

    def _count_classes(self) -> None:
        """Checks the labels, and writes the number of training examples of each class into the spec."""
        if (classes := self.spec.num_classes) is None:
            return
        for split, source in self.sources.items():
            if len(source) and not 0 <= source.labels.min() <= source.labels.max() < classes:
                raise ValueError(f"The {split} labels of {self.spec.name} do not lie in 0..{classes - 1}.")
        counts = self.sources["train"].labels.bincount(minlength=classes)
        self.spec = replace(self.spec, class_counts=tuple(counts.tolist()))

    def _evaluation_loader(self, split: str) -> EvaluationLoader | list[EvaluationLoader]:
        source = self.source(split)
        if len(source) == 0:
            return []
        rank, world_size = self._place()
        size = self.evaluation_batch_size(split, world_size) or self.batch_size
        return EvaluationLoader(source, size, self.noise_key(split), self.transform, self.noise, rank, world_size)

    def _place(self) -> tuple[int, int]:
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    def _limit(self, length: int) -> int | None:
        limit = self.trainer.limit_train_batches if self.trainer else None
        return int(length * limit) if isinstance(limit, float) else limit
