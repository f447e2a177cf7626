"""Distances of features that forget positions."""

import torch

from lightning_modules.parts.gram import gram_sum, relative_distance, total_variation, total_variation_of_torus


def test_the_gram_matrix_is_invariant_under_permutations_of_positions() -> None:
    features = torch.randn(1, 5, 4, 6, dtype=torch.float64)
    shuffled = features.flatten(2)[:, :, torch.randperm(24)].view(1, 5, 4, 6)
    torch.testing.assert_close(gram_sum(shuffled), gram_sum(features))
    torch.testing.assert_close(gram_sum(features), torch.einsum("aihw,ajhw->ij", features, features))
    swapped = features.flip(1)
    assert (gram_sum(swapped) - gram_sum(features)).abs().max() > 0.1  # but not of channels


def test_the_relative_distance_does_not_depend_on_the_scale() -> None:
    x, target = torch.randn(2, 7, 7, dtype=torch.float64)
    expected = (x - target).norm() ** 2 / target.norm() ** 2
    for factor in (1e-3, 1.0, 1e3):
        torch.testing.assert_close(relative_distance(factor * x, factor * target), expected)
    assert float(relative_distance(target, target)) == 0
    torch.testing.assert_close(relative_distance(torch.zeros_like(x), target), torch.ones((), dtype=torch.float64))


def test_total_variation_counts_neighbours() -> None:
    ramp = torch.arange(5.0).view(1, 1, 1, 5).expand(1, 3, 4, 5)
    assert float(total_variation(ramp)) == 1.0
    assert float(total_variation_of_torus(ramp)) == (4 * 1 + 16) / 5
    assert float(total_variation(torch.ones(1, 3, 4, 5))) == 0
    turned = torch.roll(torch.randn(1, 3, 6, 6), 2, 3)
    torch.testing.assert_close(total_variation_of_torus(turned), total_variation_of_torus(torch.roll(turned, 3, 2)))
