"""Loaders that slice whole batches out of a source: seeded, sharded, of known length, resumable.

A picture data set of this library fits in memory as one uint8 tensor, and then a batch is one indexing
operation: no per-sample Python, no workers, no collation. The price is that there is no per-sample
augmentation. Sources that read files (``datamodules.streaming``) go through the same two loaders, so that
order, sharding and resuming are the same for both.

Neither loader is a ``torch.utils.data.DataLoader``. That is deliberate: Lightning replaces the sampler of a
``DataLoader`` by a ``DistributedSampler``, and the order would then depend on the number of processes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

NOISE_BLOCK = 256
"""Examples whose fixed noise is drawn together; part of the meaning of a seed, so it never changes."""

ORDER, FRESH_NOISE, FIXED_NOISE, SPLIT, DRAWS = range(5)
"""First number of every generator's key, so that draws for different purposes never share a stream."""

Batch = tuple[Tensor, ...]
Transform = Callable[[Tensor, Tensor | None], Tensor]


class Source(Protocol):
    """Where examples come from. ``labels`` has shape (N,), int64; examples have ``shape``.

    Where examples differ in length, ``shape`` is that of the longest.
    """

    labels: Tensor
    shape: tuple[int, ...]

    def __len__(self) -> int: ...

    def for_epoch(self, epoch: int) -> "Source":
        """The source to read in this epoch: itself, or fresh draws of the same length."""
        ...

    def order(self, generator: torch.Generator, size: int) -> Tensor:
        """Returns all indices in the order in which an epoch of training takes them, ``size`` at a time."""
        ...

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields the raw examples at each of these indices, in order; may read ahead."""
        ...

    def beside(self, indices: Tensor) -> tuple[Tensor, ...]:
        """Returns what a batch holds after its examples: their labels."""
        ...


class TensorSource:
    """Examples held as one tensor.

    Args:
        data: All examples, shape (N, ...), any dtype.
        labels: Their labels, shape (N,), int64.

    Raises:
        ValueError: If there is not one label an example, or a value is no number.
    """

    def __init__(self, data: Tensor, labels: Tensor) -> None:
        if labels.shape != data.shape[:1]:
            raise ValueError(f"{len(data)} examples need as many labels, got shape {tuple(labels.shape)}.")
        if data.is_floating_point() and not data.isfinite().all():
            raise ValueError("The data holds values that are no numbers (NaN or infinity).")
        self.data, self.labels = data, labels
        self.shape = tuple(data.shape[1:])

    def __len__(self) -> int:
        return len(self.data)

    def for_epoch(self, epoch: int) -> "TensorSource":
        """Returns itself: the same examples in every epoch."""
        return self

    def order(self, generator: torch.Generator, size: int) -> Tensor:
        """Returns a permutation."""
        return torch.randperm(len(self), generator=generator)

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields ``data[indices]`` for each tensor of indices."""
        # index_select copies whole examples and is eight times as fast as indexing.
        return (self.data.index_select(0, indices) for indices in batches)

    def beside(self, indices: Tensor) -> tuple[Tensor, ...]:
        """Returns the labels."""
        return (self.labels.index_select(0, indices),)


def seeded(*key: int) -> torch.Generator:
    """A CPU generator that is a function of non-negative integers, independent for different keys."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))


def fixed_noise(start: int, stop: int, shape: tuple[int, ...], *key: int) -> Tensor:
    """Uniform draws in [0, 1) that belong to the examples ``start:stop``, however these are batched.

    Returns:
        Shape (stop - start, *shape), float32.
    """
    first = start // NOISE_BLOCK
    last = -(-stop // NOISE_BLOCK)
    generators = [seeded(FIXED_NOISE, *key, block) for block in range(first, last)]
    blocks = [torch.rand(NOISE_BLOCK, *shape, generator=generator) for generator in generators]
    return torch.cat(blocks)[start - first * NOISE_BLOCK : stop - first * NOISE_BLOCK]


class TrainingLoader:
    """Endless epochs of shuffled batches; equal on any number of processes, resumable at any batch.

    Epoch e visits the examples in the source's order, drawn from (seed, e): a permutation. Global batch k is its slice
    ``[k * batch_size * world_size, (k + 1) * batch_size * world_size)``, of which process r takes the r-th part;
    an incomplete last global batch is dropped. Noise for the transform is drawn for the global batch from
    (seed, e, k), so one process at batch 128 and two at batch 64 see the same examples with the same noise.

    Each iterator that yields a batch starts the next epoch, except the first one after construction or
    ``load_state_dict``, which goes on where the state stands. The epoch begins with the first batch that is taken,
    not with ``iter``: Lightning calls ``iter`` once or twice before an epoch, depending on how it was resumed.

    Args:
        source: The examples.
        batch_size: Examples per process and batch.
        seed: Seed of order and noise, not negative.
        transform: Maps (raw examples, uniform noise or None) to what is yielded; None yields them as they are.
        noise: Whether the transform wants noise, uniform in [0, 1) and of the examples' shape.
        rank: Which process this is.
        world_size: How many processes share the batches.
        start_epoch: Number of the first epoch.
        limit: Batches that are really taken of an epoch (``Trainer.limit_train_batches``); a state saved
            there belongs to the start of the next epoch.

    Raises:
        ValueError: If the source is empty, smaller than one global batch, or an argument is out of range.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        seed: int = 0,
        transform: Transform | None = None,
        noise: bool = False,
        rank: int = 0,
        world_size: int = 1,
        start_epoch: int = 0,
        limit: int | None = None,
    ) -> None:
        check_loader_arguments(source, batch_size, seed, rank, world_size)
        if batch_size * world_size > len(source):
            processes = "" if world_size == 1 else f" on each of {world_size} processes"
            raise ValueError(
                f"batch_size={batch_size}{processes} needs at least {batch_size * world_size} training examples, but "
                f"there are {len(source)}: take a smaller batch_size or more data."
            )
        self.source, self.batch_size, self.seed = source, batch_size, seed
        self.transform, self.noise = transform, noise
        self.rank, self.world_size = rank, world_size
        self.limit = limit
        self._epoch, self._position = start_epoch, 0
        self._untouched = True

    def __len__(self) -> int:
        """Batches of one epoch, equal on all processes."""
        return len(self.source) // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[Batch]:
        if not self._untouched:
            self._epoch, self._position = self._epoch + 1, 0
        self._untouched = False
        size = self.batch_size * self.world_size
        source = self.source.for_epoch(self._epoch)
        order = source.order(seeded(ORDER, self.seed, self._epoch), size)
        own = slice(self.rank * self.batch_size, (self.rank + 1) * self.batch_size)
        batches = [order[k * size : (k + 1) * size][own] for k in range(self._position, len(self))]
        for indices, raw in zip(batches, source.stream(batches), strict=True):
            noise = None
            if self.noise:
                generator = seeded(FRESH_NOISE, self.seed, self._epoch, self._position)
                noise = torch.rand(size, *source.shape, generator=generator)[own]
            self._position += 1
            yield self.transform(raw, noise) if self.transform else raw, *source.beside(indices)

    def state_dict(self) -> dict[str, int]:
        """Where the next batch comes from, and what must be equal for that to mean the same."""
        epoch, position = self._epoch, self._position
        if position >= min(len(self), self.limit or len(self)):
            epoch, position = epoch + 1, 0
        return {
            "epoch": epoch,
            "position": position,
            "batch_size": self.batch_size,
            "world_size": self.world_size,
            "seed": self.seed,
            "num_examples": len(self.source),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` stood.

        Raises:
            ValueError: If the state is of another number of processes, batch size, seed or data set size.
        """
        if state["world_size"] != self.world_size:
            raise ValueError(
                f"This run was saved on {state['world_size']} process(es) and cannot be resumed on {self.world_size}, "
                "because its batches would no longer be the same: resume it on as many processes as before."
            )
        own = self.state_dict()
        for key in ("batch_size", "seed", "num_examples"):
            if state[key] != own[key]:
                raise ValueError(
                    f"This run was saved with {key}={state[key]} and cannot be resumed with {key}={own[key]}."
                )
        self._epoch, self._position = state["epoch"], state["position"]
        self._untouched = True


class EvaluationLoader:
    """Every example exactly once, in order, over all processes: no padding, no duplicates.

    Global batch k holds the next ``batch_size * world_size`` examples and process r takes the r-th of its nearly
    equal parts, so **all processes have the same number of batches**, none of them empty, and collectives in a
    validation step pair up. Their last batches may differ by one example. (Up to ``world_size - 1`` left-over
    examples join the last full batch, whose parts then hold one more.)

    ``self.log(..., sync_dist=True)`` weights by batch size, which Lightning reads off the batch, and is exact where
    the number of examples is a multiple of the number of processes. Elsewhere Lightning 2.6 rounds the mean number
    of examples a process down to an integer, and the logged mean is too large by up to ``world_size / len(source)``,
    relatively; a ``torchmetrics.MeanMetric`` that is updated with the batch's size as weight is always exact.

    Noise for the transform is fixed: a function of (seed, index of the example).

    Args:
        source: The examples.
        batch_size: Examples per process and batch.
        seed: Key of the fixed noise: one or more non-negative integers.
        transform: As in ``TrainingLoader``.
        noise: As in ``TrainingLoader``.
        rank: Which process this is.
        world_size: How many processes share the examples.

    Raises:
        ValueError: If the source is empty or has fewer examples than there are processes.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        seed: tuple[int, ...] = (0,),
        transform: Transform | None = None,
        noise: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_loader_arguments(source, batch_size, min(seed), rank, world_size)
        if len(source) < world_size:
            raise ValueError(f"{len(source)} examples cannot be shared by {world_size} processes.")
        self.source, self.batch_size, self.seed = source, batch_size, seed
        self.transform, self.noise = transform, noise
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        """Batches, equal on all processes."""
        return len(self._bounds())

    def __iter__(self) -> Iterator[Batch]:
        shares = [self.share(k) for k in range(len(self))]
        raws = self.source.stream([torch.arange(*share) for share in shares])
        for share, raw in zip(shares, raws, strict=True):
            noise = fixed_noise(*share, self.source.shape, *self.seed) if self.noise else None
            beside = self.source.beside(torch.arange(*share))
            yield self.transform(raw, noise) if self.transform else raw, *beside

    def share(self, batch: int) -> tuple[int, int]:
        """Returns where this process's part of a global batch begins and ends in the split."""
        start, stop = self._bounds()[batch]
        first, last = (start + (stop - start) * r // self.world_size for r in (self.rank, self.rank + 1))
        return first, last

    def _bounds(self) -> list[tuple[int, int]]:
        total, size = len(self.source), self.batch_size * self.world_size
        starts = list(range(0, total, size))
        if len(starts) > 1 and total - starts[-1] < self.world_size:
            starts.pop()
        return list(zip(starts, [*starts[1:], total], strict=True))


def check_loader_arguments(source: Source, batch_size: int, seed: int, rank: int, world_size: int) -> None:
    """Raises a ``ValueError`` for what no loader can work with."""
    if len(source) == 0:
        raise ValueError("There are no examples to load: the data set (or this split of it) is empty.")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1.")
    if seed < 0:
        raise ValueError(f"seed={seed} must not be negative.")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank={rank} must lie in 0..{world_size - 1} for world_size={world_size}.")
