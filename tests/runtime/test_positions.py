"""Which example is which, in loaders of all kinds on any number of processes."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, SequentialSampler

from datamodules.spec import Batch
from lightning_modules.runtime.positions import Place, flat, measured_once


class Loader:
    """A loader that says which part of the split a batch is."""

    batch_size = 4

    def share(self, batch: int) -> tuple[int, int]:
        return 10 * batch + 2, 10 * batch + 5


def test_positions_are_those_that_the_loader_says() -> None:
    batch = Batch(torch.zeros(3, 1))
    for replicated in (False, True):
        same, positions = measured_once(batch, Loader(), Place(2, 6, 1, 2, replicated))
        assert same is batch
        assert positions.tolist() == [22, 23, 24]


def measured(loader: Any, rank: int, processes: int, replicated: bool = False) -> Iterator[tuple[list[int], list[int]]]:
    """Yields the examples of each batch that are measured, and their positions."""
    seen = 0
    for number, x in enumerate(loader):
        batch, positions = measured_once(Batch(x), loader, Place(number, seen, rank, processes, replicated))
        seen += len(x)
        yield batch.x.tolist(), positions.tolist()


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


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("size", [1, 2, 5, 13])
def test_processes_share_what_no_one_has_split(size: int, processes: int) -> None:
    loader: Any = DataLoader(torch.arange(13), size)  # type: ignore[arg-type]
    found = []
    for rank in range(processes):
        for examples, positions in measured(loader, rank, processes, replicated=True):
            assert examples == positions
            found += positions
    assert sorted(found) == list(range(13))


def test_a_users_own_parts_are_all_measured() -> None:
    """The positions are of a split in turn, and those of different processes differ."""
    parts = [measured(DataLoader(torch.arange(5), 2), rank, 2) for rank in (0, 1)]  # type: ignore[arg-type]
    found = [positions for part in parts for _, positions in part]
    assert found == [[0, 2], [4, 6], [8], [1, 3], [5, 7], [9]]


def test_fields_are_measured_together() -> None:
    batch = Batch(torch.arange(3.0), labels=torch.arange(3), lengths=torch.ones(3))
    part, positions = measured_once(batch, [batch], Place(0, 3, 1, 2, replicated=True))
    assert [field.tolist() for field in part] == [[0, 2], [0, 2], [1, 1]]
    assert positions.tolist() == [3, 5]
    streams = Batch(torch.arange(3.0), continues=torch.ones(3, dtype=torch.bool))
    assert measured_once(streams, [streams], Place(0, 3, 1, 2, replicated=True))[0] is streams


def test_loaders_of_collections_come_in_order() -> None:
    assert flat(None) == []
    assert flat(1) == [1]
    assert flat([1, {"a": 2, "b": [3]}]) == [1, 2, 3]
