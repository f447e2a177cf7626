"""The VAE against probabilistic PCA, whose likelihood is known, and its bounds against quadrature."""

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from lightning_modules import IWAE, VAE
from lightning_modules.latent.latent_variable import gaussian_kl

POINTS = {"shape": [5], "likelihood": "gaussian", "latent_dim": 2, "depth": 0}


def linear_gaussian() -> tuple[VAE, Tensor, Tensor]:
    """A VAE that is probabilistic PCA with its exact posterior, a batch, and the batch's log-likelihood.

    x = W z + b + sigma e has the law N(b, W W' + sigma^2 I) and the posterior N(M^-1 W'(x - b), sigma^2 M^-1) with
    M = W'W + sigma^2 I, which is diagonal where the columns of W are orthogonal.
    """
    torch.manual_seed(0)
    module = VAE(**POINTS).double()
    columns = torch.linalg.qr(torch.randn(5, 2, dtype=torch.float64))[0] * torch.tensor([1.5, 0.7]).double()
    bias, sigma = torch.randn(5, dtype=torch.float64), 0.6
    inverse = torch.linalg.inv(columns.T @ columns + sigma**2 * torch.eye(2).double())
    to_mean = inverse @ columns.T
    with torch.no_grad():
        module.decoder.output.weight.copy_(columns)  # type: ignore[union-attr]
        module.decoder.output.bias.copy_(bias)  # type: ignore[union-attr]
        module.observation.log_scale.fill_(math.log(sigma))
        module.encoder.output.weight.copy_(torch.cat([to_mean, torch.zeros(2, 5)]))  # type: ignore[union-attr]
        log_scale = 0.5 * (sigma**2 * inverse.diagonal()).log()
        module.encoder.output.bias.copy_(torch.cat([-to_mean @ bias, log_scale]))  # type: ignore[union-attr]
    covariance = columns @ columns.T + sigma**2 * torch.eye(5).double()
    law = torch.distributions.MultivariateNormal(bias, covariance)
    x = law.sample((200,))
    return module, x, law.log_prob(x)


def test_linear_gaussian_elbo_at_the_optimum_is_the_exact_likelihood() -> None:
    """Also of one draw only: with the exact posterior every weight p(x, z) / q(z|x) is p(x)."""
    module, x, exact = linear_gaussian()
    bound = module.log_prob_bound(x, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(bound, exact, atol=1e-4, rtol=0)
    elbo = module.elbo(x, 20_000, generator=torch.Generator().manual_seed(0))
    assert (elbo - exact).mean().abs() < 1e-2  # the reconstruction term is averaged over draws


def test_a_wrong_posterior_costs_its_divergence() -> None:
    """log p(x) - L_1 = KL(q || posterior), eq. 1.31; here of two Gaussians whose means differ."""
    module, x, exact = linear_gaussian()
    mean, log_scale = module.posterior(x)
    shift = torch.tensor([0.3, -0.2]).double()
    with torch.no_grad():
        module.encoder.output.bias[:2] += shift  # type: ignore[union-attr, operator]
    divergence = 0.5 * (shift / log_scale[0].exp()).square().sum()
    gap = (exact - module.elbo(x, 20_000, generator=torch.Generator().manual_seed(0))).mean()
    assert gap.item() == pytest.approx(divergence.item(), abs=2e-2)
    assert not torch.equal(mean, module.posterior(x)[0])


def test_the_divergence_in_closed_form_agrees_with_monte_carlo() -> None:
    """Within 5 standard errors of 200 000 draws."""
    generator = torch.Generator().manual_seed(0)
    mean, log_scale = torch.tensor([[0.5, -1.0, 2.0]]).double(), torch.tensor([[-0.3, 0.4, -2.0]]).double()
    noise = torch.randn(200_000, 3, generator=generator, dtype=torch.float64)
    z = mean + log_scale.exp() * noise
    draws = (-0.5 * noise.square() - log_scale + 0.5 * z.square()).sum(1)
    error = draws.std() / math.sqrt(len(draws))
    assert abs(gaussian_kl(mean, log_scale).item() - draws.mean()) < 5 * error


def test_training_gradient_is_that_of_the_bound() -> None:
    """The reparametrised loss against finite differences of the same draw, in float64."""
    torch.manual_seed(0)
    module = VAE(shape=[4], likelihood="gaussian", latent_dim=2, hidden=3, depth=1).double()
    x, noise = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 1, 2, dtype=torch.float64)

    class Fixed:
        def normal(self, *shape: int, device: torch.device) -> Tensor:
            return noise.view(shape)

    module.noise = Fixed()  # type: ignore[assignment]

    def loss() -> Tensor:
        return torch.stack(list(module.losses(x, None, 1.0).values())).sum()

    loss().backward()
    for parameter in module.parameters():
        assert parameter.grad is not None
        flat = parameter.data.view(-1)
        for i in (0, len(flat) - 1):
            kept, step = flat[i].item(), 1e-6
            flat[i] = kept + step
            above = loss().item()
            flat[i] = kept - step
            below = loss().item()
            flat[i] = kept
            assert parameter.grad.view(-1)[i].item() == pytest.approx((above - below) / (2 * step), abs=1e-6)


def one_dimensional() -> tuple[VAE, Tensor, float]:
    """A VAE with one latent dimension, a picture of bits, and log p(x) by quadrature."""
    torch.manual_seed(3)
    module = VAE(shape=[1, 2, 2], likelihood="bernoulli", latent_dim=1, hidden=4, depth=1).double()
    with torch.no_grad():
        module.decoder.output.weight.mul_(3)  # type: ignore[union-attr, operator]
        module.encoder.output.bias[1] = 0.5  # type: ignore[union-attr, operator]  # wider than the posterior
    x = torch.tensor([1.0, 0.0, 0.0, 1.0]).double().view(1, 1, 2, 2)
    z = torch.linspace(-9, 9, 4001).double()
    with torch.no_grad():
        joint = module.log_likelihood(x, None, z.view(1, -1, 1))[0] - 0.5 * z.square() - 0.5 * math.log(2 * math.pi)
    exact = torch.logsumexp(joint, 0) + math.log(18 / 4000)
    return module, x, exact.item()


def test_bounds_rise_with_the_number_of_draws_to_the_likelihood() -> None:
    """L_1 <= L_5 <= L_50 <= log p in the mean over many draws; the order is beyond 5 standard errors."""
    module, x, exact = one_dimensional()
    many = x.expand(10_000, -1, -1, -1)
    means, errors = [], []
    for k in (1, 5, 50):
        values = module.log_prob_bound(many, k, generator=torch.Generator().manual_seed(k))
        means.append(values.mean().item())
        errors.append((values.std() / math.sqrt(len(values))).item())
    assert means[0] + 5 * (errors[0] + errors[1]) < means[1]
    assert means[1] + 5 * (errors[1] + errors[2]) < means[2]
    assert means[2] < exact + 5 * errors[2]
    assert means[2] > exact - 0.1
    best = module.log_prob_bound(x, 200_000, generator=torch.Generator().manual_seed(0)).item()
    assert best == pytest.approx(exact, abs=0.02)


def test_bits_of_all_pictures_sum_to_one_over_the_latent_line() -> None:
    module, _, _ = one_dimensional()
    every = torch.cartesian_prod(*4 * [torch.tensor([0.0, 1.0]).double()]).view(16, 1, 2, 2)
    bounds = module.log_prob_bound(every, 20_000, generator=torch.Generator().manual_seed(0))
    assert bounds.exp().sum().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("likelihood", ["bernoulli", "discretized_logistic"])
def test_draws_follow_the_decoder(likelihood: str) -> None:
    """The mean of 4 000 draws around one code is the decoded mean: each pixel within 5 standard errors."""
    torch.manual_seed(0)
    module = VAE(shape=[1, 4, 4], likelihood=likelihood, latent_dim=2, hidden=8, architecture="mlp")
    if likelihood == "discretized_logistic":  # narrow laws inside the range: clipped draws have another mean
        with torch.no_grad():
            module.decoder.output.bias[-16:] = -4.0  # type: ignore[union-attr, index, operator]
    z = module.sample_latent(1, generator=torch.Generator().manual_seed(0)).expand(4000, -1)
    generator = torch.Generator().manual_seed(1)
    draws = module.decoded(z, None, lambda parameters: module.observation.draw(parameters, generator, 1.0))
    error = draws.std(0) / math.sqrt(4000)
    assert ((draws.mean(0) - module.decode(z[:1])[0]).abs() < 5 * error + 5e-3).all()


def test_traversals_move_one_coordinate() -> None:
    torch.manual_seed(0)
    module = VAE(shape=[1, 4, 4], latent_dim=3, hidden=8)
    z = torch.tensor([[0.1, 0.2, 0.3]])
    rows = module.traverse(z, 1, torch.tensor([-1.0, 0.2, 1.0]))
    assert rows.shape == (1, 3, 1, 4, 4)
    torch.testing.assert_close(rows[:, 1], module.decode(z))
    assert not torch.equal(rows[:, 0], rows[:, 2])
    with pytest.raises(ValueError, match="dimension=3"):
        module.traverse(z, 3, torch.zeros(1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: IWAE(num_particles=0), "num_particles=0"),
        (lambda: VAE(test_particles=0), "test_particles=0"),
        (lambda: VAE().log_prob_bound(torch.zeros(1, 1, 28, 28), 0), "num_samples=0"),
        (lambda: VAE().elbo(torch.full((1, 1, 28, 28), 0.3)), r"0\.3.*binarize"),
        (lambda: VAE(likelihood="discretized_logistic").elbo(torch.full((1, 1, 28, 28), 0.001)), r"256 grey values"),
        (lambda: VAE(likelihood="poisson"), "poisson"),
        (lambda: VAE(architecture="transformer"), "transformer"),
        (lambda: VAE(latent_dim=0), "latent_dim=0"),
        (lambda: VAE(lr=0.0), r"lr=0\.0"),
        (lambda: VAE(num_tested=0), "num_tested=0"),
        (lambda: VAE(kl_warmup_steps=-1), "kl_warmup_steps=-1"),
        (lambda: VAE().sample(2, temperature=0.0), r"temperature=0\.0"),
        (lambda: VAE(num_classes=3).reconstruct(torch.zeros(1, 1, 28, 28)), "labels"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_the_weight_of_the_divergence_rises_over_the_warm_up() -> None:
    module = VAE(kl_warmup_steps=10)
    assert [module.kl_weight(batch) for batch in (0, 4, 9, 100)] == pytest.approx([0.1, 0.5, 1.0, 1.0], abs=0.11)
    assert VAE().kl_weight(0) == 1


def test_scipy_agrees_on_the_bernoulli_likelihood_of_codes() -> None:
    torch.manual_seed(0)
    module = VAE(shape=[1, 2, 3], latent_dim=2, hidden=4).double()
    x, z = (torch.rand(2, 1, 2, 3) < 0.5).double(), torch.randn(2, 3, 2).double()
    with torch.no_grad():
        ours = module.log_likelihood(x, None, z)
        means = module.decode(z.flatten(0, 1)).view(2, 3, 6)
    theirs = stats.bernoulli(means.numpy()).logpmf(x.view(2, 1, 6).numpy()).sum(2)
    torch.testing.assert_close(ours, torch.tensor(theirs), atol=1e-8, rtol=1e-8)
