"""The two loaders: order, sharding, noise, length and state."""

from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.loader import EvaluationLoader, TensorSource, TrainingLoader, fixed_noise, seeded


def numbered(total: int) -> TensorSource:
    """Examples that are their own index, and have it as their label."""
    return TensorSource(torch.arange(total)[:, None], torch.arange(total))


def with_noise(raw: Tensor, noise: Tensor | None) -> Tensor:
    assert noise is not None
    return raw + noise


def epoch(loader: TrainingLoader | EvaluationLoader) -> list[Tensor]:
    return [x for x, _ in loader]


def test_an_epoch_is_a_permutation_without_its_incomplete_last_batch() -> None:
    loader = TrainingLoader(numbered(50), 8)
    batches = epoch(loader)
    assert len(batches) == len(loader) == 6
    seen = torch.cat(batches).flatten()
    assert len(seen.unique()) == 48
    assert not torch.equal(seen, seen.sort().values)
    expected = torch.randperm(50, generator=seeded(0, 0, 0))[:48]
    assert torch.equal(seen, expected)


def test_labels_belong_to_their_examples() -> None:
    for x, y in TrainingLoader(numbered(50), 8):
        assert torch.equal(x[:, 0], y)
    for x, y in EvaluationLoader(numbered(50), 8):
        assert torch.equal(x[:, 0], y)


def test_epochs_and_seeds_differ_and_repeat() -> None:
    loader = TrainingLoader(numbered(50), 8, seed=1)
    first, second = torch.cat(epoch(loader)), torch.cat(epoch(loader))
    assert not torch.equal(first, second)
    again = TrainingLoader(numbered(50), 8, seed=1)
    assert torch.equal(torch.cat(epoch(again)), first)
    assert torch.equal(torch.cat(epoch(again)), second)
    assert torch.equal(torch.cat(epoch(TrainingLoader(numbered(50), 8, seed=1, start_epoch=1))), second)
    assert not torch.equal(torch.cat(epoch(TrainingLoader(numbered(50), 8, seed=2))), first)


def test_the_global_random_state_is_neither_read_nor_changed() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = epoch(TrainingLoader(numbered(20), 4, transform=with_noise, noise=True))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(
        torch.cat(epoch(TrainingLoader(numbered(20), 4, transform=with_noise, noise=True))), torch.cat(first)
    )


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_global_batches_of_one_process(world_size: int) -> None:
    whole = TrainingLoader(numbered(53), 4 * world_size, transform=with_noise, noise=True)
    parts = [
        TrainingLoader(numbered(53), 4, transform=with_noise, noise=True, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for _ in range(2):
        shared = [epoch(part) for part in parts]
        together = epoch(whole)
        assert {len(share) for share in shared} == {len(together)} == {len(part) for part in parts}
        for number, batch in enumerate(together):
            assert torch.equal(torch.cat([share[number] for share in shared]), batch)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("total", [3, 8, 12, 13, 24, 25, 26, 50])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_evaluation_sees_everything_once_in_equally_many_batches(world_size: int, total: int, batch_size: int) -> None:
    loaders = [EvaluationLoader(numbered(total), batch_size, rank=r, world_size=world_size) for r in range(world_size)]
    shares = [epoch(loader) for loader in loaders]
    assert len({len(share) for share in shares}) == 1
    assert all(len(loader) == len(share) for loader, share in zip(loaders, shares, strict=True))
    sizes = [len(batch) for share in shares for batch in share]
    assert min(sizes) >= 1
    assert max(sizes) <= batch_size + (world_size > 1)
    seen = torch.cat([batch for share in shares for batch in share]).flatten()
    assert sorted(seen.tolist()) == list(range(total))
    if world_size == 1:
        assert seen.tolist() == list(range(total))


def test_evaluation_noise_belongs_to_the_example() -> None:
    source = TensorSource(torch.zeros(600, 2), torch.zeros(600, dtype=torch.int64))
    whole = torch.cat(epoch(EvaluationLoader(source, 600, (3, 1), with_noise, True)))
    assert torch.equal(whole, fixed_noise(0, 600, (2,), 3, 1))
    assert torch.equal(torch.cat(epoch(EvaluationLoader(source, 7, (3, 1), with_noise, True))), whole)
    halves = [EvaluationLoader(source, 50, (3, 1), with_noise, True, rank, 2) for rank in range(2)]
    pairs = zip(*(epoch(half) for half in halves), strict=True)
    assert torch.equal(torch.cat([batch for pair in pairs for batch in pair]), whole)
    assert not torch.equal(torch.cat(epoch(EvaluationLoader(source, 600, (3, 2), with_noise, True))), whole)
    assert len(whole.unique()) > 1190  # 1200 values of 24 bits: no block repeats another


def test_training_noise_is_fresh_in_every_epoch_and_batch() -> None:
    source = TensorSource(torch.zeros(64, 3), torch.zeros(64, dtype=torch.int64))
    loader = TrainingLoader(source, 16, transform=with_noise, noise=True)
    noise = torch.stack(epoch(loader) + epoch(loader))
    assert len(noise.flatten().unique()) > 0.99 * noise.numel()


@pytest.mark.parametrize("stop", [0, 1, 5, 6])
def test_a_loaded_state_continues_exactly(stop: int) -> None:
    def make() -> TrainingLoader:
        return TrainingLoader(numbered(50), 8, seed=4, transform=with_noise, noise=True)

    reference = make()
    expected = epoch(reference) + epoch(reference)

    stopped = make()
    batches = iter(stopped)
    taken = [next(batches)[0] for _ in range(stop)]
    resumed = make()
    resumed.load_state_dict(stopped.state_dict())
    iter(resumed)  # Lightning makes iterators that it does not use
    rest = epoch(resumed)
    while len(taken) + len(rest) < len(expected):
        rest += epoch(resumed)
    assert torch.equal(torch.stack(taken + rest), torch.stack(expected))


def test_a_state_at_the_limit_of_an_epoch_belongs_to_the_next() -> None:
    loader = TrainingLoader(numbered(50), 8, limit=2)
    batches = iter(loader)
    next(batches), next(batches)
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (1, 0)


def test_a_state_is_whole_numbers() -> None:
    assert all(type(value) is int for value in TrainingLoader(numbered(50), 8).state_dict().values())


def test_another_number_of_processes_is_refused_in_one_sentence() -> None:
    state = TrainingLoader(numbered(50), 8).state_dict()
    with pytest.raises(ValueError, match=r"\b1 .*\b2\b") as error:
        TrainingLoader(numbered(50), 4, rank=0, world_size=2).load_state_dict(state)
    assert str(error.value).count(".") == 1


def test_a_state_of_other_settings_is_refused() -> None:
    state = TrainingLoader(numbered(50), 8).state_dict()
    for other, message in (
        (TrainingLoader(numbered(50), 4), "batch_size=8 .*batch_size=4"),
        (TrainingLoader(numbered(50), 8, 1), "seed=0 .*seed=1"),
        (TrainingLoader(numbered(49), 8), "num_examples=50 .*num_examples=49"),
    ):
        with pytest.raises(ValueError, match=message):
            other.load_state_dict(state)


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        (numbered(0), {"batch_size": 4}, r"\b0 "),
        (numbered(5), {"batch_size": 0}, "batch_size=0"),
        (numbered(5), {"batch_size": -1}, "batch_size=-1"),
        (numbered(5), {"batch_size": 6}, r"batch_size=6 .*\b6 .*\b5\b"),
        (numbered(5), {"batch_size": 3, "world_size": 2}, r"batch_size=3 .*\b2 .*\b6 .*\b5\b"),
        (numbered(5), {"batch_size": 3, "seed": -1}, "seed=-1"),
        (numbered(5), {"batch_size": 3, "rank": 1}, "rank=1"),
    ],
)
def test_arguments_out_of_range_are_refused(source: TensorSource, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingLoader(source, **arguments)


def test_more_processes_than_examples_cannot_evaluate() -> None:
    with pytest.raises(ValueError, match=r"\b2 .*\b3\b"):
        EvaluationLoader(numbered(2), 4, rank=0, world_size=3)


def test_data_that_are_not_finite_or_lack_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        TensorSource(torch.tensor([[0.0], [float("nan")]]), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"\b3 .*\(2,\)"):
        TensorSource(torch.zeros(3, 1), torch.zeros(2, dtype=torch.int64))


class Group:
    """A process group that comes into being after the loaders."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rank: int, world_size: int) -> None:
        monkeypatch.setattr("datamodules.sharding._has_group", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: world_size)


@pytest.mark.parametrize("rank", [0, 1])
def test_loaders_find_their_process_when_they_are_used(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    training, evaluation = TrainingLoader(numbered(53), 4), EvaluationLoader(numbered(53), 4)
    large, small = TrainingLoader(numbered(53), 30), EvaluationLoader(numbered(1), 4)
    assert (training.rank, training.world_size, len(training), len(evaluation)) == (0, 1, 13, 14)
    Group(monkeypatch, rank, 2)
    assert (training.rank, training.world_size, len(training), len(evaluation)) == (rank, 2, 6, 7)
    explicit = {"rank": rank, "world_size": 2}
    assert training.state_dict() == TrainingLoader(numbered(53), 4, **explicit).state_dict()
    for loader, expected in (
        (training, TrainingLoader(numbered(53), 4, **explicit)),
        (evaluation, EvaluationLoader(numbered(53), 4, **explicit)),
    ):
        assert torch.equal(torch.cat(epoch(loader)), torch.cat(epoch(expected)))
    with pytest.raises(ValueError, match=r"batch_size=30 on each of 2 .*\b60 .*\b53\b"):
        len(large)
    with pytest.raises(ValueError, match="1 examples cannot be shared by 2"):
        len(small)


def test_a_place_that_is_given_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    training, evaluation = (kind(numbered(53), 4, rank=1, world_size=3) for kind in (TrainingLoader, EvaluationLoader))
    Group(monkeypatch, 0, 2)
    for loader in (training, evaluation):
        assert (loader.rank, loader.world_size) == (1, 3)


def test_layouts_follow_the_size_of_the_global_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    training = TrainingLoader(lambda size: numbered(10 * size), 4)
    evaluation = EvaluationLoader(numbered(24), lambda processes: 6 // processes)
    assert (len(training.source), evaluation.batch_size, len(evaluation)) == (40, 6, 4)
    Group(monkeypatch, 0, 3)
    assert (len(training.source), evaluation.batch_size, len(evaluation)) == (120, 2, 4)


def test_repeats_are_the_first_epoch_again_noise_included() -> None:
    source = TensorSource(torch.zeros(64, 3), torch.zeros(64, dtype=torch.int64))
    loader = TrainingLoader(source, 16, transform=with_noise, noise=True, repeats=True)
    once = TrainingLoader(source, 16, transform=with_noise, noise=True)
    expected = torch.cat(epoch(once))
    for _ in range(3):
        assert torch.equal(torch.cat(epoch(loader)), expected)
    assert loader.state_dict()["epoch"] == 3
