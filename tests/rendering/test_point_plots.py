"""Scatter plots: points where they belong, in a frame that depends on the real ones alone."""

import numpy as np
import pytest
import torch

from lightning_modules.rendering.images import FAKE_COLOUR, REAL_COLOUR
from lightning_modules.rendering.points import CANVAS, scatter


def centre_of(pixels: np.ndarray, colour: tuple[int, int, int]) -> list[float]:
    """Mean column and row of a colour."""
    rows, columns = np.nonzero((pixels == colour).all(-1))
    return [columns.mean(), rows.mean()]


def test_y_grows_upwards_and_the_frame_is_that_of_the_real_points() -> None:
    real = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    for points in (torch.tensor([[0.5, 0.25]]), torch.tensor([[0.5, 0.25], [100.0, 100.0]])):
        pixels = np.asarray(scatter(points, real))
        assert pixels.shape == (CANVAS, CANVAS, 3)
        # The square [-1.25, 1.25]^2 fills the canvas; a point outside is left out.
        expected = [(0.5 / 2.5 + 0.5) * (CANVAS - 1), (0.5 - 0.25 / 2.5) * (CANVAS - 1)]
        assert centre_of(pixels, FAKE_COLOUR) == pytest.approx(expected, abs=0.5)
    assert centre_of(pixels, REAL_COLOUR) == pytest.approx([(CANVAS - 1) / 2] * 2, abs=0.5)


def test_points_alone_make_their_own_frame() -> None:
    pixels = np.asarray(scatter(torch.tensor([[4.0, 7.0], [6.0, 7.0]])))
    assert centre_of(pixels, FAKE_COLOUR) == pytest.approx([(CANVAS - 1) / 2] * 2, abs=0.5)
    assert not (pixels == REAL_COLOUR).all(-1).any()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_points_that_are_not_finite_are_counted(value: float) -> None:
    points = torch.zeros(3, 2)
    points[1, 0] = value
    for layers in ((points,), (torch.zeros(2, 2), points)):
        with pytest.raises(ValueError, match=r"1 of 3 points are NaN or infinite.*diverged"):
            scatter(*layers)


@pytest.mark.parametrize("points", [torch.zeros(3, 3), torch.zeros(0, 2)])
def test_what_is_no_point_is_refused_with_its_shape(points: torch.Tensor) -> None:
    shape = ", ".join(map(str, points.shape))
    with pytest.raises(ValueError, match=shape):
        scatter(points)
    with pytest.raises(ValueError, match=shape):
        scatter(torch.zeros(2, 2), points)
