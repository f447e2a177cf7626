"""What a module does with every batch before its step: it is converted to a ``Batch`` and checked."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from datamodules.spec import Batch
from lightning_modules.parts.batches import read_batch
from lightning_modules.parts.schedules import Schedule
from lightning_modules.parts.support import problem_with_examples
from lightning_modules.runtime.batch_checks import (
    attribute_problem,
    caption_problem,
    dtype_problem,
    form_problem,
    is_same_everywhere,
    label_problem,
    length_problem,
    warn_if_never_full,
    warn_if_never_negative,
    warn_of_same_batches,
)
from lightning_modules.runtime.distributed import raise_together
from lightning_modules.runtime.loaded import LoadedModule

SMALL_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32)


class CheckedModule(LoadedModule):
    """Abstract: takes batches of any form and in any loader, and refuses those that the method does not model.

    Args:
        num_classes: Number of classes of a batch's labels, or ``None`` for a module that takes no labels.
        lr_schedule: As in ``OptimizedModule``.
        clip_norm: As in ``OptimizedModule``.
    """

    kinds: tuple[str, ...] = ("image", "points")
    """The kinds of data that the method models, as named by ``DataSpec.kind``."""
    value_range: tuple[float, float] | None = None
    """Range of the images that the method models; it is compared with the range of the data before training."""
    batch_fields: tuple[str, ...] = ("x", "labels")
    """Fields of ``Batch`` in the order in which a loader of plain tuples yields them."""
    labels_are: str = "num_classes"
    """The attribute that says how many values a batch's labels have, or ``None`` where labels are not used."""
    num_words: int | None = None
    """Number of words of the captions that a module is conditional on, or ``None``."""
    attribute_sizes: Mapping[str, int] = {}
    """Number of values of each attribute of examples that a module needs, by name."""
    symbols: bool = False
    """Whether examples are indices of symbols, int64, rather than numbers."""

    def __init__(
        self, num_classes: int | None = None, lr_schedule: Schedule | None = None, clip_norm: float | None = None
    ) -> None:
        super().__init__(lr_schedule, clip_norm)
        self.num_classes = num_classes
        self._looked_at: set[bool] = set()
        self._lengths_by_position = False  # whether the last batch was a tuple whose second part is lengths

    def batch_problem(self, batch: Batch) -> str | None:
        """Hook: returns a further reason why a batch does not fit, as a sentence, such as a value of probability 0."""
        return None

    def problem_with_size(self, batch: Batch) -> str | None:
        """Hook: returns why the number of examples of a batch does not fit, as a sentence; it reads no values."""
        return None

    def problem_with_data(self, batch: Batch) -> str | None:
        """Returns a sentence that says why the examples of a batch are outside of the model's support, or ``None``."""
        shape = self.hparams.get("shape", getattr(self, "shape", None))
        return problem_with_examples(batch.x, shape, self.value_range, lambda: self.batch_problem(batch))

    def check_batch(self, batch: Batch) -> None:
        """Checks a first batch, on all processes together: data without a spec are not checked before.

        Raises:
            ValueError: If shape, range or labels do not fit the module, or a value is NaN or infinite.
        """
        problem = self._problem_with(batch)
        raise_together(None if problem is None else f"{type(self).__name__}: {problem}")

    def converted(self, batch: Any) -> Batch:
        """Returns any form of batch as a ``Batch``: floats in the module's dtype, symbols, labels and lengths as int64.

        Raises:
            ValueError: If it has none of the supported forms.
        """
        batch = read_batch(batch, self.batch_fields)
        x, changed = batch.x, {}
        if x.is_floating_point() and x.dtype != self.dtype:
            changed["x"] = x.to(self.dtype)
        whole = {"x": x if self.symbols else None, "labels": batch.labels, "tokens": batch.tokens}
        whole |= {"lengths": batch.lengths, "attributes": batch.attributes}
        for field, value in whole.items():
            if value is not None and value.dtype in SMALL_INTEGERS:
                changed[field] = value.long()
        return replace(batch, **changed) if changed else batch

    def setup(self, stage: str) -> None:
        """Begins to look at first batches anew; silences Lightning's warnings of what is done on purpose here."""
        self._looked_at = set()
        # The module's hook replaces the datamodule's.
        warnings.filterwarnings("ignore", "You have overridden `on_before_batch_transfer`", UserWarning)
        # Examples that a sampler has duplicated are left out of all measures.
        warnings.filterwarnings("ignore", "Using `DistributedSampler` with the dataloaders", UserWarning)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Converts the batch that a loader yields to a ``Batch``, which is what every step gets.

        Raises:
            ValueError: If it has none of the supported forms, or lengths that are not within its sequences.
        """
        read = self.converted(batch)
        self._lengths_by_position = isinstance(batch, (list, tuple)) and read.lengths is not None
        if problem := length_problem(read):
            raise ValueError(f"{type(self).__name__}: {problem}")
        return read

    def _apply_batch_transfer_handler(self, batch: Any, device: Any = None, dataloader_idx: int = 0) -> Batch:
        batch = super()._apply_batch_transfer_handler(batch, device, dataloader_idx)
        # Again, because hooks of a datamodule of the user's own may have replaced those of the module.
        return batch if self._trainer is not None and self.trainer.predicting else self.converted(batch)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Checks the first batch of every epoch, and the form of all others."""
        self._check(batch, batch_idx)

    def on_validation_batch_start(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Checks every batch; the first one on all processes together."""
        self._check(batch, batch_idx)

    on_test_batch_start = on_validation_batch_start

    def _check(self, batch: Batch, batch_idx: int) -> None:
        if batch_idx > 0:
            # Values are read where that costs little: in training it would wait for the device in every step.
            problem = self.problem_with_form(batch) if self.trainer.training else self._problem_with(batch)
            if problem is not None:
                raise ValueError(f"{type(self).__name__}: {problem}")
            return
        self.check_batch(batch)
        if (kind := bool(self.trainer.training)) not in self._looked_at:  # held-out data may come before training data
            self._looked_at.add(kind)
            warn_if_never_negative(batch.x, self.value_range, type(self).__name__)
            if self._lengths_by_position:
                warn_if_never_full(batch, type(self).__name__)
            if kind and is_same_everywhere(batch):
                warn_of_same_batches(type(self).__name__)
        if not kind:
            self.replicated = is_same_everywhere(batch)

    def problem_with_form(self, batch: Batch) -> str | None:
        """Returns what is wrong with shape or type of a batch, if anything is; it reads values only for the message."""
        shape, steps = self.hparams.get("shape"), getattr(self, "step_shape", None)
        if problem := form_problem(batch, shape, self.symbols, steps):
            return problem
        problem = dtype_problem(batch.x, self.value_range if batch.x.ndim == 4 else None, self.symbols)
        return problem or self.problem_with_size(batch)

    def _problem_with(self, batch: Batch) -> str | None:
        if problem := self.problem_with_form(batch) or self.problem_with_data(batch):
            return problem
        num = getattr(self, self.labels_are)
        problem = None if num is None else label_problem(batch, num, self.labels_are)
        if problem is None and self.num_words is not None:
            problem = caption_problem(batch, self.num_words)
        return attribute_problem(batch, self.attribute_sizes) if problem is None and self.attribute_sizes else problem
