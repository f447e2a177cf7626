"""The emission of strokes against scipy: density, gradients, samples."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import expit, logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor

from lightning_modules.autoregressive.strokes_emission import StrokeDistribution, StrokeMixture


def emission(num_components: int = 3, features: int = 5, spread: float = 1.0, ends: bool = False) -> StrokeMixture:
    """An emission in float64 whose components differ in every number."""
    torch.manual_seed(0)
    result = StrokeMixture(num_components, features, ends).double()
    with torch.no_grad():
        result.head.bias.copy_(spread * torch.randn(len(result.head.bias)))
    return result


def covariances(distribution: StrokeDistribution) -> Tensor:
    """Sigma of each component, (..., K, 2, 2), by its definition."""
    sx, sy, rho = distribution.log_sigma_x.exp(), distribution.log_sigma_y.exp(), torch.tanh(distribution.slant)
    return torch.stack([sx**2, rho * sx * sy, rho * sx * sy, sy**2], -1).unflatten(-1, (2, 2))


def seeded_uniform(seed: int = 0) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.rand(shape, generator=generator)


# The distribution


@torch.no_grad()
@pytest.mark.parametrize("ends", [False, True])
def test_the_density_integrates_to_one(ends: bool) -> None:
    strokes = emission(spread=0.5, ends=ends)
    axis = torch.arange(-12, 12, 0.04, dtype=torch.float64)
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    features = torch.randn(1, 1, 5, dtype=torch.float64)
    distribution = strokes.distribution(features)
    assert distribution.log_sigma_x.exp().min() > 0.1  # the grid is fine enough
    assert torch.tanh(distribution.slant).abs().max() > 0.5
    total = 0.0
    for pen in (0.0, 1.0, 2.0) if ends else (0.0, 1.0):
        points = torch.stack([x.flatten(), y.flatten(), torch.full((x.numel(),), pen, dtype=torch.float64)], 1)
        total += (
            strokes.log_prob(features.expand(-1, len(points), -1), points.unsqueeze(0)).exp().sum().item() * 0.04**2
        )
    assert total == pytest.approx(1, abs=1e-4)


@torch.no_grad()
def test_the_log_density_is_that_of_scipy() -> None:
    strokes = emission(num_components=4)
    features, x = torch.randn(2, 6, 5, dtype=torch.float64), torch.randn(2, 6, 3, dtype=torch.float64)
    x[..., 2] = (x[..., 2] > 0).double()
    distribution = strokes.distribution(features)
    sigma, mean = covariances(distribution), torch.stack([distribution.mean_x, distribution.mean_y], -1)
    ours = strokes.log_prob(features, x)
    for i, t in np.ndindex(2, 6):
        components = [
            distribution.log_weight[i, t, k].item()
            + multivariate_normal(mean[i, t, k], sigma[i, t, k]).logpdf(x[i, t, :2])
            for k in range(4)
        ]
        lifted = expit(distribution.pen[i, t].item())
        expected = logsumexp(components) + math.log(lifted if x[i, t, 2] == 1 else 1 - lifted)
        assert ours[i, t].item() == pytest.approx(expected, abs=1e-10)


def test_gradients_are_those_of_finite_differences() -> None:
    strokes = emission()
    features = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 3, 3, dtype=torch.float64)
    x[..., 2] = (x[..., 2] > 0).double()
    inputs = (features, *strokes.parameters())
    assert torch.autograd.gradcheck(lambda features, *_: strokes.log_prob(features, x), inputs)


def test_far_offsets_and_narrow_components_keep_finite_numbers_and_gradients() -> None:
    """A floor under the likelihood, outside of the logarithm, would give such steps no gradient at all."""
    strokes = StrokeMixture(3, 5)
    with torch.no_grad():
        strokes.head.bias[10:] = torch.tensor([-50.0] * 6 + [30.0, -30.0, 0.0])
    features = torch.randn(1, 4, 5, requires_grad=True)
    x = torch.tensor([[[0.0, 0.0, 0.0], [1e3, -1e3, 1.0], [1e3, 1e3, 0.0], [1e-8, 0.0, 1.0]]])
    values = strokes.log_prob(features, x)
    assert torch.isfinite(values).all()
    assert values[0, 1] < -1e6
    values.sum().backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()
    assert (features.grad[0, 1] != 0).any()
    distribution = strokes.distribution(features)
    assert torch.tanh(distribution.slant).abs().max() < 1
    assert distribution.log_sigma_x.exp().min().item() == pytest.approx(1e-3)


@torch.no_grad()
def test_mixed_precision_does_not_round_the_distribution() -> None:
    strokes, features, x = StrokeMixture(3, 5), torch.randn(2, 4, 5), torch.zeros(2, 4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = strokes.log_prob(features, x)
    assert torch.equal(rounded, strokes.log_prob(features, x))


# Samples


@torch.no_grad()
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_samples_have_the_predicted_moments(temperature: float) -> None:
    """Six moments of 100 000 samples within 5 standard errors: a false alarm in 3 x 10^5 runs, with a fixed seed."""
    strokes, num = emission(), 100_000
    features = torch.randn(1, 1, 5, dtype=torch.float64)
    distribution = StrokeDistribution(*(values[0, 0] for values in strokes.distribution(features)))
    weight = torch.softmax(distribution.log_weight / temperature, 0)
    mean, sigma = torch.stack([distribution.mean_x, distribution.mean_y], 1), temperature * covariances(distribution)
    second = (weight[:, None, None] * (sigma + mean[:, :, None] * mean[:, None, :])).sum(0)
    lifted = torch.sigmoid(distribution.pen / temperature)
    expected = torch.stack([*(weight @ mean), second[0, 0], second[1, 1], second[0, 1], lifted])
    x = strokes.sample(features.expand(num, 1, 5), seeded_uniform(), temperature)[:, 0]
    dx, dy, pen = x.unbind(1)
    values = torch.stack([dx, dy, dx * dx, dy * dy, dx * dy, pen], 1)
    z = (values.mean(0) - expected) / (values.std(0) / math.sqrt(num))
    assert z.abs().max() < 5
    assert set(pen.tolist()) == {0.0, 1.0}


@torch.no_grad()
def test_a_low_temperature_leaves_the_mean_of_the_likeliest_component() -> None:
    strokes = emission(num_components=5)
    features = torch.randn(200, 1, 5, dtype=torch.float64)
    distribution = strokes.distribution(features)
    best = distribution.log_weight.argmax(-1, keepdim=True)
    x = strokes.sample(features, seeded_uniform(), 1e-12)
    torch.testing.assert_close(x[..., 0], distribution.mean_x.gather(-1, best)[..., 0], atol=1e-3, rtol=0)
    torch.testing.assert_close(x[..., 1], distribution.mean_y.gather(-1, best)[..., 0], atol=1e-3, rtol=0)
    assert torch.equal(x[..., 2], (distribution.pen > 0).double())


@torch.no_grad()
@pytest.mark.parametrize("edge", [0.0, 1 - 2**-24])
def test_samples_from_the_least_and_the_largest_uniform_number_are_finite(edge: float) -> None:
    x = StrokeMixture(3, 5).sample(torch.randn(7, 1, 5), lambda *shape: torch.full(shape, edge))
    assert torch.isfinite(x).all()
    assert x[..., :2].abs().max() < 50


@torch.no_grad()
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_pen_has_three_states_where_ends_are_modelled(temperature: float) -> None:
    """Frequencies of 50 000 samples within 5 standard errors."""
    strokes, num = emission(ends=True), 50_000
    features = torch.randn(1, 1, 5, dtype=torch.float64)
    logits = strokes.distribution(features).pen[0, 0]
    probabilities = torch.softmax(logits / temperature, 0)
    pen = strokes.sample(features.expand(num, -1, -1), seeded_uniform(), temperature)[:, 0, 2]
    found = torch.stack([(pen == state).double().mean() for state in range(3)])
    assert ((found - probabilities).abs() < 5 * torch.sqrt(probabilities * (1 - probabilities) / num)).all()
    states = torch.tensor([[[0.3, 0.1, state] for state in (0.0, 1.0, 2.0)]], dtype=torch.float64)
    values = strokes.log_prob(features.expand(-1, 3, -1), states)[0]
    torch.testing.assert_close(values - values[0], torch.log_softmax(logits, 0) - torch.log_softmax(logits, 0)[0])
