"""Samples by ``Trainer.predict``: a loader says how many, and of which classes.

    trainer.predict(model, SampleRequests(10_000))      # from datamodules
    trainer.predict(model, datamodule)                  # as many as there are test examples, of the same classes

Averaged weights are used if an ``EMA`` callback keeps them. Under several processes each returns its own share, as
Lightning does.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Generator, Tensor

from datamodules.spec import Batch
from lightning_modules.parts.batches import read_batch

FORMS = (
    "a number, a tensor of class labels (N,), a dictionary of arguments of sample with num_samples, or a batch of data "
    "with as many examples"
)


class PredictsSamples(LightningModule, ABC):
    """Abstract: a module whose predictions are samples.

    A batch of the loader is one of: a number of samples; class labels, int64 (N,), for a class-conditional model; a
    dictionary of arguments of ``sample``, such as ``{"num_samples": 8, "temperature": 0.8}``; or a batch of data, of
    which the number of examples counts, the labels if the model is class-conditional, and the captions if it takes any.
    """

    batch_fields: tuple[str, ...]
    num_classes: int | None
    num_words: int | None

    @abstractmethod
    def sample(self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        """Samples examples, shape (num_samples, *shape)."""

    def setup(self, stage: str) -> None:
        """Reads a list of numpy's whole numbers as one of Python's: Lightning would take each for a loader.

        Captions of ``SampleRequests`` are checked here, before the first sample.
        """
        super().setup(stage)
        if stage != "predict":
            return
        source = self.trainer.predict_loop._data_source
        if isinstance(source.instance, (list, tuple)):
            numbers = [_whole_number(batch) for batch in source.instance]
            if None not in numbers:
                source.instance = numbers
        elif isinstance(captions := getattr(source.instance, "captions", None), list):
            module: Any = self
            module.check_captions(captions)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Reads a batch of ``Trainer.predict`` as the arguments of ``sample``, and any other as data."""
        if self._trainer is not None and self.trainer.predicting:
            return read_request(batch, self.batch_fields, self.num_classes, self.num_words)
        return super().on_before_batch_transfer(batch, dataloader_idx)

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Samples, with random numbers that follow from torch's global state and from the process.

        So ``seed_everything`` makes predictions reproducible, and processes with the same seed sample differently.
        Nothing depends on the trainer's precision: it computes what ``sample`` computes elsewhere.
        """
        seed = int(torch.randint(2**32, ())) + 1_000_003 * self.global_rank
        generator = Generator().manual_seed(seed % 2**32)  # Mersenne Twister uses 32 bits of a seed
        # Samplers may need gradients (Langevin steps), which inference mode does not allow.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            given: dict[str, Any] = {key: _copied(value) for key, value in batch.items()}
            return self.sample(**given, generator=generator)

    def predict_dataloader(self) -> Any:
        """Refuses ``Trainer.predict`` without a loader, because nothing says how many samples are wanted.

        Raises:
            ValueError: Always; the message says what to pass.
        """
        raise ValueError(
            f"Trainer.predict draws samples of {type(self).__name__}, but nothing says how many: pass "
            "datamodules.SampleRequests(100), or a loader or datamodule whose batches are counted."
        )


def read_request(
    batch: Any, fields: tuple[str, ...], num_classes: int | None, num_words: int | None = None
) -> dict[str, Any]:
    """Returns the arguments of ``sample`` that a batch of ``Trainer.predict`` asks for.

    Args:
        batch: One of the forms that ``PredictsSamples`` names.
        fields: The fields of a data batch that is a tuple, in order.
        num_classes: Number of classes of the model, or ``None``.
        num_words: Number of words of the model's captions, or ``None``.

    Raises:
        ValueError: If it has another form; the message names the supported ones.
    """
    if isinstance(batch, Mapping) and "num_samples" in batch:
        return {str(key): _plain(value) for key, value in batch.items()}
    if (number := _whole_number(batch)) is not None:
        return {"num_samples": number}
    if isinstance(batch, (list, tuple)) and len(batch) == 1:  # of a TensorDataset
        batch = batch[0]
    if isinstance(batch, Tensor) and batch.ndim < 2:
        return _read_numbers(batch, num_classes)
    try:
        data: Batch = read_batch(batch, fields)
    except ValueError as error:
        raise ValueError(f"A batch of Trainer.predict must be {FORMS}, not {type(batch).__name__}.") from error
    labels = {} if num_classes is None or data.labels is None else {"labels": data.labels}
    captions = {} if num_words is None or data.tokens is None else {"captions": data.tokens}
    return {"num_samples": len(data.x), **labels, **captions}


def _whole_number(batch: Any) -> int | None:
    """Returns a number of Python or numpy that is whole; ``None`` for anything else."""
    if isinstance(batch, (bool, Tensor)):
        return None
    try:
        return operator.index(batch)
    except TypeError:
        return None


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value  # of a tensor that was made in inference mode


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) and value.ndim == 0 else value


def _read_numbers(values: Tensor, num_classes: int | None) -> dict[str, Any]:
    if values.is_floating_point() or values.is_complex() or values.dtype is torch.bool:
        raise ValueError(f"A batch of Trainer.predict must be {FORMS}, not {values.dtype} {tuple(values.shape)}.")
    if values.ndim == 0:
        return {"num_samples": int(values)}
    if num_classes is None:  # counts, indices or labels: a guess could be wrong in silence
        raise ValueError(
            f"A batch of Trainer.predict is {values.dtype} {tuple(values.shape)}, which are labels, but the model has "
            "no classes: yield numbers of samples (DataLoader([8, 8], batch_size=None) or datamodules.SampleRequests)."
        )
    return {"num_samples": len(values), "labels": values}
