"""k-means against the definition: nearest centres that are means, no empty cluster, the same from the same seed."""

import pytest
import torch

from lightning_modules.parts.clustering import fill_empty, k_means, k_means_plus_plus


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_clusters_are_stationary() -> None:
    x = torch.randn(500, 3)
    assigned = k_means(x, 7, generator(), iterations=500)
    centres = torch.stack([x[assigned == k].mean(0) for k in range(7)])
    assert torch.equal(torch.cdist(x, centres).argmin(1), assigned)
    assert torch.equal(assigned, k_means(x, 7, generator(), iterations=500))


def test_well_separated_clusters_are_found() -> None:
    centres = torch.cartesian_prod(torch.arange(5.0), torch.arange(5.0))
    labels = torch.arange(25).repeat(40)
    x = centres[labels] + 0.02 * torch.randn(1000, 2)
    assigned = k_means(x, 25, generator())
    assert len(set(zip(labels.tolist(), assigned.tolist(), strict=True))) == 25


def test_as_many_clusters_as_points() -> None:
    x = torch.randn(6, 2)
    assert sorted(k_means_plus_plus(x, 6, generator()).tolist()) == list(range(6))
    assert sorted(k_means(x, 6, generator()).tolist()) == list(range(6))


def test_fewer_distinct_points_than_clusters_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\b3\b.*\b2\b"):
        k_means(torch.tensor([[0.0], [1.0]]).repeat(5, 1), 3, generator())


def test_an_empty_cluster_gets_the_farthest_point() -> None:
    distances = torch.tensor([[0.0, 9.0], [2.0, 9.0], [1.0, 9.0]])
    assert fill_empty(distances).tolist() == [0, 1, 0]
