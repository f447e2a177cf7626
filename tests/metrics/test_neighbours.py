"""Nearest training images: themselves at distance 0, the order of brute force, and copies told from new images."""

import pytest
import torch
from torch import Tensor

from lightning_modules.metrics.neighbours import nearest, nearest_training_images
from tests.standins import StandInExtractor


def images(num: int, seed: int = 0) -> Tensor:
    return torch.randint(256, (num, 1, 6, 6), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_the_neighbour_of_a_training_image_is_itself_at_distance_zero() -> None:
    training = images(300)
    chosen = torch.randperm(300, generator=torch.Generator().manual_seed(2))[:70]
    found = nearest_training_images(StandInExtractor(), training[chosen], images(20, 1), training, k=2)
    assert torch.equal(found.samples.indices[:, 0], chosen)
    assert (found.samples.distances[:, 0] == 0).all()
    assert (found.samples.distances[:, 1] > 0).all()
    assert found.relative_distance == 0


def test_neighbours_are_those_of_brute_force() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, others = torch.randn(50, 7, generator=generator), torch.randn(200, 7, generator=generator)
    found = nearest(rows, others, 4)
    exact = (rows.double()[:, None] - others.double()).square().sum(2).sqrt().sort(1)
    assert torch.equal(found.indices, exact.indices[:, :4])
    torch.testing.assert_close(found.distances.double(), exact.values[:, :4], rtol=1e-5, atol=0)


def test_the_scale_is_the_median_distance_of_held_out_images() -> None:
    training, held_out, samples = images(100), images(31, 1), images(40, 3)
    found = nearest_training_images(StandInExtractor(), samples, held_out, training)
    features = {name: StandInExtractor().eval().extract(x)[0] for name, x in (("t", training), ("h", held_out))}
    exact = torch.cdist(features["h"], features["t"], compute_mode="donot_use_mm_for_euclid_dist").amin(1).median()
    assert found.scale == pytest.approx(exact.item(), rel=1e-5)
    # Both are new images of one distribution: over 20 seeds the standard deviation of the ratio was 0.06.
    assert found.relative_distance == pytest.approx(1.0, abs=0.3)
    copies = nearest_training_images(StandInExtractor(), training[:40] ^ 1, held_out, training)
    assert copies.relative_distance < 0.1, "images that differ in their last bits only"


def test_what_cannot_be_compared_is_refused() -> None:
    training = images(10)
    with pytest.raises(ValueError, match="k=11 .*among 10"):
        nearest_training_images(StandInExtractor(), images(2, 1), images(3, 2), training, k=11)
    with pytest.raises(ValueError, match=r"k=1 .*\(7,\).*\(8,\)"):
        nearest(torch.zeros(2, 7), torch.zeros(3, 8))
    with pytest.raises(ValueError, match="3 held-out.*10 training"):
        nearest_training_images(StandInExtractor(), images(2, 1), training[:3], training)
