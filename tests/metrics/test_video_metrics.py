"""Errors of predicted frames: closed forms, horizons, and the forecast that repeats the last frame."""

import math

import pytest
import torch
from torch import Tensor

from lightning_modules.metrics.sequence import spread_evenly
from lightning_modules.metrics.video_metrics import at_horizons, frame_errors, last_repeated

SHAPE = (3, 4, 1, 16, 16)


def frames() -> Tensor:
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)) * 0.5


def test_errors_of_a_constant_offset_that_grows_with_the_horizon() -> None:
    offsets = torch.tensor([0.0, 0.1, 0.2, 0.4]).view(4, 1, 1, 1)
    errors = frame_errors(frames() + offsets, frames())
    expected = 256 * offsets.flatten().double().square()
    torch.testing.assert_close(errors["frame_mse"], expected, rtol=1e-5, atol=1e-9)
    decibels = [-20 * math.log10(offset) for offset in (0.1, 0.2, 0.4)]
    assert errors["frame_psnr"][1:].tolist() == pytest.approx(decibels, rel=1e-5)
    assert errors["frame_psnr"][0] == pytest.approx(10 * math.log10(12 * 255**2))  # equal frames: that of rounding
    ssim = errors["frame_ssim"].tolist()
    assert ssim[0] == pytest.approx(1)
    assert ssim == sorted(ssim, reverse=True)


def test_squared_errors_are_sums_over_a_frame_and_means_over_clips() -> None:
    predicted, truth = torch.zeros(SHAPE), torch.zeros(SHAPE)
    predicted[0, 2, 0, :2, :3] = 1  # six pixels of one clip of three
    assert frame_errors(predicted, truth)["frame_mse"].tolist() == [0, 0, 2, 0]


def test_ssim_is_that_of_its_formula_where_frames_are_constant() -> None:
    """Without variance it is (2 a b + c) / (a^2 + b^2 + c) with c = 0.01^2."""
    dark, light = 0.2, 0.6
    expected = (2 * dark * light + 1e-4) / (dark**2 + light**2 + 1e-4)
    errors = frame_errors(torch.full(SHAPE, dark), torch.full(SHAPE, light))
    assert errors["frame_ssim"].tolist() == pytest.approx([expected] * 4, rel=1e-4)


def test_small_frames_have_no_ssim() -> None:
    assert list(frame_errors(torch.rand(2, 3, 1, 4, 4), torch.rand(2, 3, 1, 4, 4))) == ["frame_mse", "frame_psnr"]


def test_the_simplest_forecast_repeats_the_last_frame() -> None:
    given = frames()
    forecast = last_repeated(given, 5)
    assert forecast.shape == (3, 5, 1, 16, 16)
    assert all(torch.equal(frame, given[:, -1]) for frame in forecast.unbind(1))


def test_names_tell_horizon_and_protocol() -> None:
    curve = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    assert at_horizons({"frame_mse": curve}, "10to10-250", "_of_centres") == {
        "frame_mse_of_centres-10to10-250": 5.5,
        "frame_mse_at_1_of_centres-10to10-250": 1,
        "frame_mse_at_5_of_centres-10to10-250": 5,
        "frame_mse_at_10_of_centres-10to10-250": 10,
    }
    assert list(at_horizons({"x": curve[:1]}, "1to1-2")) == ["x-1to1-2", "x_at_1-1to1-2"]


def test_clips_are_spread_over_the_split() -> None:
    clips = torch.arange(10).view(10, 1, 1, 1, 1)
    assert spread_evenly(clips, 5).flatten().tolist() == [0, 2, 4, 6, 8]
    assert torch.equal(spread_evenly(clips, 99), clips)


def test_clips_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[3, 4, 1, 16, 16\].*\[3, 4, 1, 8, 8\]"):
        frame_errors(frames(), torch.zeros(3, 4, 1, 8, 8))
    with pytest.raises(ValueError, match="must be"):
        frame_errors(frames()[:, 0], frames()[:, 0])
