"""Figures of counterfactuals, for models of which the figures are known: one that knows the truth, and worse ones."""

import math

import pytest
import torch
from torch import Tensor

from lightning_modules.metrics.counterfactuals import (
    NUM_RESAMPLED,
    distances,
    estimate,
    group_indices,
    named,
    nearer_than_seen,
    nearest_seen,
    nearest_variant,
    retrieved,
)

SCENES, TONES = 12, 5
SEEN_TONES = (0, 1, 3, 4)
"""In every scene the third tone was held out."""


@pytest.fixture
def real() -> Tensor:
    """Features (60, 2) of 12 scenes far apart, each in five tones that follow each other."""
    scene, tone = torch.meshgrid(torch.arange(SCENES), torch.arange(TONES), indexing="ij")
    return torch.stack([100.0 * scene, tone], 2).flatten(0, 1)


@pytest.fixture
def truth() -> Tensor:
    return torch.arange(SCENES) * TONES + 2


def figures_of(samples: Tensor, real: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Returns every figure that compares samples with images."""
    seen = real.view(SCENES, TONES, 2)[:, SEEN_TONES].flatten(0, 1)
    neighbour = seen[nearest_seen(real[truth], seen, torch.full((SCENES,), -1))]
    variants = real.view(SCENES, TONES, 2)
    return {
        "nearer": nearer_than_seen(samples, real[truth], neighbour),
        "nearest": nearest_variant(samples, variants, torch.full((SCENES,), 2)),
        "first": retrieved(samples, real, truth, 1),
        "fifth": retrieved(samples, real, truth, 5),
    }


def test_a_model_that_knows_the_truth_is_right_in_everything(real: Tensor, truth: Tensor) -> None:
    for values in figures_of(real[truth], real, truth).values():
        assert torch.equal(values, torch.ones(SCENES, dtype=torch.float64))


def test_a_model_that_repeats_a_seen_neighbour_is_retrieved_within_five_alone(real: Tensor, truth: Tensor) -> None:
    found = figures_of(real[truth - 1], real, truth)
    for name in ("nearer", "nearest", "first"):
        assert not found[name].any(), name
    assert found["fifth"].all()


def test_a_model_of_noise_is_right_by_chance(real: Tensor, truth: Tensor) -> None:
    """Samples are any image of the scene, all equally often: a fifth of each is the truth."""
    shares: dict[str, list[float]] = {}
    for tone in range(TONES):
        for name, values in figures_of(real[truth - 2 + tone], real, truth).items():
            shares.setdefault(name, []).append(values.mean().item())
    assert {name: sum(each) / TONES for name, each in shares.items()} == {
        "nearer": pytest.approx(1 / 5),
        "nearest": pytest.approx(1 / 5),
        "first": pytest.approx(1 / 5),
        "fifth": pytest.approx(1.0),
    }


def test_images_that_cannot_be_told_apart_are_right_as_often_as_by_chance(truth: Tensor) -> None:
    """An extractor with dead features must not make every sample the nearest."""
    same = torch.zeros(SCENES * TONES, 2)
    found = figures_of(same[truth], same, truth)
    assert not found["nearer"].any()
    assert found["nearest"].tolist() == pytest.approx([1 / TONES] * SCENES)
    assert found["first"].tolist() == pytest.approx([1 / (SCENES * TONES)] * SCENES)
    assert found["fifth"].tolist() == pytest.approx([5 / (SCENES * TONES)] * SCENES)


def test_a_tie_of_two_images_is_counted_by_half() -> None:
    real = torch.tensor([[0.0], [2.0], [2.0], [5.0]])
    assert retrieved(torch.tensor([[1.9]]), real, torch.tensor([2]), 1).tolist() == [0.5]
    assert retrieved(torch.tensor([[1.9]]), real, torch.tensor([2]), 2).tolist() == [1.0]
    assert retrieved(torch.tensor([[1.9]]), real, torch.tensor([0]), 2).tolist() == [0.0]
    with pytest.raises(ValueError, match="k=5 .*4"):
        retrieved(torch.zeros(1, 1), real, torch.tensor([0]), 5)


def test_the_nearest_seen_image_is_not_the_image_itself() -> None:
    seen = torch.tensor([[0.0], [1.0], [3.0]])
    found = nearest_seen(torch.tensor([[1.0], [1.0], [2.9]]), seen, torch.tensor([1, -1, 2]))
    assert found.tolist() == [0, 1, 1]


def test_distances_of_equal_images_are_zero() -> None:
    features = 1e4 + torch.rand(70, 3, generator=torch.Generator().manual_seed(0))
    away = distances(features, features)
    assert torch.equal(away.diagonal(), torch.zeros(70))
    torch.testing.assert_close(away.double(), torch.cdist(features.double(), features.double()))


def test_only_what_is_asked_for_is_named() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.9], [3.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    values = named(logits, torch.tensor([2, 1, -1]))
    assert values[:2].tolist() == [1.0, 0.0]
    assert values[2].isnan()


def test_the_error_of_a_mean_is_that_of_its_groups() -> None:
    """With groups of one caption it is sqrt(p (1 - p) / n); four copies of each caption do not make it smaller."""
    values = (torch.arange(200) % 4 == 0).double()
    expected = math.sqrt(0.25 * 0.75 / 200)
    for copies in (1, 4):
        found = estimate(values.repeat(copies), torch.arange(200).repeat(copies))
        assert found.mean == 0.25
        assert found.num == 200 * copies
        # A standard deviation over R resamples is within 4 / sqrt(2 R) of its limit but for 1 in 16 000 seeds.
        assert found.standard_error == pytest.approx(expected, rel=4 / math.sqrt(2 * NUM_RESAMPLED))


def test_pairs_that_agree_have_no_error_in_their_difference() -> None:
    values = torch.randint(2, (50,), generator=torch.Generator().manual_seed(1)).double()
    assert estimate(values - values, torch.arange(50))[:2] == (0.0, 0.0)


def test_captions_without_a_value_are_left_out() -> None:
    values = torch.tensor([1.0, torch.nan, 0.0, 1.0])
    found = estimate(values, torch.tensor([0, 1, 2, 7]))
    assert (found.mean, found.num) == (pytest.approx(2 / 3), 3)
    assert estimate(values, torch.tensor([0, 1, 2, 7])) == found, "it is seeded"
    with pytest.raises(ValueError, match="two groups, but 1"):
        estimate(values, torch.zeros(4, dtype=torch.int64))


def test_groups_are_numbered_as_they_come() -> None:
    assert group_indices([("man", "cook"), ("woman", "cook"), ("man", "cook")]).tolist() == [0, 1, 0]
