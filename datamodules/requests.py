"""Loader of requests for samples, for ``Trainer.predict``."""

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from datamodules.spec import texts_of, words_of


class SampleRequests:
    """Asks a model for samples, batch by batch: ``trainer.predict(model, SampleRequests(1000))``.

    Each of several processes gets its own, nearly equal part.

    Args:
        num_samples: Number of samples of all processes; by default one for each of ``labels``.
        batch_size: Samples per batch.
        labels: Class of each sample, integers (num_samples,), for a class-conditional model; by default it draws them
            by their frequency in training.
        captions: Captions, used in turn, for a model of captions; by default it draws them among those of training.

    Raises:
        ValueError: If there is neither a number nor a label or caption, they contradict each other, a number is below
            1, captions are empty or more than the samples, or one is no string or has no words.
    """

    def __init__(
        self,
        num_samples: int | None = None,
        batch_size: int = 250,
        labels: Sequence[int] | Tensor | None = None,
        captions: Sequence[str] | None = None,
    ) -> None:
        self.labels = None if labels is None else torch.as_tensor(labels)
        self.captions = None if captions is None else texts_of(captions)
        if num_samples is None and self.labels is not None:
            num_samples = len(self.labels)
        if self.captions is not None:
            if not self.captions:
                raise ValueError("captions=[] has no caption: give at least one, or leave it out to draw them.")
            if wordless := [caption for caption in self.captions if not words_of(caption)]:
                raise ValueError(f"captions has {wordless[0]!r:.80}, which has no words: describe what to show.")
            num_samples = len(self.captions) if num_samples is None else num_samples
        num_samples, batch_size = _count("num_samples", num_samples), _count("batch_size", batch_size)
        is_whole = self.labels is None or not (self.labels.is_floating_point() or self.labels.dtype == torch.bool)
        if self.labels is not None and (self.labels.shape != (num_samples,) or not is_whole):
            raise ValueError(
                f"labels are {self.labels.dtype} {tuple(self.labels.shape)}, but must be num_samples={num_samples} "
                "integers."
            )
        if self.captions is not None and len(self.captions) > num_samples:
            raise ValueError(
                f"{len(self.captions)} captions are more than num_samples={num_samples}: ask for as many samples."
            )
        self.num_samples, self.batch_size = num_samples, batch_size

    def __len__(self) -> int:
        """Number of batches of this process."""
        start, stop = self._share()
        return -(-(stop - start) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        start, stop = self._share()
        for first in range(start, stop, self.batch_size):
            last = min(first + self.batch_size, stop)
            request: dict[str, Any] = {"num_samples": last - first}
            if self.labels is not None:
                request["labels"] = self.labels[first:last]
            if self.captions is not None:
                request["captions"] = [self.captions[place % len(self.captions)] for place in range(first, last)]
            yield request

    def _share(self) -> tuple[int, int]:
        rank, size = 0, 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        if self.num_samples < size:
            raise ValueError(f"num_samples={self.num_samples} cannot be shared by {size} processes.")
        return self.num_samples * rank // size, self.num_samples * (rank + 1) // size


def _count(name: str, value: Any) -> int:
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)  # also of numpy, or a tensor with one number
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"{name}={value!r} must be a positive integer.")
    return number
