"""Eq. 1.12 and 1.13: the held-out cross-entropy of any model bounds the entropy of the data from above."""

import math

import pytest
import torch

from datamodules import Ring
from lightning_modules import Gaussian, GaussianMixture
from lightning_modules.density.components import FullComponents

RING = Ring(num_modes=8, train_size=20_000, test_size=40_000)
SCALE = RING.spec.mode_scale or 1.0
# Modes lie 50 deviations and more apart, so that a point tells its mode: H = H(mode) + H(point | mode).
ENTROPY = math.log(8) + math.log(2 * math.pi * math.e * SCALE**2)


def cross_entropy(module: Gaussian | GaussianMixture) -> tuple[float, float]:
    """Returns the mean of -log q over the test split, nats, and its standard error."""
    x, _ = RING.points("test")
    with torch.no_grad():
        nll = -module.log_prob(x).double()
    return nll.mean().item(), (nll.std() / len(x) ** 0.5).item()


def test_better_models_give_tighter_bounds_and_none_undercuts_the_entropy() -> None:
    """Eq. 1.12: a model is below the entropy by chance only, by four standard errors once in 30 000 splits."""
    x, _ = RING.points("train")
    bounds = []
    gaussian = Gaussian(shape=[2])
    gaussian.fit_closed_form([x])
    bounds.append(cross_entropy(gaussian))
    for num_components in (2, 4, 8):
        module = GaussianMixture(shape=[2], num_components=num_components)
        module.fit_em([x], iterations=30)
        bounds.append(cross_entropy(module))
    values = [value for value, _ in bounds]
    assert values == sorted(values, reverse=True)
    assert all(value > ENTROPY - 4 * error for value, error in bounds)
    assert values[0] > ENTROPY + 3  # one Gaussian knows nothing of the modes
    assert abs(values[-1] - ENTROPY) < 4 * bounds[-1][1]  # a model of the right form estimates the entropy


def test_the_gap_is_the_divergence() -> None:
    """Eq. 1.12 and 1.13: KL(p || q) of two Gaussians in closed form, against cross-entropy less entropy."""
    p, q = (Gaussian(shape=[2]).double() for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    for module in (p, q):
        with torch.no_grad():
            assert isinstance(module.components, FullComponents)
            module.components.mean.copy_(torch.randn(1, 2, generator=generator))
            module.components.lower.copy_(torch.randn(1, 2, 2, generator=generator).tril(-1))
            module.components.log_scale.copy_(0.3 * torch.randn(1, 2, generator=generator))
    means, covariances = [], []
    for module in (p, q):
        means.append(module.components.mean[0].detach())
        covariances.append(module.components.covariances()[0].detach())
    precision, offset = torch.linalg.inv(covariances[1]), means[1] - means[0]
    kl = 0.5 * (
        (precision @ covariances[0]).trace()
        + offset @ precision @ offset
        - 2
        + covariances[1].logdet()
        - covariances[0].logdet()
    )
    entropy = 0.5 * (2 * math.pi * math.e * covariances[0]).logdet()
    # CE(p, q) by quadrature: a grid fine and wide enough that the sum is the integral.
    steps = torch.linspace(-12, 12, 401, dtype=torch.float64)
    with torch.no_grad():
        grid = torch.cartesian_prod(steps, steps)
        cross = -(p.log_prob(grid).exp() * q.log_prob(grid)).sum() * (steps[1] - steps[0]) ** 2
    assert cross.item() - entropy.item() == pytest.approx(kl.item(), abs=1e-6)
    assert kl > 0
