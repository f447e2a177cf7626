"""Which examples of a split a batch holds, whoever made the loader, so that each is measured once."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from datamodules.spec import Batch


def positions_of(loader: Any, batch_idx: int, seen: int, num: int, rank: int, world_size: int) -> Tensor:
    """Returns the positions in their split of the next examples of a loader.

    A ``DistributedSampler``, which Lightning gives to each ``DataLoader``, repeats examples at the end until all
    processes have equally many; these have no position of their own and are left out.

    Args:
        loader: One that says where its share begins, as those of this library; or any other, whose examples are split
            over processes as Lightning's samplers do, in turn.
        batch_idx: Number of batches that this process has had from it in this epoch.
        seen: Number of examples that this process has had from it in this epoch.
        num: Number of examples that follow, a batch.
        rank: Index of this process.
        world_size: Number of processes.

    Returns:
        int64 (M,), rising, with M at most ``num``: the first M examples of the batch are not repeated ones.
    """
    if (share := getattr(loader, "share", None)) is not None:
        return torch.arange(*share(batch_idx))
    sampler = sampler_of(loader)
    if sampler is None:
        return (seen + torch.arange(num)) * world_size + rank
    positions = (seen + torch.arange(num)) * sampler.num_replicas + sampler.rank
    return positions[positions < len(sampler.dataset)]  # type: ignore[arg-type]


def sampler_of(loader: Any) -> "DistributedSampler[Any] | None":
    """Returns the sampler that splits the data of a ``DataLoader`` over processes, or ``None`` if none does."""
    candidates = (getattr(loader, "sampler", None), getattr(getattr(loader, "batch_sampler", None), "sampler", None))
    return next((sampler for sampler in candidates if isinstance(sampler, DistributedSampler)), None)


def first_of(batch: Batch, num: int) -> Batch:
    """Returns the first examples of a batch."""
    if num == len(batch.x):
        return batch
    return Batch(**{field: value[:num] for field, value in vars(batch).items() if value is not None})


def flat(loaders: Any) -> list[Any]:
    """Returns the loaders of a list or a dictionary, nested or not, or of one loader, in order; none for ``None``."""
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    if isinstance(loaders, (list, tuple)):
        return [loader for part in loaders for loader in flat(part)]
    return [] if loaders is None else [loaders]
