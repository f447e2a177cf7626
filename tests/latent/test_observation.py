"""Observation models: samples follow the decoder, likelihoods are those of scipy, old names are read."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from scipy import stats

from lightning_modules import VAE
from lightning_modules.latent.observation import DiscretizedLogisticMixture, observation


@pytest.mark.parametrize("likelihood", ["bernoulli", "discretized_logistic_mixture"])
def test_samples_follow_the_decoder(likelihood: str) -> None:
    """The mean of 4 000 samples around one code is the decoded mean: each pixel within 5 standard errors."""
    torch.manual_seed(0)
    module = VAE(shape=[1, 4, 4], likelihood=likelihood, latent_dim=2, hidden=8, architecture="mlp")
    z = module.sample_latent(1, generator=torch.Generator().manual_seed(0)).expand(4000, -1)
    generator = torch.Generator().manual_seed(1)
    read = partial(module.observation.draw, generator=generator, temperature=1.0)
    samples = module.decode_in_chunks(module.decoder, z, None, read)
    error = samples.std(0) / math.sqrt(4000)
    assert ((samples.mean(0) - module.decode(z[:1])[0]).abs() < 5 * error + 5e-3).all()


def test_the_bernoulli_likelihood_of_codes_is_that_of_scipy() -> None:
    torch.manual_seed(0)
    module = VAE(shape=[1, 2, 3], latent_dim=2, hidden=4).double()
    x, z = (torch.rand(2, 1, 2, 3) < 0.5).double(), torch.randn(2, 3, 2).double()
    with torch.no_grad():
        ours = module.log_likelihood(x, None, z)
        means = module.decode(z.flatten(0, 1)).view(2, 3, 6)
    theirs = stats.bernoulli(means.numpy()).logpmf(x.view(2, 1, 6).numpy()).sum(2)
    torch.testing.assert_close(ours, torch.tensor(theirs), atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("particles", [1, 5])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "discretized_logistic_mixture"])
def test_nats_are_not_rounded_under_autocast(likelihood: str, particles: int) -> None:
    torch.manual_seed(0)
    observed = observation(likelihood, (1, 16, 16), "global", 2)
    parameters = 5 * torch.randn(3, particles, observed.num_parameters, 16, 16)
    x = observed.draw(parameters[:, 0], torch.Generator().manual_seed(0), 1.0)
    expected = observed.log_prob(parameters, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(observed.log_prob(parameters, x), expected)


@pytest.mark.parametrize(
    ("settings", "message"), [({"scale": "x"}, "scale='x'.*global"), ({"num_components": 0}, "num_components=0")]
)
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "discretized_logistic_mixture"])
def test_a_setting_that_cannot_be_is_named_for_every_likelihood(
    likelihood: str, settings: dict[str, Any], message: str
) -> None:
    given: dict[str, Any] = {"scale": "global", "num_components": 1, **settings}
    with pytest.raises(ValueError, match=message):
        observation(likelihood, (1, 4, 4), **given)


def test_the_mixture_of_discretised_logistics_is_known_by_its_former_name() -> None:
    built = observation("discretized_logistic", [1, 4, 4], "global", 3)
    assert isinstance(built, DiscretizedLogisticMixture)
    assert built.num_parameters == 9
