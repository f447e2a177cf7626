"""Conditional distributions: their moments, and gradients by the parameters."""

import torch

from lightning_modules.parts.conditionals import DiagonalGaussian, PointMass
from lightning_modules.parts.noise import Noise


def test_a_point_mass_is_the_networks_output() -> None:
    outputs = torch.randn(3, 2)
    assert PointMass().draw(outputs, Noise()) is outputs
    assert PointMass().mean(outputs) is outputs


def test_draws_of_a_gaussian_have_its_moments() -> None:
    """Of 100 000 draws the mean is within 5 standard errors, of 0.5 / 316, and the scale within 1.5 %."""
    parameters = torch.tensor([[1.0, -2.0, 0.5, 0.1]])
    parameters[:, 2:] = parameters[:, 2:].log()
    torch.manual_seed(0)
    draws = DiagonalGaussian().draw(parameters.expand(100_000, 4), Noise())
    torch.testing.assert_close(draws.mean(0), torch.tensor([1.0, -2.0]), atol=0.008, rtol=0)
    torch.testing.assert_close(draws.std(0), torch.tensor([0.5, 0.1]), atol=0, rtol=0.015)
    assert torch.equal(DiagonalGaussian().mean(parameters), torch.tensor([[1.0, -2.0]]))


def test_gradients_reach_mean_and_scale_of_every_position() -> None:
    parameters = torch.randn(2, 6, 4, 4, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    draws = DiagonalGaussian().draw(parameters, Noise(generator))
    assert draws.shape == (2, 3, 4, 4)
    (gradient,) = torch.autograd.grad(draws.sum(), parameters)
    noise = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = torch.cat([torch.ones(2, 3, 4, 4), parameters.detach()[:, 3:].exp() * noise], 1)
    torch.testing.assert_close(gradient, expected)


def test_half_precision_is_drawn_in_full() -> None:
    assert DiagonalGaussian().draw(torch.zeros(2, 4, dtype=torch.bfloat16), Noise()).dtype == torch.float32
