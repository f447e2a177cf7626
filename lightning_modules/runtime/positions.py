"""Which examples of a split a batch holds, whoever made the loader, so that each is measured once."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from datamodules.spec import Batch


class Place(NamedTuple):
    """Where a batch stands in an epoch over held-out data.

    Attributes:
        batch_idx: Number of batches that this process has had from the loader in this epoch.
        seen: Number of examples that it has had.
        rank: Index of this process.
        world_size: Number of processes.
        replicated: Whether all processes had the same first batch.
    """

    batch_idx: int
    seen: int
    rank: int = 0
    world_size: int = 1
    replicated: bool = False


def measured_once(batch: Batch, loader: Any, place: Place) -> tuple[Batch, Tensor]:
    """Returns the examples of a batch that this process measures, and their positions in the split, int64 (M,).

    A ``DistributedSampler``, which Lightning gives to each ``DataLoader``, repeats examples at the end until all
    processes have equally many; repeated ones are left out. A loader that no one splits yields all examples to every
    process (``Trainer(use_distributed_sampler=False)``, an ``IterableDataset``); each process then measures its part.

    Args:
        batch: The batch.
        loader: The loader: one that says where its share begins, as those of this library, or any other, whose
            examples are split as Lightning's samplers do, in turn.
        place: Where the batch stands.
    """
    share, sampler = getattr(loader, "share", None), sampler_of(loader)
    numbers = place.seen + torch.arange(len(batch.x))
    if sampler is not None:
        positions = numbers * sampler.num_replicas + sampler.rank
        chosen = slice(int((positions < len(sampler.dataset)).sum()))  # type: ignore[arg-type]
    elif share is not None:
        positions, chosen = torch.arange(*share(place.batch_idx)), slice(None)
    elif place.replicated and batch.continues is None:
        positions, chosen = numbers, slice((place.rank - place.seen) % place.world_size, None, place.world_size)
    else:
        positions, chosen = numbers * place.world_size + place.rank, slice(None)
    positions = positions[chosen]
    if len(positions) == len(batch.x):
        return batch, positions
    return Batch(**{field: value[chosen] for field, value in vars(batch).items() if value is not None}), positions


def sampler_of(loader: Any) -> "DistributedSampler[Any] | None":
    """Returns the sampler that splits the data of a ``DataLoader`` over processes, or ``None`` if none does."""
    candidates = (getattr(loader, "sampler", None), getattr(getattr(loader, "batch_sampler", None), "sampler", None))
    return next((sampler for sampler in candidates if isinstance(sampler, DistributedSampler)), None)


def flat(loaders: Any) -> list[Any]:
    """Returns the loaders of a list or a dictionary, nested or not, or of one loader, in order; none for ``None``."""
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    if isinstance(loaders, (list, tuple)):
        return [loader for part in loaders for loader in flat(part)]
    return [] if loaders is None else [loaders]
