"""The ladder VAE against the VAE, against its densities written level by level, and against quadrature."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from lightning_modules import VAE, LadderVAE
from tests.standins import StopAfter
from tests.training import train


class Fixed:
    """Gives the noise that it holds."""

    def __init__(self, noise: Tensor) -> None:
        self.noise = noise

    def normal(self, *shape: int, device: torch.device) -> Tensor:
        return self.noise.view(shape)


def bits(num: int, *shape: int) -> Tensor:
    return (torch.rand(num, *shape, generator=torch.Generator().manual_seed(0)) < 0.5).double()


def gaussian(parameters: Tensor) -> Independent:
    mean, log_scale = parameters.chunk(2, -1)
    return Independent(Normal(mean, log_scale.exp()), 1)


def given_above(parameters: Tensor) -> Independent:
    """The variance is log(1 + (e - 1) e^a), which is 1 for a = 0."""
    mean, a = parameters.chunk(2, -1)
    return Independent(Normal(mean, torch.log1p((math.e - 1) * a.exp()).sqrt()), 1)


# One level


@pytest.mark.parametrize("architecture", ["mlp", "gated_mlp", "conv"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "discretized_logistic_mixture"])
def test_one_level_is_the_vae(architecture: str, likelihood: str) -> None:
    """With the same weights and noise: training terms, bounds, codes, reconstructions and samples."""
    settings: dict[str, Any] = {"shape": [1, 8, 8], "likelihood": likelihood, "architecture": architecture}
    settings |= {"hidden": 6, "width": 2}
    vae, ladder = VAE(latent_dim=3, **settings).double(), LadderVAE(latent_dims=[3], **settings).double()
    ladder.load_state_dict({name.replace("encoder.", "encoder.lowest."): w for name, w in vae.state_dict().items()})
    x = bits(4, 1, 8, 8)
    x = x if likelihood == "bernoulli" else 2 * x - 1
    vae.noise = ladder.noise = Fixed(torch.randn(4, 1, 3).double())  # type: ignore[assignment]
    terms, of_vae = ladder.objective_of(ladder, x, None), vae.objective_of(vae, x, None)
    torch.testing.assert_close(terms, {"reconstruction": of_vae["reconstruction"], "kl_1": of_vae["kl"]})

    def outputs(module: Any) -> list[Tensor]:
        generator = torch.Generator().manual_seed(1)
        bounds = [module.elbo(x, 2, generator=generator), module.log_prob_bound(x, 7, generator=generator)]
        return [*bounds, module.encode(x), module.reconstruct(x), module.sample(2, generator=generator)]

    for ours, theirs in zip(outputs(ladder), outputs(vae), strict=True):
        torch.testing.assert_close(ours, theirs)


# Several levels


def three_levels() -> LadderVAE:
    torch.manual_seed(0)
    return LadderVAE(shape=[1, 3, 3], latent_dims=[4, 3, 2], hidden=5, depth=1).double()


def by_levels(module: LadderVAE, x: Tensor, noise: Tensor) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Samples z_1, z_2, z_3 as the paper writes it; returns these, log p(z) / q(z|x), and KL divergences by level."""
    prior: Any = module.prior
    mean, log_scale = module.posterior(x)
    up = [torch.cat(pair, 1) for pair in zip(mean.split([4, 3, 2], 1), log_scale.split([4, 3, 2], 1), strict=True)]
    standard = gaussian(torch.zeros(len(x), 4).double())
    q, eps = gaussian(up[2]), noise.split([4, 3, 2], 1)
    z = [q.mean + q.base_dist.stddev * eps[2]]
    ratio, kl = standard.log_prob(z[0]) - q.log_prob(z[0]), [torch.distributions.kl_divergence(q, standard)]
    for level in (1, 0):
        p, hat = given_above(prior.networks[level](z[0])), gaussian(up[level])
        variance = 1 / (1 / hat.variance + 1 / p.variance)
        q = Independent(Normal(variance * (hat.mean / hat.variance + p.mean / p.variance), variance.sqrt()), 1)
        z = [q.mean + q.base_dist.stddev * eps[level], *z]
        ratio = ratio + p.log_prob(z[0]) - q.log_prob(z[0])
        kl = [torch.distributions.kl_divergence(q, p), *kl]
    return z, ratio, kl


def test_densities_are_those_of_the_paper_level_by_level() -> None:
    module, x, noise = three_levels(), bits(6, 1, 3, 3), torch.randn(6, 9).double()
    z, ratio, kl = by_levels(module, x, noise)
    drawn = module.infer(module.posterior(x), noise.unsqueeze(1))
    close: Any = {"rtol": 1e-5, "atol": 1e-5}  # no variance is below 1e-6
    torch.testing.assert_close(drawn.decoder_input[:, 0], z[0], **close)
    torch.testing.assert_close(drawn.log_ratio()[:, 0], ratio, **close)
    torch.testing.assert_close(drawn.kl()[:, 0], torch.stack(kl).sum(0), **close)
    module.noise = Fixed(noise)  # type: ignore[assignment]
    terms = module.objective_of(module, x, None)
    for number, value in enumerate(kl, 1):
        torch.testing.assert_close(terms[f"kl_{number}"], value.mean(), **close)
    logits = module.decoder(z[0], None).flatten(1)
    likelihood = torch.distributions.Bernoulli(logits=logits).log_prob(x.flatten(1)).sum(1)
    torch.testing.assert_close(terms["reconstruction"], -likelihood.mean(), **close)


def test_a_code_is_the_standardised_noise_of_every_level() -> None:
    """A code is decoded to the z_1 of the samples that it belongs to, and codes of the model are N(0, I) by level."""
    module, x = three_levels(), bits(6, 1, 3, 3)
    drawn = module.infer(module.posterior(x), torch.randn(6, 5, 9).double())
    torch.testing.assert_close(module.prior.decoder_input(drawn.code), drawn.decoder_input)
    torch.testing.assert_close(
        module.log_likelihood(x, None, drawn.code), module.observed(x, None, drawn.decoder_input)
    )
    at_means = module.infer(module.posterior(x), torch.zeros(6, 1, 9).double())
    torch.testing.assert_close(module.encode(x), at_means.code[:, 0].detach())


def test_samples_are_drawn_level_by_level() -> None:
    """The z_1 of the model's codes and of Gaussians drawn downwards have the same moments, within 5 standard errors."""
    module, generator = three_levels(), torch.Generator().manual_seed(0)
    networks: Any = module.prior.networks
    with torch.no_grad():
        codes = module.sample_latent(20_000, generator=generator).double()
        assert ((codes.std(0) - 1).abs() < 5 / 40_000**0.5).all()
        ours, z = module.prior.decoder_input(codes), torch.randn(20_000, 2, generator=generator).double()
        for network in reversed(networks):
            given = given_above(network(z))
            z = given.mean + given.base_dist.stddev * torch.randn(given.mean.shape, generator=generator).double()
    for a, b in ((ours, z), (ours.square(), z.square())):
        error = ((a.var(0) + b.var(0)) / 20_000).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() < 5 * error).all()


def test_gradients_reach_the_networks_of_every_level() -> None:
    module, x = three_levels(), bits(6, 1, 3, 3)
    module.noise = Fixed(torch.randn(6, 1, 9).double())  # type: ignore[assignment]
    torch.stack(list(module.objective_of(module, x, None).values())).sum().backward()
    silent = [name for name, p in module.named_parameters() if p.grad is None or not (p.grad != 0).any()]
    assert silent == []
    names = {name for name, _ in module.named_parameters()}
    assert {"encoder.lowest.output.weight", "encoder.outputs.1.weight", "prior.networks.1.1.weight"} <= names


def test_bounds_of_two_levels_rise_to_the_likelihood() -> None:
    """L_1 <= L_50 <= log p, which is a double integral over z_1 and z_2; the order is beyond 5 standard errors."""
    torch.manual_seed(2)
    module = LadderVAE(shape=[1, 2, 2], latent_dims=[1, 1], hidden=4, depth=1).double()
    decoder, prior, encoder = module.decoder, module.prior, module.encoder
    assert isinstance(prior.networks, torch.nn.ModuleList)
    with torch.no_grad():
        decoder.output.weight.mul_(3)  # type: ignore[union-attr, operator]
        prior.networks[0][1].weight.mul_(3)  # type: ignore[index, union-attr, operator]
        encoder.outputs[0].bias[1] = 0.5  # type: ignore[index, union-attr]  # wider than the posterior
    x = torch.tensor([1.0, 0.0, 0.0, 1.0]).double().view(1, 1, 2, 2)
    z2, z1 = torch.linspace(-8, 8, 801).double(), torch.linspace(-12, 12, 1201).double()
    with torch.no_grad():
        given = given_above(prior.networks[0](z2.view(-1, 1, 1)))
        joint = given.log_prob(z1.view(1, -1, 1)) + Normal(0.0, 1.0).log_prob(z2).view(-1, 1)
        assert (joint.exp().sum() * 0.02 * 0.02).item() == pytest.approx(1, abs=1e-6)
        joint = joint + module.observed(x, None, z1.view(1, -1, 1))
    exact = (torch.logsumexp(joint.flatten(), 0) + 2 * math.log(0.02)).item()
    many, means, errors = x.expand(10_000, -1, -1, -1), [], []
    for k in (1, 50):
        values = module.log_prob_bound(many, k, generator=torch.Generator().manual_seed(k))
        means.append(values.mean().item())
        errors.append((values.std() / 100).item())
    elbo = module.elbo(many, generator=torch.Generator().manual_seed(3))
    assert elbo.mean().item() == pytest.approx(means[0], abs=5 * (errors[0] + elbo.std().item() / 100))
    assert means[0] + 5 * (errors[0] + errors[1]) < means[1]
    assert exact - 0.1 < means[1] < exact + 5 * errors[1]
    best = module.log_prob_bound(x, 200_000, generator=torch.Generator().manual_seed(0)).item()
    assert best == pytest.approx(exact, abs=0.02)


def test_higher_codes_change_what_is_decoded() -> None:
    module = three_levels()
    z = module.sample_latent(2, generator=torch.Generator().manual_seed(0))
    rows = module.traverse(z, 8, torch.tensor([-2.0, 2.0]))
    assert rows.shape == (2, 2, 1, 3, 3)
    assert (rows[:, 0] - rows[:, 1]).abs().max() > 1e-3


@pytest.mark.filterwarnings("ignore:The schedule of kl_warmup_steps=4 batches had not ended")
def test_all_levels_are_warmed_up() -> None:
    """The same batches under a learning rate of nearly nothing: the second of four has half of each divergence."""
    found = {}
    for warmup in (0, 4):
        overrides = {"latent_dims": [3, 2], "hidden": 4, "lr": 1e-12, "kl_warmup_steps": warmup}
        trainer, _, _ = train("LadderVAE", 4, overrides=overrides, callbacks=[StopAfter(2)])
        found[warmup] = [trainer.callback_metrics[f"train/kl_{level}"].item() for level in (1, 2)]
    assert found[4] == pytest.approx([0.5 * value for value in found[0]], rel=1e-5)


@pytest.mark.parametrize(
    ("latent_dims", "message"),
    [
        ([], r"latent_dims=\[\] has 0 levels.*1 to 3"),
        ([4, 3, 2, 1], r"latent_dims=\[4, 3, 2, 1\] has 4 levels"),
        ([4, 0], "each of latent_dims=0"),
    ],
)
def test_levels_that_cannot_be_are_named(latent_dims: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LadderVAE(latent_dims=latent_dims)
