"""Bernoulli and Categorical: log-partition, moments, entropy and divergence against enumeration and torch's own."""

from typing import Any

import pytest
import torch
from torch import Tensor, distributions

from datamodules.spec import Batch, DataSpec
from lightning_modules import Bernoulli, Categorical
from lightning_modules.density.exponential_family import ExponentialFamily
from tests.density.test_gaussian import WholeBatches, fit

MEMBERS = [Bernoulli, Categorical]
SHAPE = (1, 2, 3)


def member(kind: type[ExponentialFamily], seed: int = 0, **settings: Any) -> ExponentialFamily:
    """A member with random natural parameters, in double precision."""
    module = kind(shape=SHAPE, **settings).double()  # type: ignore[call-arg]
    with torch.no_grad():
        module.eta.copy_(torch.randn(module.eta.shape, generator=torch.Generator().manual_seed(seed)))
    return module


def support(module: ExponentialFamily) -> Tensor:
    """Images whose values are all the same, one for each value that has a probability."""
    values = torch.tensor([0.0, 1.0]) if isinstance(module, Bernoulli) else torch.arange(256) / 127.5 - 1
    return values.double().view(-1, 1, 1, 1).expand(-1, *SHAPE)


def reference(module: ExponentialFamily) -> Any:
    """The same distribution as torch has it."""
    if isinstance(module, Bernoulli):
        return distributions.Bernoulli(logits=module.eta[:, 0])
    return distributions.Categorical(logits=module.eta)


def examples(kind: type[ExponentialFamily], num: int = 50) -> Tensor:
    """Images of bits, or of few grey values, at random."""
    uniform = torch.rand(num, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    levels = (uniform.square() * 20).floor()
    return (levels > 5).double() if kind is Bernoulli else (levels * 12) / 127.5 - 1


def statistics(kind: type[ExponentialFamily], x: Tensor) -> Tensor:
    """T of each example, written out: bits, or one-hot grey values."""
    flat = x.flatten(1)
    return flat[..., None] if kind is Bernoulli else torch.eye(256).double()[((flat + 1) * 127.5).round().long()]


@pytest.mark.parametrize("kind", MEMBERS)
def test_log_partition_is_that_of_the_sum_and_probabilities_sum_to_one(kind: type[ExponentialFamily]) -> None:
    """Eq. 1.14 to 1.16: the sum over a value's support is 1, because A is the logarithm of that of exp(<eta, T>)."""
    module = member(kind)
    weights = (statistics(kind, support(module)) * module.eta).sum(-1)
    torch.testing.assert_close(module.log_partition(module.eta), weights.logsumexp(0))
    others = support(module)[:1].clone()
    probabilities = []
    for value in support(module)[:, 0, 0, 0]:
        others[..., 0, 0] = value
        probabilities.append(module.log_prob(others).exp())
    rest = module.log_prob(others).exp() / reference(module).probs[0].reshape(-1)[-1]
    torch.testing.assert_close(torch.stack(probabilities).sum(0), rest)
    assert all(probability > 0 for probability in probabilities)


@pytest.mark.parametrize("kind", MEMBERS)
def test_likelihood_and_entropy_are_torchs(kind: type[ExponentialFamily]) -> None:
    module, x = member(kind), examples(kind)
    values = x.flatten(1) if kind is Bernoulli else ((x.flatten(1) + 1) * 127.5).round().long()
    torch.testing.assert_close(module.log_prob(x), reference(module).log_prob(values).sum(1))
    assert module.entropy() == pytest.approx(reference(module).entropy().sum().item(), abs=1e-10)
    image = module.inner_product(x[:1]), (statistics(kind, x[:1]) * module.eta).sum((1, 2))
    torch.testing.assert_close(*image)


@pytest.mark.parametrize("kind", MEMBERS)
def test_gradient_and_hessian_of_the_log_partition_are_mean_and_covariance(kind: type[ExponentialFamily]) -> None:
    module = member(kind)
    eta = module.eta.detach()[:1].requires_grad_()
    (gradient,) = torch.autograd.grad(module.log_partition(eta).sum(), eta)
    eta = eta.detach()
    torch.testing.assert_close(module.mean_parameters(eta), gradient)
    every = statistics(kind, support(module))[:, 0]
    shares = (every @ eta[0]).softmax(0)
    torch.testing.assert_close(gradient[0], shares @ every)
    hessian = torch.autograd.functional.hessian(module.log_partition, eta[0])
    centred = every - shares @ every
    torch.testing.assert_close(hessian, centred.T @ (shares[:, None] * centred))
    moved = module.natural_parameters(module.mean_parameters(eta))
    torch.testing.assert_close(module.mean_parameters(moved), gradient)


@pytest.mark.parametrize("kind", MEMBERS)
def test_divergence_is_the_sum_over_values_and_zero_only_for_equals(kind: type[ExponentialFamily]) -> None:
    """Eq. 1.1, 1.2 and 1.4: the Bregman divergence of A against the sum of p (log p - log q) over the support."""
    p, q = member(kind, 0), member(kind, 1)
    every = statistics(kind, support(p)).transpose(0, 1)  # (D, values, S)
    log_p, log_q = ((every @ module.eta[..., None]).squeeze(-1).log_softmax(1) for module in (p, q))
    expected = (log_p.exp() * log_p).sum() - (log_p.exp() * log_q).sum()
    assert p.kl_divergence(q) == pytest.approx(expected.item(), rel=1e-10)
    assert p.kl_divergence(p) == 0
    assert p.kl_divergence(q) != pytest.approx(q.kl_divergence(p), rel=1e-3)
    assert all(p.kl_divergence(member(kind, seed)) > 0.01 for seed in range(1, 20))
    if kind is Categorical:  # natural parameters are determined up to a constant
        with torch.no_grad():
            q.eta.copy_(p.eta + 3)
        assert p.kl_divergence(q) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("kind", MEMBERS)
def test_fit_has_the_moments_of_data_and_noise(kind: type[ExponentialFamily]) -> None:
    x = examples(kind)
    module = kind(shape=SHAPE, smoothing=0.02).double()  # type: ignore[call-arg]
    module.fit_closed_form(x.split(20))
    uniform = 1 / 2 if kind is Bernoulli else 1 / 256
    expected = (statistics(kind, x).mean(0) + 0.02 * uniform) / 1.02
    torch.testing.assert_close(module.mean_parameters(module.eta).detach(), expected)
    torch.testing.assert_close(module.sufficient_statistics(x), statistics(kind, x).sum(0))


class WholeImages(WholeBatches):
    """Every batch is all of the images."""

    def __init__(self, x: Tensor, value_range: tuple[float, float]) -> None:
        super().__init__(x, len(x))
        self.spec = DataSpec("images", "image", SHAPE, value_range)


@pytest.mark.parametrize("kind", MEMBERS)
def test_gradients_reach_the_closed_form(kind: type[ExponentialFamily]) -> None:
    """There the objective has no gradient; steps that fall reach it; a whole step is the fit of a batch."""
    x = examples(kind).float()
    fitted = kind(shape=SHAPE)  # type: ignore[call-arg]
    fitted.fit_closed_form([x])
    fitted.log_losses = lambda terms: None  # type: ignore[method-assign]
    fitted.training_step(Batch(x), 0).backward()
    torch.testing.assert_close(fitted.eta.grad, torch.zeros_like(fitted.eta), atol=1e-6, rtol=0)
    expected = fitted.mean_parameters(fitted.eta)
    data = WholeImages(x, fitted.value_range or (0, 1))
    for steps, settings in ((60, {"lr": 0.4, "decay_steps": 60}), (1, {"lr": 1.0})):
        module = kind(shape=SHAPE, **settings)  # type: ignore[call-arg]
        fit(module, data, steps)  # type: ignore[arg-type]
        torch.testing.assert_close(module.mean_parameters(module.eta), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", MEMBERS)
def test_samples_have_the_models_moments_and_are_independent(kind: type[ExponentialFamily]) -> None:
    """Frequencies within five standard errors: with 1 536 of them a false alarm once in a thousand seeds."""
    module, num = member(kind), 20_000
    x = module.sample(num, generator=torch.Generator().manual_seed(0))
    mean = module.mean_parameters(module.eta).detach()
    assert x.dtype == module.eta.dtype
    found = module.sufficient_statistics(x) / num
    # A count that is expected to be small has the tail of Poisson's, not of the normal distribution.
    assert ((found - mean).abs() <= 5 * (mean * (1 - mean) / num).sqrt() + 5 / num).all()
    correlations = x.flatten(1).T.corrcoef() - torch.eye(6)
    assert correlations.abs().max() < 5 / num**0.5


@pytest.mark.parametrize("kind", MEMBERS)
def test_a_whole_step_leaves_no_probability_below_that_of_the_noise(kind: type[ExponentialFamily]) -> None:
    """With the least smoothing the gradient's rounding, in float32, is larger than what is left of a value."""
    on, off = (torch.full((1, *SHAPE), value) for value in (1.0, 0.0 if kind is Bernoulli else -1.0))
    module = kind(shape=SHAPE, smoothing=1e-6)  # type: ignore[call-arg]
    module.log_losses = lambda terms: None  # type: ignore[method-assign]
    for share in range(1, 10):
        module.fit_closed_form([on.repeat(share, 1, 1, 1), off.repeat(10 - share, 1, 1, 1)])
        (gradient,) = torch.autograd.grad(module.training_step(Batch(off), 0), module.eta)
        moved = module.after_step(gradient, lr=1.0)
        module.fit_closed_form([off])
        expected = module.mean_parameters(module.eta.detach().double())
        torch.testing.assert_close(module.mean_parameters(moved), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", MEMBERS)
def test_divergence_of_neighbours_is_not_negative(kind: type[ExponentialFamily]) -> None:
    """Where it is below the rounding of the terms whose difference it is."""
    p = member(kind)
    for seed in range(20):
        q = member(kind)
        with torch.no_grad():
            q.eta.add_(1e-9 * torch.randn(q.eta.shape, generator=torch.Generator().manual_seed(seed)))
        assert 0 <= p.kl_divergence(q) < 1e-8


def test_what_is_not_possible_is_said() -> None:
    for kind in MEMBERS:
        for settings, message in (
            ({"smoothing": 0.0}, "smoothing=0"),
            ({"smoothing": float("nan")}, "smoothing=nan"),
            ({"lr": 1.5}, "lr=1.5"),
        ):
            with pytest.raises(ValueError, match=message):
                kind(shape=SHAPE, **settings)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="no examples"):
            member(kind).fit_closed_form([])
        with pytest.raises(ValueError, match=r"\[1, 2, 3\].*\[3\]"):
            member(kind).fit_closed_form([torch.zeros(4, 3)])
        with pytest.raises(ValueError, match="0.3"):
            member(kind).fit_closed_form([torch.full((4, *SHAPE), 0.3)])
    with pytest.raises(ValueError, match="Bernoulli.*Categorical"):
        member(Bernoulli).kl_divergence(member(Categorical))


def test_cross_entropy_is_entropy_and_divergence() -> None:
    """Eq. 1.12 and 1.13 within four standard errors: a sample's mean of -log q, and two finite sums."""
    p = member(Bernoulli, 3)
    x = p.sample(50_000, generator=torch.Generator().manual_seed(1))
    q = member(Bernoulli, 4)
    nll = -q.log_prob(x).detach()
    error = (nll.std() / len(nll) ** 0.5).item()
    assert nll.mean().item() == pytest.approx(p.entropy() + p.kl_divergence(q), abs=4 * error)
