"""Which example is which, in loaders of all kinds on any number of processes."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, SequentialSampler

from datamodules.spec import Batch
from lightning_modules.runtime.positions import first_of, flat, positions_of


class Loader:
    """A loader that says which part of the split a batch is."""

    batch_size = 4

    def share(self, batch: int) -> tuple[int, int]:
        return 10 * batch + 2, 10 * batch + 5


def test_positions_are_those_that_the_loader_says() -> None:
    assert positions_of(Loader(), 2, 6, 3, 1, 2).tolist() == [22, 23, 24]


def measured(loader: Any, rank: int, processes: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yields the examples of each batch that are measured, and their positions."""
    seen = 0
    for number, batch in enumerate(loader):
        positions = positions_of(loader, number, seen, len(batch), rank, processes)
        seen += len(batch)
        yield batch[: len(positions)].tolist(), positions.tolist()


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("total", [1, 4, 12, 13])
@pytest.mark.parametrize("kind", ["distributed", "wrapped", "batch sampler"])
def test_every_example_of_a_distributed_loader_is_measured_once(kind: str, total: int, processes: int) -> None:
    data, found = torch.arange(total), []
    for rank in range(processes):
        split = {"num_replicas": processes, "rank": rank, "shuffle": False}
        sampler: Any = DistributedSampler(data, **split)  # type: ignore[arg-type]
        if kind == "wrapped":
            sampler = DistributedSamplerWrapper(SequentialSampler(data), **split)
        settings: dict[str, Any] = {"batch_size": 3, "sampler": sampler}
        if kind == "batch sampler":
            settings = {"batch_sampler": BatchSampler(sampler, 3, drop_last=False)}
        loader: Any = DataLoader(data, **settings)  # type: ignore[arg-type]
        for examples, positions in measured(loader, rank, processes):
            assert examples == positions
            found += positions
    assert sorted(found) == list(range(total))


def test_batches_of_any_sizes_follow_one_another() -> None:
    batches = [torch.arange(0, 2), torch.arange(2, 7), torch.arange(7, 8)]
    assert [positions for _, positions in measured(batches, 0, 1)] == [batch.tolist() for batch in batches]


def test_the_first_examples_keep_their_fields() -> None:
    batch = Batch(torch.arange(3.0), labels=torch.arange(3), lengths=torch.ones(3))
    first = first_of(batch, 2)
    assert [field.tolist() for field in first] == [[0, 1], [0, 1], [1, 1]]
    assert first_of(batch, 3) is batch


def test_loaders_of_collections_come_in_order() -> None:
    assert flat(None) == []
    assert flat(1) == [1]
    assert flat([1, {"a": 2, "b": [3]}]) == [1, 2, 3]
