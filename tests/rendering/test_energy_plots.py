"""Densities and level lines of energies in the plane."""

import numpy as np
import pytest
import torch

from lightning_modules.rendering.points import CANVAS, energy_surface


def test_an_energy_is_darkest_at_its_least_and_y_points_up() -> None:
    centre = torch.tensor([1.0, 0.5])
    image = np.asarray(energy_surface(lambda x: (x - centre).square().sum(1) / 0.02, 2.0)).astype(int)
    row, column = np.unravel_index(image.sum(2).argmin(), image.shape[:2])
    assert abs(column - 0.75 * CANVAS) < 4
    assert abs(row - (1 - 0.625) * CANVAS) < 4


def test_an_energy_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        energy_surface(lambda x: x[:, 0] / 0, 1.0)
