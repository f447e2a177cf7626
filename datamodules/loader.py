"""Loaders that slice whole batches out of a source: seeded, sharded, of known length, resumable.

A typical image data set of this library fits in memory as one uint8 tensor. A batch is then one indexing
operation: no Python per example, no workers, no collation. The price is that there is no augmentation per
example. Sources that read files (``datamodules.images.streaming``) go through the same two loaders, so that
order, sharding and resuming are the same for both.

Neither loader is a ``torch.utils.data.DataLoader``. That is deliberate: Lightning replaces the sampler of a
``DataLoader`` by a ``DistributedSampler``, and the order would then depend on the number of processes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from datamodules.sharding import ShardedLoader
from datamodules.spec import Batch

NOISE_BLOCK = 256
"""Examples whose fixed noise is drawn together. What a seed means depends on it, so it never changes."""

ORDER, FRESH_NOISE, FIXED_NOISE, SPLIT, SAMPLES, STACKS = range(6)
"""First number of every generator's key: what the random numbers are for. No two purposes share a stream."""

Transform = Callable[[Tensor, Tensor | None], Tensor]


class Source(Protocol):
    """Where examples come from.

    Attributes:
        labels: One whole number per example, int64 (N,): its class, or its length where it is a sequence.
        shape: Shape of one example, without N; that of the longest where examples differ in length.
    """

    labels: Tensor
    shape: tuple[int, ...]

    def __len__(self) -> int: ...

    def for_epoch(self, epoch: int) -> "Source":
        """Returns the source to read in this epoch: itself, or as many fresh samples."""
        ...

    def order(self, generator: torch.Generator, size: int) -> Tensor:
        """Returns all N indices, int64, in the order in which training takes them, ``size`` at a time."""
        ...

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields the raw examples at each tensor of indices, in order, shape (n, ...); may read ahead."""
        ...

    def targets(self, indices: Tensor) -> dict[str, Tensor]:
        """Returns the fields of a ``Batch`` other than ``x``, by name, of examples at ``indices``; each (n, ...)."""
        ...


class TensorSource:
    """Examples held as one tensor.

    Args:
        data: All examples, shape (N, ...), any dtype.
        labels: Their labels, shape (N,), int64.
        field: The field of a batch that the labels go to: ``"labels"``, or ``"lengths"`` of sequences.

    Raises:
        ValueError: If there is not one label per example, or a value is not a finite number.
    """

    def __init__(self, data: Tensor, labels: Tensor, field: str = "labels") -> None:
        if labels.shape != data.shape[:1]:
            raise ValueError(f"{len(data)} examples need as many labels, got shape {tuple(labels.shape)}.")
        if data.is_floating_point() and not data.isfinite().all():
            raise ValueError("The data has values that are not finite numbers (NaN or infinity).")
        self.data, self.labels, self.field = data, labels, field
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

    def targets(self, indices: Tensor) -> dict[str, Tensor]:
        """Returns the labels, or the lengths."""
        return {self.field: self.labels.index_select(0, indices)}


def seeded(*key: int) -> torch.Generator:
    """Returns a CPU generator seeded by a key of non-negative integers; different keys give independent streams."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))


def fixed_noise(start: int, stop: int, shape: tuple[int, ...], *key: int) -> Tensor:
    """Returns the uniform noise of the examples ``start:stop``, which does not depend on how these are batched.

    Args:
        start: Index of the first example.
        stop: Index after the last example.
        shape: Shape of one example.
        *key: Non-negative integers; see ``ZooDataModule.noise_key``.

    Returns:
        Values in [0, 1), shape (stop - start, *shape), float32.
    """
    first = start // NOISE_BLOCK
    last = -(-stop // NOISE_BLOCK)
    generators = [seeded(FIXED_NOISE, *key, block) for block in range(first, last)]
    blocks = [torch.rand(NOISE_BLOCK, *shape, generator=generator) for generator in generators]
    return torch.cat(blocks)[start - first * NOISE_BLOCK : stop - first * NOISE_BLOCK]


class TrainingLoader(ShardedLoader):
    """Shuffled batches, epoch after epoch; equal on any number of processes, resumable at any batch.

    Epoch e takes the examples in the order that the source gives for (seed, e), a permutation. Global batch k is its
    slice ``[k * batch_size * world_size, (k + 1) * batch_size * world_size)``, of which process r takes the r-th part;
    an incomplete last global batch is dropped. Noise for the transform is drawn for the global batch from
    (seed, e, k), so one process at batch 128 and two at batch 64 see the same examples with the same noise.

    Each iterator that yields a batch starts the next epoch, except the first one after construction or
    ``load_state_dict``, which continues at the position of the state. The epoch begins with the first batch that is
    taken, not with ``iter``: Lightning calls ``iter`` once or twice before an epoch, depending on how it was resumed.

    Args:
        source: The examples; or, where their layout depends on it, a function of the size of a global batch.
        batch_size: Examples per process and batch.
        seed: Seed of order and noise, at least 0.
        transform: Maps (raw examples, uniform noise or None) to the examples of a batch; None leaves them as they are.
        noise: Whether the transform needs noise, uniform in [0, 1) and of the examples' shape.
        rank: As in ``ShardedLoader``.
        world_size: As in ``ShardedLoader``.
        start_epoch: Index of the first epoch.
        limit: Number of batches that a training epoch takes (``Trainer.limit_train_batches``), or None for all of
            them. A state saved after that many belongs to the start of the next epoch.
        repeats: Whether every epoch is the same as epoch 0, order and noise included (``Trainer.overfit_batches``).

    Raises:
        ValueError: If the source is empty, smaller than one global batch, or an argument is out of range. A loader for
            the process group of a run is checked again when it is used.
    """

    def __init__(
        self,
        source: Source | Callable[[int], Source],
        batch_size: int,
        seed: int = 0,
        transform: Transform | None = None,
        noise: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        start_epoch: int = 0,
        limit: int | None = None,
        repeats: bool = False,
    ) -> None:
        super().__init__(rank, world_size)
        check_loader_arguments(batch_size, seed)
        self.batch_size, self.seed = batch_size, seed
        self.transform, self.noise = transform, noise
        self.limit, self.repeats = limit, repeats
        self._given, self._laid_out = source, dict[int, Source]()
        self._epoch, self._position = start_epoch, 0
        self._untouched = True
        self.source  # noqa: B018 -- refuses one that is too small

    @property
    def source(self) -> Source:
        """The examples, laid out for the present number of processes.

        Raises:
            ValueError: If there are fewer than in one global batch.
        """
        size = self.batch_size * self.world_size
        if size not in self._laid_out:
            source = self._given(size) if callable(self._given) else self._given
            check_not_empty(source)
            if size > len(source):
                processes = "" if self.world_size == 1 else f" on each of {self.world_size} processes"
                raise ValueError(
                    f"batch_size={self.batch_size}{processes} needs at least {size} training examples, but there are "
                    f"{len(source)}: take a smaller batch_size or more data."
                )
            self._laid_out = {size: source}
        return self._laid_out[size]

    def __len__(self) -> int:
        """Number of batches of one epoch, equal on all processes."""
        return len(self.source) // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[Batch]:
        if not self._untouched:
            self._epoch, self._position = self._epoch + 1, 0
        self._untouched = False
        size = self.batch_size * self.world_size
        epoch = 0 if self.repeats else self._epoch
        source = self.source.for_epoch(epoch)
        order = source.order(seeded(ORDER, self.seed, epoch), size)
        own = slice(self.rank * self.batch_size, (self.rank + 1) * self.batch_size)
        batches = [order[k * size : (k + 1) * size][own] for k in range(self._position, len(self))]
        for indices, raw in zip(batches, source.stream(batches), strict=True):
            noise = None
            if self.noise:
                generator = seeded(FRESH_NOISE, self.seed, epoch, self._position)
                noise = torch.rand(size, *source.shape, generator=generator)[own]
            self._position += 1
            x = self.transform(raw, noise) if self.transform else raw
            yield Batch(x, **source.targets(indices))

    def state_dict(self) -> dict[str, int]:
        """Returns the position of the next batch, and the settings without which that position means something else."""
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
        """Continues at the position that ``state_dict`` recorded.

        Raises:
            ValueError: If it was saved with another number of processes, batch size, seed or data set size, or changed.
        """
        own = self.state_dict()
        for key in [key for key in own if type(state.get(key)) is not int]:
            raise ValueError(f"The position in the training data was changed: {key}={state.get(key)!r} is no number.")
        if state["world_size"] != self.world_size:
            raise ValueError(
                f"This run was saved on {state['world_size']} process(es) and cannot be resumed on {self.world_size}, "
                "because its batches would no longer be the same: resume it on as many processes as before."
            )
        for key in ("batch_size", "seed", "num_examples"):
            if state[key] != own[key]:
                raise ValueError(
                    f"This run was saved with {key}={state[key]} and cannot be resumed with {key}={own[key]}."
                )
        self._epoch, self._position = state["epoch"], state["position"]
        self._untouched = True


class EvaluationLoader(ShardedLoader):
    """Every example exactly once, in order, over all processes: no padding, no duplicates.

    Global batch k holds the next ``batch_size * world_size`` examples and process r takes the r-th of its nearly
    equal parts, so **all processes have the same number of batches**, none of them empty, and collectives in a
    validation step pair up. Their last batches may differ by one example. (Up to ``world_size - 1`` left-over
    examples join the last full batch, whose parts then hold one more.)

    In modules of your own, ``self.log(..., sync_dist=True)`` is exact only if the number of examples is a multiple of
    the number of processes: Lightning 2.6 rounds their mean number per process down, so that the logged mean is too
    large. A ``torchmetrics.MeanMetric`` that is updated with the batch's size as weight is always exact.

    Noise for the transform is fixed: a function of (seed, index of the example).

    Args:
        source: The examples.
        batch_size: Examples per process and batch, or a function of the number of processes that returns them.
        seed: Key of the fixed noise: one or more non-negative integers.
        transform: As in ``TrainingLoader``.
        noise: As in ``TrainingLoader``.
        rank: As in ``ShardedLoader``.
        world_size: As in ``ShardedLoader``.

    Raises:
        ValueError: If the source is empty or has fewer examples than there are processes; the latter also when a loader
            for the process group of a run is used.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int | Callable[[int], int],
        seed: tuple[int, ...] = (0,),
        transform: Transform | None = None,
        noise: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(rank, world_size)
        self.source, self.seed, self._given_size = source, seed, batch_size
        self.transform, self.noise = transform, noise
        check_loader_arguments(self.batch_size, min(seed))
        check_not_empty(source)
        self._bounds()

    @property
    def batch_size(self) -> int:
        """Examples per process and batch."""
        return self._given_size(self.world_size) if callable(self._given_size) else self._given_size

    def __len__(self) -> int:
        """Number of batches, equal on all processes."""
        return len(self._bounds())

    def __iter__(self) -> Iterator[Batch]:
        shares = [self.share(k) for k in range(len(self))]
        raws = self.source.stream([torch.arange(*share) for share in shares])
        for share, raw in zip(shares, raws, strict=True):
            noise = fixed_noise(*share, self.source.shape, *self.seed) if self.noise else None
            x = self.transform(raw, noise) if self.transform else raw
            yield Batch(x, **self.source.targets(torch.arange(*share)))

    def share(self, batch: int) -> tuple[int, int]:
        """Returns the indices at which this process's part of a global batch begins and ends, the end excluded."""
        start, stop = self._bounds()[batch]
        first, last = (start + (stop - start) * r // self.world_size for r in (self.rank, self.rank + 1))
        return first, last

    def _bounds(self) -> list[tuple[int, int]]:
        total, size = len(self.source), self.batch_size * self.world_size
        if total < self.world_size:
            raise ValueError(f"{total} examples cannot be shared by {self.world_size} processes.")
        starts = list(range(0, total, size))
        if len(starts) > 1 and total - starts[-1] < self.world_size:
            starts.pop()
        return list(zip(starts, [*starts[1:], total], strict=True))


def check_loader_arguments(batch_size: int, seed: int) -> None:
    """Raises ValueError if an argument that both loaders have is out of range."""
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1.")
    if seed < 0:
        raise ValueError(f"seed={seed} must not be negative.")


def check_not_empty(source: Source) -> None:
    """Raises ValueError if there are no examples."""
    if len(source) == 0:
        raise ValueError("There are 0 examples to load: the data set, or this split of it, is empty.")
