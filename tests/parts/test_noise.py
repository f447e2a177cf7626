"""Random numbers that are a function of an example's index."""

import math

import torch

from lightning_modules.parts.noise import DISTANCE, FixedNoise, fixed_normal, fixed_uniform


def test_fixed_random_numbers_belong_to_their_index() -> None:
    indices = torch.tensor([5, 2, 9])
    numbers = fixed_normal(indices, 4)
    assert torch.equal(numbers[1], fixed_normal(torch.tensor([2]), 4)[0])
    assert not torch.equal(numbers[0], numbers[1])
    assert fixed_normal(torch.arange(0), 3).shape == (0, 3)


def test_fixed_random_numbers_of_neighbouring_indices_are_independent() -> None:
    many = fixed_uniform(torch.arange(2000), 5)
    assert abs(many[:, 0].mean().item() - 0.5) < 5 * math.sqrt(1 / 12 / 2000)
    assert abs(torch.corrcoef(torch.stack([many[:-1, 0], many[1:, 0]]))[0, 1].item()) < 5 / math.sqrt(2000)


def test_draws_of_fixed_noise_belong_to_index_and_order_and_are_independent() -> None:
    """Correlations of 2 000 pairs are within 5 standard errors of 0."""
    cpu, indices = torch.device("cpu"), torch.arange(2000)
    noise, part = FixedNoise(indices), FixedNoise(indices[7:9])
    draws = [noise.normal(2000, 1, device=cpu), noise.uniform(2000, 1, device=cpu), noise.normal(2000, 1, device=cpu)]
    assert torch.equal(part.normal(2, 1, device=cpu), draws[0][7:9])
    assert torch.equal(part.uniform(2, 1, device=cpu), draws[1][7:9])
    assert torch.equal(draws[0], fixed_normal(indices, 1))
    correlations = torch.corrcoef(torch.cat(draws, 1).T) - torch.eye(3)
    assert correlations.abs().max().item() < 5 / math.sqrt(2000)


def test_indices_of_different_draws_are_far_apart_where_seeds_count() -> None:
    multiples = torch.arange(1000) * DISTANCE % 2**32
    gaps = multiples.sort()[0].diff()
    assert gaps.min().item() > 1_000_000
