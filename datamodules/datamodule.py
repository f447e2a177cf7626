"""What all datamodules share: splits, loaders, and a state that resumes a run exactly."""

from dataclasses import replace
from functools import cached_property, partial
from typing import Any, ClassVar

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn, TrainerStatus

from datamodules.argument_types import check_argument_types, signature_of
from datamodules.loader import EvaluationLoader, Source, TrainingLoader, Transform
from datamodules.spec import DataSpec

SPLITS = ("train", "val", "test")


class ZooDataModule(LightningDataModule):
    """Abstract: a subclass fills ``self.sources`` in ``setup`` and sets ``self.spec``.

    Where the spec depends on files of the user, it is completed from them when it is first asked for; see ``describe``.

    The position in the training data is part of the datamodule's own state. Lightning would also keep the
    state of the loader, but it drops that when a run is resumed at the end of an epoch, or when
    ``configure_optimizers`` reads ``trainer.estimated_stepping_batches``; the state of a datamodule is always
    restored.

    Attributes:
        batch_size: Examples per process and batch.
        seed: Seed of order and noise, at least 0.
        transform: Maps (raw examples, uniform noise or None) to the examples of a batch; None leaves them as they are.
        noise: Whether ``transform`` needs noise.
        sources: The data of each split, by its name; empty before ``setup``.
        place: Rank and number of processes whose part of the data the loaders yield; ``None`` for those of the run in
            which a loader is used, whenever it was made.

    Raises:
        ValueError: If an argument of a datamodule that is annotated as a count, a number, a truth value or a list is
            none.
    """

    own_argument: ClassVar[str | None] = None
    """The argument that is the path of the user's own data; ``None`` for public or generated data."""

    _spec: DataSpec
    batch_size: int
    seed: int
    transform: Transform | None = None
    noise: bool = False
    place: tuple[int, int] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Keeps the constructor's signature where it is inherited: some versions of Python take that of ``__new__``."""
        super().__init_subclass__(**kwargs)
        cls.__signature__ = signature_of(cls.__init__)  # type: ignore[attr-defined]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Checks the arguments of every datamodule, before it does anything with them."""
        if args or kwargs:  # there are none where a datamodule is copied
            check_argument_types(cls.__init__, args, kwargs)
        return super().__new__(cls)

    def __init__(self) -> None:
        super().__init__()
        self.sources: dict[str, Source] = {}
        self._state_to_load: dict[str, Any] | None = None
        self._described = False

    @property
    def spec(self) -> DataSpec:
        """Describes the examples. ``setup`` fills in ``class_counts``.

        Raises:
            ValueError: If it depends on files of the user, which cannot be read.
        """
        if not self._described:
            self._described = True  # first, because a description may ask for what is known already
            try:
                self.describe()
            except BaseException:
                self._described = False
                raise
        return self._spec

    @spec.setter
    def spec(self, spec: DataSpec) -> None:
        self._spec = spec

    def describe(self) -> None:
        """Hook: reads from the user's files what the spec says of them, such as their classes, into ``self.spec``."""

    def digest(self) -> str | None:
        """Hook: returns the sha256 of the user's own data, hexadecimal, by which they are known again."""
        return None

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
        trainer = self._running_trainer()
        rank, world_size = self.place or (None, None)
        loader = TrainingLoader(
            self.training_source,
            self.batch_size,
            self.seed,
            self.transform,
            self.noise,
            rank,
            world_size,
            start_epoch=trainer.current_epoch if trainer else 0,
            repeats=trainer is not None and trainer.overfit_batches > 0,  # type: ignore[attr-defined]
        )
        limit = trainer.limit_train_batches if trainer else None
        loader.limit = int(len(loader) * limit) if isinstance(limit, float) else limit
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

    def predict_dataloader(self) -> EvaluationLoader:
        """Returns the loader of the test split: a model samples as many examples, of the same classes.

        Raises:
            ValueError: If the split is empty.
        """
        loader = self._evaluation_loader("test")
        if isinstance(loader, list):
            raise ValueError(
                f"{self.spec.name} has no test examples for Trainer.predict to count: pass "
                "datamodules.SampleRequests(100) instead of the datamodule."
            )
        return loader

    def state_dict(self) -> dict[str, Any]:
        """Returns the position in the training data, as plain numbers, and their digest; empty before training."""
        # Not the last loader made: a callback may have asked for another one in between.
        loader = self.trainer.train_dataloader if self.trainer else None
        if not isinstance(loader, TrainingLoader):
            return {}
        digest = self._known_digest if self.trainer is not None and self.trainer.is_global_zero else None
        return {"training_loader": loader.state_dict()} | ({} if digest is None else {"digest": digest})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the state for the next ``train_dataloader``, which refuses one that does not fit.

        Raises:
            ValueError: If a training is resumed, and the user's own data are not those that it was trained on.
        """
        self._state_to_load = state_dict.get("training_loader")
        former = state_dict.get("digest")  # files of former versions, and of public data, have none
        resumed = self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        if resumed and former is not None and self._known_digest not in (None, former):
            place = self.hparams.get(str(self.own_argument), self.spec.name)
            raise ValueError(
                f"The data in {place} are not those that this run was trained on: files were added, removed or changed "
                "since. Put the former ones back to resume it; or start a new run on these, without the checkpoint or "
                "from its weights alone (load_from_checkpoint)."
            )

    @cached_property
    def _known_digest(self) -> str | None:
        """``digest()``, read once in a run, when it is first saved or resumed; ``None`` if the data are gone by then.

        It costs at most what the first epoch does: of a folder, the first 64 KiB of each image are read.
        """
        try:
            return self.digest()
        except (OSError, ValueError):
            return None

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
        size = partial(self._held_out_batch_size, split)
        place = self.place or (None, None)
        return EvaluationLoader(source, size, self.noise_key(split), self.transform, self.noise, *place)

    def training_source(self, size: int) -> Source:
        """Returns the training examples as they are laid out for global batches of ``size`` examples."""
        layout = self.training_layout(size)
        return self.source("train") if layout is None else layout

    def _held_out_batch_size(self, split: str, world_size: int) -> int:
        return self.evaluation_batch_size(split, world_size) or self.batch_size

    def _running_trainer(self) -> Trainer | None:
        # The trainer of an earlier run stays attached; a loader that is made after it is for the next run.
        running = self.trainer is not None and self.trainer.state.status == TrainerStatus.RUNNING
        return self.trainer if running else None
