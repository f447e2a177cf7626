"""Likelihoods against sums over all outcomes, scipy, and second routes."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from lightning_modules.parts.likelihoods import (
    bernoulli_log_prob,
    bits_per_dim,
    discretized_logistic_log_prob,
    discretized_logistic_mixture_log_prob,
    gaussian_log_prob,
    not_binary,
    not_on_256_bins,
    num_logistic_parameters,
    sample_discretized_logistic_mixture,
    standard_normal_log_prob,
    to_256_bins,
)

BINS = torch.arange(256) / 127.5 - 1


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_discretised_logistic_sums_to_one_over_256_bins(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.rand(4000, 1, generator=generator, dtype=dtype) * 3 - 1.5
    log_scale = torch.rand(4000, 1, generator=generator, dtype=dtype) * 10 - 8
    total = discretized_logistic_log_prob(BINS.to(dtype), mean, log_scale).exp().sum(1)
    assert (total - 1).abs().max() < 2e-5


def test_a_discretised_logistic_is_the_difference_of_the_distribution_function() -> None:
    law = stats.logistic(loc=0.1, scale=0.2)
    edges = (BINS[:-1] + 1 / 255).double().numpy()
    masses = [law.cdf(edges[0]), *(law.cdf(edges[1:]) - law.cdf(edges[:-1])), law.sf(edges[-1])]
    ours = discretized_logistic_log_prob(BINS.double(), torch.tensor(0.1).double(), torch.tensor(0.2).double().log())
    torch.testing.assert_close(ours.exp(), torch.tensor(masses), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("value", [-1.0, 1.0, 0.0, float(BINS[1])])
@pytest.mark.parametrize("mean", [-30.0, -1.0, 0.3, 30.0])
def test_gradients_stay_finite_at_the_edges_and_far_away(value: float, mean: float) -> None:
    parameters = torch.tensor([mean, -7.0], requires_grad=True)
    log_prob = discretized_logistic_log_prob(torch.tensor(value), parameters[0], parameters[1])
    log_prob.backward()
    assert torch.isfinite(log_prob)
    assert torch.isfinite(parameters.grad).all()  # type: ignore[arg-type]


def test_a_grey_mixture_sums_to_one_and_equals_the_sum_of_its_components() -> None:
    parameters = normal(1, num_logistic_parameters(1, 4), 1, 1, dtype=torch.float64)
    logits, means, scales = parameters.flatten().split(4)
    mixed = torch.zeros(256, dtype=torch.float64)
    for k in range(4):
        mixed += logits.softmax(0)[k] * discretized_logistic_log_prob(BINS.double(), means[k], scales[k]).exp()
    ours = discretized_logistic_mixture_log_prob(
        parameters.expand(256, -1, 1, 1), BINS.double().view(256, 1, 1, 1)
    ).exp()
    torch.testing.assert_close(ours, mixed)
    assert abs(ours.sum().item() - 1) < 2e-5


def test_a_colour_mixture_sums_to_one_over_a_channel_given_the_others() -> None:
    """Summed over blue it is the law of red and green, whatever blue is coupled with; so too for green, then red."""
    parameters = normal(1, num_logistic_parameters(3, 3), 1, 1, dtype=torch.float64)
    levels = BINS.double()
    pixels = torch.stack(torch.meshgrid(levels[::51], levels[::51], levels, indexing="ij"), -1).view(-1, 3, 1, 1)
    of_three = discretized_logistic_mixture_log_prob(parameters.expand(len(pixels), -1, 1, 1), pixels).exp()
    of_two = of_three.view(6, 6, 256).sum(2)
    uncoupled = parameters.clone()
    uncoupled[:, -6:] = 0  # c1 and c2, which shift blue alone
    without = discretized_logistic_mixture_log_prob(uncoupled.expand(len(pixels), -1, 1, 1), pixels).exp()
    torch.testing.assert_close(of_two, without.view(6, 6, 256).sum(2), atol=1e-9, rtol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_draws_follow_the_mixture(channels: int) -> None:
    """Chi-squared of the last channel's 16 groups of bins, a false alarm in 10^6 runs; drawn with a fixed seed."""
    num = 40_000
    parameters = normal(1, num_logistic_parameters(channels, 3), 1, 1, seed=1)
    generator = torch.Generator().manual_seed(2)
    choice, uniform = torch.rand(num, 1, 1, generator=generator), torch.rand(num, channels, 1, 1, generator=generator)
    x = sample_discretized_logistic_mixture(parameters.expand(num, -1, 1, 1), choice, uniform)
    assert not_on_256_bins(x) is None
    first = x[:, 0].flatten()
    grey = torch.cat([parameters[:, :3], parameters[:, 3:6], parameters[:, 3 + 3 * channels : 6 + 3 * channels]], 1)
    masses = discretized_logistic_mixture_log_prob(grey.expand(256, -1, 1, 1), BINS.view(256, 1, 1, 1)).exp()
    expected = masses.view(16, 16).sum(1) * num
    observed = torch.bincount(((first + 1) * 127.5).round().long() // 16, minlength=16)
    keep = expected > 5
    chi = ((observed - expected)[keep] ** 2 / expected[keep]).sum().item()
    assert stats.chi2(int(keep.sum())).sf(chi) > 1e-6
    if channels == 1:
        return
    mean_shift = torch.corrcoef(torch.stack([first, x[:, 1].flatten()]))[0, 1]
    coupling = torch.tanh(parameters[0, 3 * 7 : 3 * 8]).mean()
    assert torch.sign(mean_shift) == torch.sign(coupling)


def test_a_low_temperature_draws_the_mode() -> None:
    parameters = torch.tensor([2.0, 0.0, 0.5, -0.5, -3.0, -3.0]).view(1, 6, 1, 1).expand(500, -1, 1, 1)
    generator = torch.Generator().manual_seed(0)
    choice, uniform = torch.rand(500, 1, 1, generator=generator), torch.rand(500, 1, 1, 1, generator=generator)
    cold = sample_discretized_logistic_mixture(parameters, choice, uniform, temperature=0.05)
    assert (cold - 0.5).abs().max() < 0.05


def test_bernoulli_and_gaussian_agree_with_scipy() -> None:
    logits, mean, log_scale = normal(3, 5, seed=1), normal(3, 5, seed=2), normal(3, 5, seed=3)
    x, bits = normal(3, 5, seed=4), (normal(3, 5, seed=5) > 0).float()
    bernoulli = stats.bernoulli(logits.sigmoid().double().numpy()).logpmf(bits.numpy()).sum(1)
    torch.testing.assert_close(bernoulli_log_prob(logits, bits).double(), torch.tensor(bernoulli), atol=1e-4, rtol=1e-4)
    gaussian = stats.norm(mean.numpy(), log_scale.exp().numpy()).logpdf(x.numpy()).sum(1)
    torch.testing.assert_close(
        gaussian_log_prob(x, mean, log_scale), torch.tensor(gaussian), atol=1e-4, rtol=1e-4, check_dtype=False
    )
    torch.testing.assert_close(
        standard_normal_log_prob(x), gaussian_log_prob(x, torch.zeros(()), torch.zeros(3, 5)), atol=1e-5, rtol=1e-5
    )


def test_bits_per_dim_of_the_uniform_law() -> None:
    assert bits_per_dim(784 * math.log(256), 784) == pytest.approx(8)
    assert bits_per_dim(784 * math.log(2), 784, 7) == pytest.approx(8)  # density 1/2 on [-1, 1]


def test_values_outside_the_support_are_named() -> None:
    assert not_binary(torch.tensor([0.0, 1.0])) is None
    assert "0.25" in str(not_binary(torch.tensor([0.0, 0.25])))
    assert not_on_256_bins(BINS) is None
    assert "0.001" in str(not_on_256_bins(torch.tensor([0.001])))
    assert "1.01569" in str(not_on_256_bins(torch.tensor([257 / 127.5 - 1])))
    assert torch.equal(to_256_bins(BINS * 1.0001), BINS)
    with pytest.raises(ValueError, match="channels=2"):
        num_logistic_parameters(2)
    with pytest.raises(ValueError, match="mixtures=0"):
        num_logistic_parameters(1, 0)
    with pytest.raises(ValueError, match="no multiple"):
        discretized_logistic_mixture_log_prob(torch.zeros(1, 7, 1, 1), torch.zeros(1, 1, 1, 1))
