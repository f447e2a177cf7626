"""Wrong conditions: never the right one, uniform among the others, and one random number per example."""

from collections import Counter

import torch

from lightning_modules.parts.matching import wrong_conditions
from lightning_modules.parts.noise import Noise

CAPTIONS = torch.tensor([[1, 2], [1, 0], [3, 4], [1, 2], [2, 1]])


def test_a_wrong_condition_is_never_the_right_one_and_any_of_the_others_as_often() -> None:
    """5 000 draws for each of five examples, five standard errors: a false alarm in a million runs."""
    num, noise = 5000, Noise(torch.Generator().manual_seed(0))
    counts: list[Counter[tuple[int, ...]]] = [Counter() for _ in CAPTIONS]
    for _ in range(num):
        wrong, exist = wrong_conditions(CAPTIONS, noise)
        assert exist
        for count, row in zip(counts, wrong.tolist(), strict=True):
            count[tuple(row)] += 1
    for own, count in zip(CAPTIONS.tolist(), counts, strict=True):
        others = Counter(tuple(row) for row in CAPTIONS.tolist() if row != own)
        assert count.keys() == others.keys()
        for caption, times in others.items():
            share = times / others.total()
            assert abs(count[caption] / num - share) < 5 * (share * (1 - share) / num) ** 0.5


def test_where_all_are_the_same_there_is_none() -> None:
    for num in (1, 4):
        same = torch.tensor([[3, 1, 0]]).repeat(num, 1)
        wrong, exist = wrong_conditions(same, Noise())
        assert not exist
        assert torch.equal(wrong, same)


def test_two_captions_are_exchanged() -> None:
    pair = torch.tensor([[0, 3, 1], [1, 3, 1]])  # the same caption of two classes
    wrong, exist = wrong_conditions(pair, Noise())
    assert exist
    assert torch.equal(wrong, pair.flip(0))


def test_one_random_number_per_example_is_drawn() -> None:
    """Whatever the number of examples of other processes."""
    before, after = (torch.Generator().manual_seed(1) for _ in range(2))
    wrong_conditions(CAPTIONS, Noise(before))
    torch.rand(len(CAPTIONS), generator=after)
    assert torch.equal(before.get_state(), after.get_state())
