"""The text's way from a divergence to maximum likelihood (eq. 1.1 to 1.13), each step by another route."""

import math

import pytest
import torch
from torch import Tensor

from lightning_modules import Bernoulli, GaussianMixture
from lightning_modules.parts.likelihoods import gaussian_log_prob

GRID = torch.linspace(-15, 15, 20_001, dtype=torch.float64)


def integral(values: Tensor) -> float:
    return torch.trapezoid(values, GRID).item()


def log_p(x: Tensor) -> Tensor:
    """Half N(-1, 0.7^2), half N(2, 1)."""
    left, right = (gaussian_log_prob(x[:, None], mean, scale) for mean, scale in MODES)
    return torch.logaddexp(left, right) - math.log(2)


MODES = [(torch.tensor(-1.0), torch.tensor(0.7).log()), (torch.tensor(2.0), torch.tensor(0.0))]


def log_q(x: Tensor, mean: float = 0.5, scale: float = 1.8) -> Tensor:
    """A Gaussian."""
    return gaussian_log_prob(x[:, None], torch.tensor(mean), torch.tensor(scale).log())


def test_three_forms_of_the_divergence_are_one_number() -> None:
    """Eq. 1.4 to 1.7: two integrals, that of the log-ratio, and its expectation, within four standard errors."""
    p = log_p(GRID).exp()
    two = integral(p * log_p(GRID)) - integral(p * log_q(GRID))  # 1.4
    ratio = (log_p(GRID).exp() / log_q(GRID).exp()).log()
    inside = log_p(GRID) > -200  # beyond, both densities round to 0
    assert integral(torch.where(inside, p * ratio, 0.0)) == pytest.approx(two, abs=1e-9)  # 1.5
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(200_000, generator=generator) < 0.5
    noise = torch.randn(200_000, generator=generator).double()
    x = torch.where(first, -1 + 0.7 * noise, 2 + noise)
    ratios, differences = (log_p(x).exp() / log_q(x).exp()).log(), log_p(x) - log_q(x)
    error = (ratios.std() / len(x) ** 0.5).item()
    assert ratios.mean().item() == pytest.approx(two, abs=4 * error)  # 1.6
    torch.testing.assert_close(ratios, differences)  # 1.7
    assert two > 100 * error


def test_a_divergence_is_not_negative_and_zero_for_equals_only() -> None:
    """Eq. 1.1 and 1.2, and no symmetry, for Gaussians by quadrature."""

    def divergence(one: tuple[float, float], other: tuple[float, float]) -> float:
        return integral(log_q(GRID, *one).exp() * (log_q(GRID, *one) - log_q(GRID, *other)))

    settings = [(0.0, 1.0), (0.1, 1.0), (0.0, 1.1), (1.0, 0.5)]
    for one in settings:
        for other in settings:
            value = divergence(one, other)
            assert value == pytest.approx(0, abs=1e-12) if one == other else value > 1e-3
    assert divergence((0.0, 1.0), (1.0, 0.5)) > 2 * divergence((1.0, 0.5), (0.0, 1.0))


def test_products_sums_and_means_have_the_same_maximum() -> None:
    """Eq. 1.8 to 1.10, over a grid of the parameter; 30 examples, so that the product does not underflow."""
    x = (torch.rand(30, 1, 1, 1, generator=torch.Generator().manual_seed(0)) < 0.3).double()
    module = Bernoulli(shape=[1, 1, 1]).double()
    products, sums, means = [], [], []
    rates = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    for rate in rates:
        with torch.no_grad():
            module.eta.fill_(torch.logit(rate))
            log_prob = module.log_prob(x)
        products.append(log_prob.exp().prod())
        sums.append(log_prob.sum())
        means.append(-log_prob.mean())
    best = torch.stack(products).argmax()
    assert best == torch.stack(sums).argmax() == torch.stack(means).argmin()
    assert rates[best].item() == pytest.approx(x.mean().item(), abs=0.005)


def test_the_fit_nears_the_least_divergence_with_the_number_of_examples() -> None:
    """Eq. 1.3 and 1.11: the argmin over N examples goes to that of the expectation, at the rate of a standard error.

    Among all independent bits the one nearest to p has the rates of p; the fit has those of the sample.
    """
    p = torch.tensor([0.4, 0.1, 0.2, 0.3], dtype=torch.float64)  # of 00, 01, 10, 11: dependent bits
    bits = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).double().view(4, 1, 1, 2)
    module = Bernoulli(shape=[1, 1, 2], smoothing=1e-6).double()

    def divergence() -> float:
        return (p * (p.log() - module.log_prob(bits).detach())).sum().item()

    with torch.no_grad():
        module.eta.copy_(torch.logit(torch.tensor([0.5, 0.4]))[:, None])
    least = divergence()
    for change in (0.02, -0.02):
        for place in (0, 1):
            with torch.no_grad():
                module.eta[place] += change
                assert divergence() > least
                module.eta[place] -= change
    for num in (100, 10_000, 1_000_000):
        drawn = torch.multinomial(p, num, replacement=True, generator=torch.Generator().manual_seed(num))
        counts = drawn.bincount(minlength=4)
        module.fit_closed_form([bits.repeat_interleave(counts, 0)])
        assert 0 <= divergence() - least < 12 / num  # twice that is chi-squared with 2 degrees of freedom over num


def test_weights_of_a_mixture_must_also_not_be_negative() -> None:
    """Eq. 1.17 with weights 2 and -1 sums to 1 and violates eq. 1.14; with weights of a softmax it cannot."""
    density = 2 * log_q(GRID, 0.0, 1.0).exp() - log_q(GRID, 0.0, 0.4).exp()
    assert integral(density) == pytest.approx(1, abs=1e-6)
    assert density.min() < -0.1
    module = GaussianMixture(shape=[2], num_components=3)
    with torch.no_grad():
        module.logits.copy_(torch.tensor([-50.0, 0.0, 3.0]))
    assert (module.weights >= 0).all()
    assert module.weights.sum().item() == pytest.approx(1)


def test_two_gaussians_of_the_plane_can_have_three_modes() -> None:
    """The number of components of eq. 1.17 does not bound that of modes: two crossed ellipses, and their crossing."""
    module = GaussianMixture(shape=[2], num_components=2, covariance="diagonal").double()
    with torch.no_grad():
        module.logits.zero_()
        module.components.mean.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        scales = torch.tensor([[1.0, 0.1], [0.1, 1.0]])
        module.components.log_scale.copy_(scales.log())  # type: ignore[operator]
        steps = torch.linspace(-0.5, 1.5, 401, dtype=torch.float64)
        values = module.log_prob(torch.cartesian_prod(steps, steps)).view(401, 401)
    inner = values[1:-1, 1:-1]
    neighbours = [values[1 + i : 400 + i, 1 + j : 400 + j] for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
    modes = torch.stack([inner > other for other in neighbours]).all(0)
    assert modes.sum() == 3
