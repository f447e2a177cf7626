"""What all datamodules of this library share: splits, loaders, and a state that resumes a run exactly."""

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
        spec: What is yielded. Class counts are there after ``setup``.
        sources: The split data, by name; empty before ``setup``.
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
        """The examples of a split, read if need be.

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
        """Shuffled batches of the training split; see ``TrainingLoader``."""
        rank, world_size = self._place()
        loader = TrainingLoader(
            self.training_source(self.batch_size * world_size),
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

    def training_source(self, size: int) -> Source:
        """Returns the training examples for global batches of ``size``; who lays them out for a size overrides it."""
        return self.source("train")

    def val_dataloader(self) -> EvaluationLoader | list[EvaluationLoader]:
        """The held-out split, in order; see ``EvaluationLoader``. An empty list where it is empty."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> EvaluationLoader | list[EvaluationLoader]:
        """The test split, in order; see ``EvaluationLoader``. An empty list where it is empty."""
        return self._evaluation_loader("test")

    def state_dict(self) -> dict[str, Any]:
        """The position in the training data, as plain numbers; empty before training."""
        # The trainer's own: a callback may have asked for another one in between.
        loader = self.trainer.train_dataloader if self.trainer else None
        return {"training_loader": loader.state_dict()} if isinstance(loader, TrainingLoader) else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the state for the next ``train_dataloader``, which refuses one that does not fit."""
        self._state_to_load = state_dict.get("training_loader")

    def noise_key(self, split: str) -> tuple[int, int]:
        """Key of the fixed noise of a split: of (this, index of an example)."""
        return self.seed, SPLITS.index(split)

    def _count_classes(self) -> None:
        """Checks the labels and writes the training examples of each class into the spec."""
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
        key = self.noise_key(split)
        return EvaluationLoader(source, self.batch_size, key, self.transform, self.noise, *self._place())

    def _place(self) -> tuple[int, int]:
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    def _limit(self, length: int) -> int | None:
        limit = self.trainer.limit_train_batches if self.trainer else None
        return int(length * limit) if isinstance(limit, float) else limit
