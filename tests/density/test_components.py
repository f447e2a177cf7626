"""Three forms of covariance: densities against scipy, gradients against autograd, natural steps against the Fisher."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from lightning_modules.density.components import Components, Moments
from lightning_modules.density.low_rank import LowRankComponents, build_components

FORMS = [("full", None), ("diagonal", None), ("low_rank", 2)]


def random_components(covariance: str, rank: int | None, num: int, dim: int, seed: int = 0) -> Components:
    components = build_components(covariance, rank, num, dim).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in components.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        if covariance == "full":
            components.lower.copy_(components.lower.tril(-1))  # type: ignore[operator]
    return components


def expected_log_prob(components: Components, x: Tensor) -> Tensor:
    means, covariances = components.mean.detach().numpy(), components.covariances().detach().numpy()
    values = [multivariate_normal(m, c).logpdf(x.numpy()) for m, c in zip(means, covariances, strict=True)]
    return torch.from_numpy(np.stack(values, 1))


@pytest.mark.parametrize(("covariance", "rank"), FORMS)
def test_log_prob_is_that_of_scipy(covariance: str, rank: int | None) -> None:
    components = random_components(covariance, rank, 3, 5)
    x = 3 * torch.randn(20, 5, dtype=torch.float64)
    torch.testing.assert_close(components.log_prob(x), expected_log_prob(components, x), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(("covariance", "rank"), FORMS)
def test_single_precision_holds_where_noise_is_small(covariance: str, rank: int | None) -> None:
    """As on images: noise of 1/400, offsets of 1."""
    components = random_components(covariance, rank, 2, 50)
    with torch.no_grad():
        components.log_scale.sub_(6)
        components.mean.zero_()
        if isinstance(components, LowRankComponents):
            components.loadings.mul_(100)
    x = components.draw(torch.tensor([0, 1]).repeat(50), torch.Generator().manual_seed(0)).detach()
    exact = components.log_prob(x)
    single = components.float().log_prob(x.float())
    assert (single - exact).abs().div(exact.abs().clamp_min(1)).max() < 1e-3


@pytest.mark.parametrize(("covariance", "rank"), FORMS)
def test_first_derivatives_are_exact(covariance: str, rank: int | None) -> None:
    components = random_components(covariance, rank, 2, 4)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in components.named_parameters()]

    def call(x: Tensor, *values: Tensor) -> Tensor:
        named = dict(zip(names, values, strict=True))
        return torch.func.functional_call(components, named, (x,))

    components.forward = components.log_prob
    assert torch.autograd.gradcheck(call, (x, *components.parameters()))


@pytest.mark.parametrize(("covariance", "rank"), FORMS)
def test_samples_have_the_mean_and_the_covariance(covariance: str, rank: int | None) -> None:
    """100 000 samples, 2 (2 + 3) numbers and more: a false alarm in 10 000 runs at five standard errors."""
    components = random_components(covariance, rank, 2, 3)
    num = 100_000
    chosen = torch.arange(2).repeat_interleave(num)
    samples = components.draw(chosen, torch.Generator().manual_seed(1)).detach().view(2, num, 3)
    covariances = components.covariances().detach()
    variances = covariances.diagonal(dim1=1, dim2=2)
    assert ((samples.mean(1) - components.mean).abs() < 5 * (variances / num).sqrt()).all()
    for k in range(2):
        error = (samples[k].T.cov() - covariances[k]).abs()
        spread = (variances[k][:, None] * variances[k] + covariances[k].square()).div(num).sqrt()
        assert (error < 5 * spread).all()


@pytest.mark.parametrize(("covariance", "rank"), FORMS)
def test_shrinkage_is_half_a_trace(covariance: str, rank: int | None) -> None:
    components = random_components(covariance, rank, 3, 4)
    covariances = components.covariances()
    if isinstance(components, LowRankComponents):
        covariances = torch.diag_embed((2 * components.log_scale).exp())
    expected = 0.5 * torch.linalg.inv(covariances).diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(components.shrinkage(), expected)


def gradients_of(components: Components, x: Tensor) -> None:
    components.zero_grad()
    (-components.log_prob(x).mean()).backward()


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_natural_gradient_is_the_inverse_fisher_times_the_gradient(covariance: str) -> None:
    """The Fisher information of 400 000 samples of the model; entries differ from its own by up to 2 %."""
    components = random_components(covariance, None, 1, 2)
    parameters = list(components.parameters())

    def flat(tensors: list[Tensor]) -> Tensor:
        parts = [t.reshape(-1) for t in tensors]
        return torch.cat([part[2:3] if len(part) == 4 else part for part in parts])  # of the factor, what is below

    x = components.draw(torch.zeros(400_000, dtype=torch.int64), torch.Generator().manual_seed(0)).detach()
    scores = torch.func.vmap(
        torch.func.grad(lambda values, point: torch.func.functional_call(components, values, (point[None],)).squeeze()),
        in_dims=(None, 0),
    )
    components.forward = components.log_prob
    per_example = scores(dict(components.named_parameters()), x)
    rows = torch.stack([flat([per_example[n][i] for n, _ in components.named_parameters()]) for i in range(4)])
    assert rows.shape[1] == len(flat([p.detach() for p in parameters]))
    stacked = torch.cat(
        [v.flatten(1)[:, 2:3] if v[0].numel() == 4 else v.flatten(1) for v in per_example.values()], dim=1
    )
    fisher = stacked.T @ stacked / len(x)
    data = torch.randn(50, 2, dtype=torch.float64)
    gradients_of(components, data)
    plain = flat([p.grad for p in parameters if p.grad is not None])
    components.natural_(torch.ones(1), limit=1e9)
    natural = flat([p.grad for p in parameters if p.grad is not None])
    torch.testing.assert_close(natural, torch.linalg.solve(fisher, plain), rtol=0.03, atol=0.03)


def test_triangular_steps_do_not_see_the_scale() -> None:
    """Equivariance (Cardoso and Laheld, 1996): data mixed by a triangular matrix train as fast, step by step.

    It is exact to first order in the learning rate; plain gradients would be 1e9 times too long in one direction.
    """
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(200, 4, dtype=torch.float64, generator=generator)
    mixing = torch.randn(4, 4, dtype=torch.float64, generator=generator).tril(-1) + torch.diag(
        torch.tensor([1e-3, 1.0, 30.0, 0.1], dtype=torch.float64)
    )
    plain, mixed = (build_components("full", None, 1, 4).double() for _ in range(2))
    with torch.no_grad():
        factor = torch.linalg.inv(mixing)
        mixed.lower.copy_(factor.tril(-1))  # type: ignore[operator]
        mixed.log_scale.copy_(-factor.diagonal().log())
    for _ in range(20):
        for components, data in ((plain, x), (mixed, x @ mixing.T)):
            gradients_of(components, data)
            components.natural_(torch.ones(1), limit=5.0)
            with torch.no_grad():
                for parameter in components.parameters():
                    parameter.sub_(0.1 * parameter.grad)  # type: ignore[operator]
    shift = mixing.diagonal().log().sum()
    torch.testing.assert_close(mixed.log_prob(x @ mixing.T) + shift, plain.log_prob(x), atol=5e-3, rtol=0)


@pytest.mark.parametrize(("covariance", "rank"), FORMS)
def test_one_limited_step_from_far_away_stays_finite_and_helps(covariance: str, rank: int | None) -> None:
    components = build_components(covariance, rank, 1, 6).double()
    x = 50 * torch.randn(30, 6, dtype=torch.float64) + 20
    before = components.log_prob(x).mean()
    for _ in range(50):
        gradients_of(components, x)
        components.natural_(torch.ones(1), limit=0.5 / 0.1)
        with torch.no_grad():
            for parameter in components.parameters():
                parameter.sub_(0.1 * parameter.grad)  # type: ignore[operator]
    after = components.log_prob(x).mean()
    assert torch.isfinite(after)
    assert after > before


@pytest.mark.parametrize(("covariance", "rank"), FORMS)
def test_moments_of_parts_add_up(covariance: str, rank: int | None) -> None:
    components = random_components(covariance, rank, 2, 3)
    x, weights = torch.randn(10, 3, dtype=torch.float64), torch.rand(10, 2, dtype=torch.float64)
    whole = components.moments(x, weights)
    parts = [components.moments(x[s], weights[s]) for s in (slice(0, 4), slice(4, 10))]
    for total, a, b in zip(whole, *parts, strict=True):
        torch.testing.assert_close(total, a + b)


@pytest.mark.parametrize(("covariance", "rank"), FORMS)
def test_a_component_without_data_stays_as_it_is(covariance: str, rank: int | None) -> None:
    components = random_components(covariance, rank, 2, 3)
    before = {name: value.detach().clone() for name, value in components.named_parameters()}
    weights = torch.tensor([[1.0, 0.0]], dtype=torch.float64).repeat(30, 1)
    moments = components.moments(torch.randn(30, 3, dtype=torch.float64), weights)
    components.fit_(moments, torch.full((2,), 1e-6, dtype=torch.float64), fresh=False)
    for name, value in components.named_parameters():
        assert torch.equal(value[1], before[name][1])
        assert not torch.equal(value[0], before[name][0])


def test_a_fit_that_would_be_singular_is_refused() -> None:
    line = torch.stack([torch.arange(5.0), torch.arange(5.0)], dim=1).double()
    components = build_components("full", None, 1, 2).double()
    moments = components.moments(line, torch.ones(5, 1).double())
    with pytest.raises(ValueError, match=r"\b0\b.*covariance_floor"):
        components.fit_(moments, torch.zeros(1).double(), fresh=True)
    flat = build_components("diagonal", None, 1, 2).double()
    no_spread = Moments(torch.ones(1).double(), torch.zeros(1, 2).double(), torch.zeros(1, 2).double())
    with pytest.raises(ValueError, match="covariance_floor"):
        flat.fit_(no_spread, torch.zeros(1).double(), fresh=True)
