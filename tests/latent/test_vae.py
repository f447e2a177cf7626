"""The VAE against probabilistic PCA, whose likelihood is known; its gradient; the warm-up of its KL term."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules import VAE
from lightning_modules.latent.vae import NegativeELBO
from tests.standins import StopAfter
from tests.training import train

POINTS: dict[str, Any] = {"shape": [5], "likelihood": "gaussian", "latent_dim": 2, "depth": 0}


def linear_gaussian() -> tuple[VAE, Tensor, Tensor]:
    """A VAE that is probabilistic PCA with its exact posterior, a batch, and the batch's log-likelihood.

    x = W z + b + sigma e has the distribution N(b, W W' + sigma^2 I) and the posterior N(M^-1 W'(x - b), sigma^2 M^-1)
    with M = W'W + sigma^2 I, which is diagonal where the columns of W are orthogonal.
    """
    torch.manual_seed(0)
    module = VAE(**POINTS).double()
    encoder: Any = module.encoder
    decoder: Any = module.decoder
    observation: Any = module.observation
    columns = torch.linalg.qr(torch.randn(5, 2, dtype=torch.float64))[0] * torch.tensor([1.5, 0.7]).double()
    bias, sigma = torch.randn(5, dtype=torch.float64), 0.6
    inverse = torch.linalg.inv(columns.T @ columns + sigma**2 * torch.eye(2).double())
    to_mean = inverse @ columns.T
    with torch.no_grad():
        decoder.output.weight.copy_(columns)
        decoder.output.bias.copy_(bias)
        observation.log_scale.fill_(math.log(sigma))
        encoder.output.weight.copy_(torch.cat([to_mean, torch.zeros(2, 5)]))
        log_scale = 0.5 * (sigma**2 * inverse.diagonal()).log()
        encoder.output.bias.copy_(torch.cat([-to_mean @ bias, log_scale]))
    covariance = columns @ columns.T + sigma**2 * torch.eye(5).double()
    marginal = torch.distributions.MultivariateNormal(bias, covariance)
    x = marginal.sample((200,))
    return module, x, marginal.log_prob(x)


def test_linear_gaussian_elbo_at_the_optimum_is_the_exact_likelihood() -> None:
    """Also of one sample only: with the exact posterior every weight p(x, z) / q(z|x) is p(x)."""
    module, x, exact = linear_gaussian()
    bound = module.log_prob_bound(x, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(bound, exact, atol=1e-4, rtol=0)
    elbo = module.elbo(x, 20_000, generator=torch.Generator().manual_seed(0))
    assert (elbo - exact).mean().abs() < 1e-2  # the reconstruction term is averaged over samples


def test_a_wrong_posterior_costs_its_divergence() -> None:
    """log p(x) - L_1 = KL(q || posterior), eq. 1.31; here of two Gaussians whose means differ."""
    module, x, exact = linear_gaussian()
    mean, log_scale = module.posterior(x)
    shift = torch.tensor([0.3, -0.2]).double()
    encoder: Any = module.encoder
    with torch.no_grad():
        encoder.output.bias[:2] += shift
    divergence = 0.5 * (shift / log_scale[0].exp()).square().sum()
    gap = (exact - module.elbo(x, 20_000, generator=torch.Generator().manual_seed(0))).mean()
    assert gap.item() == pytest.approx(divergence.item(), abs=2e-2)
    assert not torch.equal(mean, module.posterior(x)[0])


def test_the_bound_is_a_reconstruction_minus_a_divergence() -> None:
    """Eq. 1.32: the mean of log p(x, z) / q(z|x), of eq. 1.31, against the two terms, within four standard errors."""
    module, x, _ = linear_gaussian()
    x = x[:1].expand(40_000, -1)
    with torch.no_grad():
        module.encoder.output.bias.add_(0.4)  # type: ignore[union-attr, operator]  # a posterior that is not the true one
        mean, log_scale = module.posterior(x[:1])
        noise = torch.randn(1, 40_000, 2, generator=torch.Generator().manual_seed(0)).double()
        ratios = module.log_weights(x[:1], None, (mean, log_scale), noise)[0]
        divergence = 0.5 * (mean.square() + (2 * log_scale).exp() - 1 - 2 * log_scale).sum()
        z = mean + log_scale.exp() * noise[0]
        terms = module.log_likelihood(x[:1], None, z[None])[0] - divergence
    apart = ratios - terms
    assert apart.mean().abs() < 4 * apart.std() / len(apart) ** 0.5
    assert apart.std() > 0.1  # two estimates of the same number, not the same estimate
    elbo = module.elbo(x[:1], 40_000, generator=torch.Generator().manual_seed(1))
    assert elbo.item() == pytest.approx(terms.mean().item(), abs=6 * (terms.std() / len(terms) ** 0.5).item())


def test_codes_are_normal_and_let_the_gradient_through() -> None:
    """Eq. 1.33 with z in the place of x: z = mu + sigma eps has these moments, and slopes 1 by mu and eps by sigma."""
    module, x, _ = linear_gaussian()
    mean, log_scale = (value.detach().requires_grad_() for value in module.posterior(x[:1]))
    noise = torch.randn(1, 50_000, 2, generator=torch.Generator().manual_seed(0)).double()
    z = module.infer((mean, log_scale), noise).decoder_input[0]
    scale = log_scale[0].exp()
    assert ((z.mean(0) - mean[0]).abs() < 5 * scale / 50_000**0.5).all()
    correlations = ((z - mean[0]) / scale).T @ ((z - mean[0]) / scale) / len(z)
    torch.testing.assert_close(correlations, torch.eye(2).double(), atol=0.04, rtol=0)
    weights = torch.randn(50_000, 2, generator=torch.Generator().manual_seed(1)).double()
    slopes = torch.autograd.grad((weights * z).sum(), (mean, log_scale))
    torch.testing.assert_close(slopes[0][0], weights.sum(0))
    torch.testing.assert_close(slopes[1][0], (weights * noise[0] * scale).sum(0))


def test_training_gradient_is_that_of_the_bound() -> None:
    """The reparametrised loss against finite differences with the same noise, in float64."""
    torch.manual_seed(0)
    module = VAE(shape=[4], likelihood="gaussian", latent_dim=2, hidden=3, depth=1).double()
    x, noise = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 1, 2, dtype=torch.float64)

    class Fixed:
        def normal(self, *shape: int, device: torch.device) -> Tensor:
            return noise.view(shape)

    module.noise = Fixed()  # type: ignore[assignment]

    def loss() -> Tensor:
        return torch.stack(list(module.objective_of(module, x, None).values())).sum()

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


def test_the_weight_of_the_divergence_rises_over_the_warm_up() -> None:
    weights = [NegativeELBO(kl_warmup_steps=10).kl_weight(batch) for batch in (0, 4, 9, 100)]
    assert weights == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert NegativeELBO().kl_weight(0) == 1


@pytest.mark.filterwarnings("ignore:The schedule of kl_warmup_steps=4 batches had not ended")
def test_training_weighs_the_divergence_by_the_warm_up() -> None:
    """The same batches under a learning rate of nearly nothing: the second of four has half its divergence."""
    kl = {}
    for warmup in (0, 4):
        overrides = {"latent_dim": 2, "hidden": 4, "lr": 1e-12, "kl_warmup_steps": warmup}
        trainer, _, _ = train("VAE", 4, overrides=overrides, callbacks=[StopAfter(2)])
        kl[warmup] = trainer.callback_metrics["train/kl"].item()
    assert kl[4] == pytest.approx(0.5 * kl[0], rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"likelihood": "poisson"}, "poisson"),
        ({"kl_warmup_steps": -1}, "kl_warmup_steps=-1"),
        ({"lr": 0.0}, r"lr=0\.0"),
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VAE(**settings)
