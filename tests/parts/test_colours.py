"""Colours are mapped as they should be, and brightness is replaced without changing hues."""

import torch

from lightning_modules.parts.colours import luminance, with_luminance, with_moments


def moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    flat = x.flatten(2)[0]
    return flat.mean(1), torch.cov(flat, correction=0)


def test_colours_get_mean_and_covariance_of_another_image() -> None:
    x = torch.randn(1, 3, 20, 30, dtype=torch.float64)
    mixing = torch.tensor([[1.0, 0.2, 0.0], [0.5, 0.3, 0.1], [0.0, 0.4, 0.8]], dtype=torch.float64)
    target = torch.einsum("ij,njhw->nihw", mixing, torch.randn(1, 3, 10, 15, dtype=torch.float64)) + 2
    for found, expected in zip(moments(with_moments(x, target)), moments(target), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(with_moments(x, x), x)


def test_of_one_channel_it_is_a_shift_and_a_factor() -> None:
    x, target = torch.randn(1, 1, 20, 30, dtype=torch.float64), 3 * torch.randn(1, 1, 9, 9, dtype=torch.float64) - 1
    expected = (x - x.mean()) / x.std(correction=0) * target.std(correction=0) + target.mean()
    torch.testing.assert_close(with_moments(x, target), expected, atol=1e-4, rtol=1e-4)


def test_an_image_of_one_colour_becomes_one_of_the_mean_colour() -> None:
    x, target = torch.full((1, 3, 4, 4), 0.3), torch.randn(1, 3, 8, 8)
    found = with_moments(x, target)
    torch.testing.assert_close(found, target.mean((2, 3), keepdim=True).expand_as(found), atol=1e-4, rtol=1e-4)


def test_brightness_is_replaced_and_differences_of_colours_stay() -> None:
    x, brightness = torch.rand(2, 3, 5, 4), torch.rand(2, 1, 5, 4)
    found = with_luminance(x, brightness)
    torch.testing.assert_close(luminance(found), brightness)
    torch.testing.assert_close(found.diff(dim=1), x.diff(dim=1))
    torch.testing.assert_close(luminance(torch.ones(1, 3, 2, 2)), torch.ones(1, 1, 2, 2))
