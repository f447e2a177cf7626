"""Loader of requests for samples, for ``Trainer.predict``."""

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed
from torch import Tensor


class SampleRequests:
    """Asks a model for samples, batch by batch: ``trainer.predict(model, SampleRequests(1000))``.

    Each of several processes gets its own, nearly equal part.

    Args:
        num_samples: Number of samples of all processes; by default one for each of ``labels``.
        batch_size: Samples per batch.
        labels: Class of each sample, integers (num_samples,), for a class-conditional model; by default it draws them
            by their frequency in training.

    Raises:
        ValueError: If there is neither a number nor a label, they contradict each other, or a number is below 1.
    """

    def __init__(
        self, num_samples: int | None = None, batch_size: int = 250, labels: Sequence[int] | Tensor | None = None
    ) -> None:
        self.labels = None if labels is None else torch.as_tensor(labels)
        if num_samples is None and self.labels is not None:
            num_samples = len(self.labels)
        num_samples, batch_size = _count("num_samples", num_samples), _count("batch_size", batch_size)
        if self.labels is not None and (self.labels.shape != (num_samples,) or self.labels.is_floating_point()):
            raise ValueError(
                f"labels are {self.labels.dtype} {tuple(self.labels.shape)}, but must be num_samples={num_samples} "
                "integers."
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
            labels = {} if self.labels is None else {"labels": self.labels[first:last]}
            yield {"num_samples": last - first, **labels}

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
