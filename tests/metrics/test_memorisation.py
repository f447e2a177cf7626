"""Memorisation-informed FID: against torchmetrics, and its closed form for features with known angles."""

import math

import pytest
import torch
from torchmetrics.image.mifid import _compute_cosine_distance

from lightning_modules.metrics.memorisation import LEAST, memorisation_distance, memorisation_informed_fid


def test_the_distance_is_that_of_torchmetrics() -> None:
    features, training = torch.randn(450, 16), torch.randn(300, 16)  # more rows than are compared at once
    expected = _compute_cosine_distance(features.double(), training.double(), cosine_distance_eps=1.0)
    assert memorisation_distance(features, training) == pytest.approx(expected.item(), rel=1e-6)


def test_known_angles_whatever_the_lengths_and_signs() -> None:
    angle = 0.3
    training = torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    features = torch.tensor([[math.cos(angle), math.sin(angle)], [-3 * math.cos(angle), -3 * math.sin(angle)]])
    assert memorisation_distance(features, training) == pytest.approx(1 - math.cos(angle), rel=1e-6)


def test_copies_are_at_no_distance_and_their_fid_is_far_above() -> None:
    training = torch.rand(1000, 128)
    distance = memorisation_distance(training[:300], training)
    assert distance < 1e-12
    assert memorisation_informed_fid(0.5, distance, threshold=0.01) == pytest.approx(0.5 / LEAST)


def test_fid_stays_as_it_is_where_samples_are_not_near() -> None:
    assert memorisation_informed_fid(0.5, 0.02, threshold=0.02) == 0.5
    assert memorisation_informed_fid(0.5, 0.01, threshold=0.02) == pytest.approx(50)


@pytest.mark.parametrize("threshold", [0.0, 1.5, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]"):
        memorisation_informed_fid(1.0, 0.1, threshold)


def test_features_of_two_extractors_are_refused() -> None:
    with pytest.raises(ValueError, match="of one extractor"):
        memorisation_distance(torch.randn(3, 4), torch.randn(3, 5))
