"""Pieces of a record: padding, cuts, windows and streams."""

import pytest
import torch
from torch import Tensor

from datamodules.loader import EvaluationLoader, TrainingLoader
from datamodules.sequences.sequence_sources import (
    RandomWindows,
    SequenceSource,
    Streams,
    TrainingStreams,
    consecutive,
    length_mask,
)


def record(total: int) -> Tensor:
    """Steps that are their own index."""
    return torch.arange(total)


def songs(num: int) -> list[Tensor]:
    """Sequences of 1 to 40 steps with two numbers per step; no number occurs twice."""
    lengths = torch.randint(1, 41, (num,), generator=torch.Generator().manual_seed(0)).tolist()
    return list((torch.arange(2 * sum(lengths)).view(-1, 2) + 1).split(lengths))


def test_a_batch_is_padded_to_its_longest() -> None:
    source = SequenceSource.of(songs(9), padding=-1)
    indices = torch.tensor([4, 0, 8, 4])
    (batch,) = source.stream([indices])
    targets = source.targets(indices)
    assert list(targets) == ["lengths"]
    lengths = targets["lengths"]
    assert lengths.dtype == torch.int64
    assert batch.shape == (4, int(lengths.max()), 2)
    for row, length, index in zip(batch, lengths, indices, strict=True):
        assert torch.equal(row[:length], songs(9)[index])
        assert (row[length:] == -1).all()
    assert torch.equal(length_mask(lengths, batch.shape[1]), (batch >= 0).all(2))
    assert source.shape == (int(source.lengths.max()), 2)


@pytest.mark.parametrize("window", [1, 7, 40, 100])
def test_pieces_have_every_step_once_and_never_two_songs(window: int) -> None:
    source = SequenceSource.of(songs(20), window=window)
    pieces = [source.padded(torch.tensor([i]))[0] for i in range(len(source))]
    assert max(map(len, pieces)) <= window
    assert torch.equal(torch.cat(pieces), torch.cat(songs(20)))
    assert len(pieces) == sum(-(-len(song) // window) for song in songs(20))
    ends = torch.tensor([len(piece) for piece in pieces]).cumsum(0).tolist()
    assert set(torch.tensor([len(song) for song in songs(20)]).cumsum(0).tolist()) <= set(ends)


def test_an_order_by_length_is_a_permutation_with_little_padding() -> None:
    source = SequenceSource.of(songs(500))
    order = source.order(torch.Generator().manual_seed(0), 8)
    assert sorted(order.tolist()) == list(range(500))
    assert torch.equal(order, source.order(torch.Generator().manual_seed(0), 8))
    assert not torch.equal(order, source.order(torch.Generator().manual_seed(1), 8))

    def padded(order: Tensor) -> float:
        lengths = source.lengths[order[:496]].view(-1, 8)
        return (lengths.amax(1, keepdim=True) - lengths).sum().item() / lengths.sum().item()

    assert padded(order) < 0.15 < 0.5 < padded(torch.randperm(500))
    means = source.lengths[order[:496]].view(-1, 8).double().mean(1)
    assert not torch.equal(means, means.sort().values)  # batches come in random order


def test_what_is_left_over_is_not_decided_by_length() -> None:
    """A mean of 1 200 lengths, uniform over 1..40, is within 5 standard errors; false alarms below 1e-6."""
    source = SequenceSource.of(songs(500))
    orders = [source.order(torch.Generator().manual_seed(seed), 8) for seed in range(300)]
    left = torch.cat([source.lengths[order[496:]] for order in orders]).double()
    all_of_them = source.lengths.double()
    assert abs(left.mean() - all_of_them.mean()) < 5 * all_of_them.std() / len(left) ** 0.5


def test_windows_are_new_in_each_epoch_and_reach_both_ends() -> None:
    """Of 94 starts, 2 000 random ones miss one with probability 94 (93/94)^2000 < 1e-7."""
    source = RandomWindows(record(103), 10, seed=3)
    assert len(source) == 10
    epochs = [source.for_epoch(epoch) for epoch in range(200)]
    windows = torch.cat([epoch.padded(torch.arange(10)) for epoch in epochs])
    assert (windows.diff(dim=1) == 1).all()
    assert set(windows[:, 0].tolist()) == set(range(94))
    assert not torch.equal(epochs[0].starts, epochs[1].starts)
    assert torch.equal(epochs[1].starts, RandomWindows(record(103), 10, seed=3).for_epoch(1).starts)
    assert not torch.equal(epochs[1].starts, RandomWindows(record(103), 10, seed=4).for_epoch(1).starts)


def rows_of(loaders: list[EvaluationLoader] | list[TrainingLoader]) -> tuple[list[list[Tensor]], list[Tensor]]:
    """Returns the windows of each row without padding, and ``continues`` of each global batch."""
    windows: list[list[Tensor]] = []
    flags = []
    for parts in zip(*loaders, strict=True):
        pieces = [row[:length] for batch in parts for row, length in zip(batch.x, batch.lengths, strict=True)]
        windows.append(pieces)
        flags.append(torch.cat([batch.continues for batch in parts]))
    return [list(row) for row in zip(*windows, strict=True)], flags


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize(("rows", "window"), [(2, 2), (2, 7), (4, 5), (8, 2), (8, 16), (8, 200)])
@pytest.mark.parametrize("total", [8, 17, 23, 64, 101, 128])
def test_streams_have_every_step_once_and_continue_where_they_stopped(
    total: int, rows: int, window: int, world_size: int
) -> None:
    source = Streams.whole(record(total), window, rows)
    loaders = [EvaluationLoader(source, rows // world_size, rank=r, world_size=world_size) for r in range(world_size)]
    streams, flags = rows_of(loaders)
    assert len(streams) == rows
    assert torch.equal(torch.cat([torch.cat(stream) for stream in streams]), record(total))
    longest = max(sum(map(len, stream)) for stream in streams)
    assert min(sum(map(len, stream)) for stream in streams) >= longest - 1
    assert max(len(piece) for stream in streams for piece in stream) <= window
    assert len(flags) == -(-longest // window)
    assert not flags[0].any()
    assert all(flag.all() for flag in flags[1:])
    for pieces in list(zip(*streams, strict=True))[:-1]:
        assert len({len(piece) for piece in pieces}) == 1  # padding before the end would enter a carried state


def test_one_stream_is_the_record_itself() -> None:
    source = Streams.whole(record(100), 9, 1)
    assert torch.equal(torch.cat([batch.x[0] for batch in EvaluationLoader(source, 1)]), record(100))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_training_streams_continue_within_an_epoch_and_begin_elsewhere_in_the_next(world_size: int) -> None:
    source = TrainingStreams(record(500), 7, 6, seed=2)
    loaders = [
        TrainingLoader(source, 6 // world_size, seed=2, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    starts = set()
    for _ in range(3):
        streams, flags = rows_of(loaders)
        steps = [torch.cat(stream) for stream in streams]
        assert all((stream.diff() == 1).all() for stream in steps)
        assert len(torch.cat(steps).unique()) == len(torch.cat(steps)) == 500 // 42 * 42
        assert not flags[0].any()
        assert all(flag.all() for flag in flags[1:])
        starts.add(int(steps[0][0]))
    assert len(starts) > 1


def test_no_step_of_the_record_is_left_out_of_all_epochs() -> None:
    """There are 39 offsets; 400 epochs miss the first or the last with probability 2 (38/39)^400 = 6e-5."""
    source = TrainingStreams(record(500), 7, 6, seed=2)
    seen = torch.cat([epoch.padded(torch.arange(len(source))).flatten() for epoch in map(source.for_epoch, range(400))])
    assert torch.equal(seen.unique(), record(500))
    assert torch.equal(source.for_epoch(5).starts, TrainingStreams(record(500), 7, 6, seed=2).for_epoch(5).starts)


def test_streams_need_a_window_per_row() -> None:
    assert len(TrainingStreams(record(48), 7, 6, seed=0)) == 6
    with pytest.raises(ValueError, match=r"\b6 .*window=7 .*\b48 .*\b47\b"):
        TrainingStreams(record(47), 7, 6, seed=0)
    with pytest.raises(ValueError, match=r"\b3 .*\b4\b"):
        Streams.whole(record(3), 2, 4)


def test_an_empty_record_has_no_windows() -> None:
    empty = consecutive(record(0), 4)
    assert (len(empty), empty.lengths.dtype, empty.starts.dtype) == (0, torch.int64, torch.int64)


@pytest.mark.parametrize(("start", "length"), [(0, 0), (-1, 2), (4, 2)])
def test_pieces_that_are_empty_or_lie_elsewhere_are_refused(start: int, length: int) -> None:
    with pytest.raises(ValueError, match=r"\b5 steps"):
        SequenceSource(record(5), torch.tensor([start]), torch.tensor([length]))
