"""Sums over a grid against closed forms."""

import math

import pytest
import torch

from lightning_modules.parts.plane import grid_divergence, grid_log_integral, mixture_log_density, on_grid, plane_grid

DEVICE = torch.device("cpu")


def test_a_gaussian_integrates_to_its_constant() -> None:
    values = on_grid(lambda x: -(x - 0.3).square().sum(1) / (2 * 0.25), DEVICE, 5.0, 400)
    assert grid_log_integral(values, 5.0).item() == pytest.approx(math.log(2 * math.pi * 0.25), abs=1e-6)
    assert plane_grid(2.0, 4)[:5, 1].tolist() == [-1.5, -0.5, 0.5, 1.5, -1.5]


def test_the_divergence_of_two_gaussians() -> None:
    grid = plane_grid(8.0, 400)
    p, q = (-(grid - m).square().sum(1) / (2 * s**2) for m, s in ((0.5, 1.0), (0.0, 1.5)))
    expected = 2 * (math.log(1.5) + (1 + 0.25) / (2 * 1.5**2) - 0.5)
    assert grid_divergence(p.double(), q.double() + 7).item() == pytest.approx(expected, abs=1e-4)
    assert grid_divergence(p, p).item() == pytest.approx(0, abs=1e-6)


def test_a_mixture_density_integrates_to_one() -> None:
    modes = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]])
    values = on_grid(lambda x: mixture_log_density(modes, 0.1, x), DEVICE, 3.0, 400)
    assert grid_log_integral(values, 3.0).item() == pytest.approx(0, abs=1e-5)
    at_mode = mixture_log_density(modes, 0.1, modes[:1]).item()
    assert at_mode == pytest.approx(-math.log(3) - math.log(2 * math.pi * 0.01), abs=1e-5)
