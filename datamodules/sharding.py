"""Which part of the data is for this process."""

import torch.distributed


class ShardedLoader:
    """Base of both loaders: knows the processes that share the data.

    Args:
        rank: Index of this process, or ``None``.
        world_size: Number of processes, or ``None``. Without either of them the loader is for the process group of the
            run, whenever it is used: it may be made before there is one, as in ``trainer.fit(module,
            datamodule.train_dataloader())``.

    Raises:
        ValueError: If ``rank`` is not one of ``world_size`` processes.
    """

    def __init__(self, rank: int | None, world_size: int | None) -> None:
        given = rank is not None or world_size is not None
        self._place = (rank or 0, 1 if world_size is None else world_size) if given else None
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank={self.rank} must lie in 0..{self.world_size - 1} for world_size={self.world_size}.")

    @property
    def rank(self) -> int:
        """Index of this process."""
        if self._place is not None:
            return self._place[0]
        return torch.distributed.get_rank() if _has_group() else 0

    @property
    def world_size(self) -> int:
        """Number of processes that share the data."""
        if self._place is not None:
            return self._place[1]
        return torch.distributed.get_world_size() if _has_group() else 1


def _has_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
