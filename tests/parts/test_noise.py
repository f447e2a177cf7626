"""Random numbers that are a function of an example's index."""

import math

import torch

from lightning_modules.parts.noise import fixed_normal, fixed_uniform


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
