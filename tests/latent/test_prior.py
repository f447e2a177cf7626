"""The mixture prior against a hand computation, quadrature and its own samples; bounds under it."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from lightning_modules import IWAE, VAE
from lightning_modules.latent.prior import MixturePrior, StandardNormal


def small_mixture() -> MixturePrior:
    """0.25 N((1, 0), diag(1, 0.25)) + 0.75 N((-1, 2), diag(4, 1))."""
    prior = MixturePrior(2, 2).double()
    with torch.no_grad():
        prior.logits.copy_(torch.tensor([0.25, 0.75]).log() + 3)
        prior.means.copy_(torch.tensor([[1.0, 0.0], [-1.0, 2.0]]))
        prior.log_scales.copy_(torch.tensor([[1.0, 0.5], [2.0, 1.0]]).log())
    return prior


def vae_of_one_code(latent_prior: str = "mixture") -> VAE:
    torch.manual_seed(3)
    components = {"prior_components": 3} if latent_prior == "mixture" else {}
    return VAE(shape=[1, 2, 2], latent_dim=1, hidden=4, depth=1, latent_prior=latent_prior, **components).double()


def test_the_density_is_that_computed_by_hand() -> None:
    z = torch.tensor([1.0, 1.0]).double()
    # (0, 2) standard deviations from the first mean and (1, 1) from the second
    first = 0.25 * math.exp(-0.5 * (0 + 4)) / (2 * math.pi * 1 * 0.5)
    second = 0.75 * math.exp(-0.5 * (1 + 1)) / (2 * math.pi * 2 * 1)
    standard = math.exp(-0.5 * (1 + 1)) / (2 * math.pi)
    assert small_mixture().excess(z).item() == pytest.approx(math.log((first + second) / standard), abs=1e-7)


def test_samples_have_the_moments_of_the_mixture() -> None:
    """Means and variances of 100 000 samples, within 5 standard errors; a temperature scales each component."""
    prior = small_mixture()
    weights, means = torch.tensor([[0.25], [0.75]]), torch.tensor([[1.0, 0.0], [-1.0, 2.0]])
    for temperature in (1.0, 0.5):
        variances = temperature**2 * torch.tensor([[1.0, 0.25], [4.0, 1.0]])
        mean = (weights * means).sum(0)
        variance = (weights * (variances + means.square())).sum(0) - mean.square()
        z = prior.draw(100_000, torch.Generator().manual_seed(0), torch.device("cpu"), temperature).float()
        assert ((z.mean(0) - mean).abs() < 5 * (variance / 100_000).sqrt()).all()
        squares = (z - mean).square()
        assert ((squares.mean(0) - variance).abs() < 5 * squares.std(0) / 100_000**0.5).all()


def test_a_mixture_of_standard_normals_is_the_standard_normal() -> None:
    mixture, standard = MixturePrior(3, 4), StandardNormal(3)
    with torch.no_grad():
        mixture.means.zero_()
    mean, log_scale, noise = torch.randn(2, 1, 3), torch.randn(2, 1, 3), torch.randn(2, 5, 3)
    ours, theirs = mixture.infer(mean, log_scale, noise), standard.infer(mean, log_scale, noise)
    torch.testing.assert_close(ours.log_ratio(), theirs.log_ratio())
    torch.testing.assert_close(ours.kl(), theirs.kl().expand(2, 5))


def by_quadrature(module: VAE, x: Tensor) -> tuple[float, float]:
    """Returns log p(x) and the ELBO, by integration over the one coordinate of z."""
    z = torch.linspace(-12, 12, 6001).double()
    prior = module.prior
    assert isinstance(prior, MixturePrior)
    step = math.log(24 / 6000)
    with torch.no_grad():
        components = Normal(prior.means[:, 0], prior.log_scales[:, 0].exp())
        log_prior = torch.logsumexp(components.log_prob(z.view(-1, 1)) + prior.logits.log_softmax(0), 1)
        log_likelihood = module.log_likelihood(x, None, z.view(1, -1, 1))[0]
        mean, log_scale = module.posterior(x)
        q = Normal(mean[0], log_scale[0].exp())
        integrand = q.log_prob(z).exp() * (log_likelihood + log_prior - q.log_prob(z))
    return (torch.logsumexp(log_prior + log_likelihood, 0) + step).item(), (integrand.sum() * math.exp(step)).item()


def test_bounds_under_a_mixture_rise_to_the_likelihood() -> None:
    module = vae_of_one_code()
    with torch.no_grad():
        module.prior.means.copy_(torch.tensor([[-2.0], [0.0], [3.0]]))  # type: ignore[union-attr, operator]
        module.prior.log_scales.fill_(-0.5)  # type: ignore[union-attr, operator]
        module.decoder.output.weight.mul_(3)  # type: ignore[union-attr, operator]
        module.encoder.output.bias[1] = 1.0  # type: ignore[union-attr, operator]  # covers the mixture
    x = torch.tensor([1.0, 0.0, 0.0, 1.0]).double().view(1, 1, 2, 2)
    exact, elbo = by_quadrature(module, x)
    many = x.expand(10_000, -1, -1, -1)
    one = module.elbo(many, generator=torch.Generator().manual_seed(0))
    assert one.mean().item() == pytest.approx(elbo, abs=5 * one.std().item() / 100)
    fifty = module.log_prob_bound(many, 50, generator=torch.Generator().manual_seed(1))
    assert elbo + 0.05 < fifty.mean().item() < exact + 5 * fifty.std().item() / 100
    best = module.log_prob_bound(x, 200_000, generator=torch.Generator().manual_seed(0)).item()
    assert best == pytest.approx(exact, abs=0.02)


def test_training_learns_the_mixture_and_averages_it() -> None:
    for module in (vae_of_one_code(), IWAE(latent_dim=2, hidden=4, latent_prior="mixture", prior_components=3)):
        x = torch.zeros(5, *module.shape, dtype=next(module.parameters()).dtype)
        torch.stack(list(module.objective_of(module, x, None).values())).sum().backward()
        assert all((p.grad != 0).any() for p in module.prior.parameters() if p.grad is not None)
        assert all(p.grad is not None for p in module.prior.parameters())
        assert module.averaged_networks()["prior"] is module.prior


def test_the_standard_prior_has_no_weights() -> None:
    assert list(vae_of_one_code("standard").prior.parameters()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_prior": "vamp"}, "latent_prior='vamp'.*standard, mixture"),
        ({"latent_prior": "mixture", "prior_components": 0}, "prior_components=0"),
        ({"latent_prior": "standard", "prior_components": 0}, "prior_components=0"),
        ({"prior_components": 50}, "prior_components=50.*latent_prior"),
    ],
)
def test_priors_that_cannot_be_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VAE(**settings)  # type: ignore[arg-type]
