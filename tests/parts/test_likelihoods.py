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
    discretized_logistic_mixture_mean,
    gaussian_kl,
    gaussian_log_prob,
    log_mean_exp,
    not_binary,
    not_grey,
    not_on_256_bins,
    num_logistic_parameters,
    sample_discretized_logistic_mixture,
    standard_normal_log_prob,
    to_256_bins,
)

BINS = torch.arange(256) / 127.5 - 1


def masses(mean: float, scale: float) -> Tensor:
    """The 256 masses of a logistic distribution by scipy; the first and the last bin include the tails."""
    distribution = stats.logistic(loc=mean, scale=scale)
    edges = (BINS.double()[:-1] + 1 / 255).numpy()
    below = distribution.cdf(edges)
    return torch.tensor([below[0], *(below[1:] - below[:-1]), distribution.sf(edges[-1])])


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
    ours = discretized_logistic_log_prob(BINS.double(), torch.tensor(0.1).double(), torch.tensor(0.2).double().log())
    torch.testing.assert_close(ours.exp(), masses(0.1, 0.2), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("log_scale", "sharpest"), [(-3.0, 0.04), (-4.0, 0.107), (-5.0, 0.284), (-6.0, 0.67), (-7.0, 0.973)]
)
def test_scales_down_to_exp_of_minus_seven_are_used_as_they_are(log_scale: float, sharpest: float) -> None:
    """At exp(-7) a bin is 8.6 scales wide: nearly all mass is in the one that the mean is in."""
    mean, scale = torch.tensor(21 / 127.5 - 1, dtype=torch.float64), torch.tensor(log_scale, dtype=torch.float64)
    ours = discretized_logistic_log_prob(BINS.double(), mean, scale).exp()
    torch.testing.assert_close(ours, masses(mean.item(), math.exp(log_scale)), atol=1e-5, rtol=1e-6)
    assert ours[21].item() == pytest.approx(sharpest, rel=0.02)
    mixture = torch.stack([torch.zeros((), dtype=torch.float64), mean, scale]).view(1, 3, 1, 1)
    mixed = discretized_logistic_mixture_log_prob(mixture.expand(256, -1, 1, 1), BINS.double().view(256, 1, 1, 1))
    torch.testing.assert_close(mixed.exp(), ours)


def test_smaller_scales_are_taken_as_exp_of_minus_seven() -> None:
    """The mass gets no sharper, and the gradient of the scale is 0 below and not above."""
    for log_scale in (-100.0, -7.5):
        parameter = torch.tensor(log_scale, requires_grad=True)
        values = discretized_logistic_log_prob(BINS, torch.tensor(0.1), parameter)
        assert torch.equal(values, discretized_logistic_log_prob(BINS, torch.tensor(0.1), torch.tensor(-7.0)))
        values.sum().backward()
        assert parameter.grad == 0
    above = torch.tensor(-6.5, requires_grad=True)
    discretized_logistic_log_prob(BINS, torch.tensor(0.1), above).sum().backward()
    assert above.grad is not None
    assert above.grad.abs() > 1


@pytest.mark.parametrize(("log_scale", "used"), [(-5.0, -5.0), (-7.0, -7.0), (-9.0, -7.0)])
def test_samples_are_quantiles_at_the_scale_that_the_likelihood_uses(log_scale: float, used: float) -> None:
    uniform = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    quantiles = torch.tensor(stats.logistic(loc=0.1, scale=math.exp(used)).ppf(uniform.numpy()))
    parameters = torch.tensor([0.0, 0.1, log_scale], dtype=torch.float64).view(1, 3, 1, 1).expand(999, -1, 1, 1)
    x = sample_discretized_logistic_mixture(parameters, torch.zeros(999, 1, 1), uniform.view(-1, 1, 1, 1)).flatten()
    torch.testing.assert_close(x, to_256_bins(quantiles))
    assert len(x.unique()) == {-5.0: 13, -7.0: 3}[used]


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
    """Summed over blue it is the distribution of red and green, whatever blue is coupled with."""
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
def test_samples_follow_the_mixture(channels: int) -> None:
    """Chi-squared of the last channel's 16 groups of bins, a false alarm in 10^6 runs; sampled with a fixed seed."""
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


def test_the_mean_of_a_grey_mixture_is_the_sum_over_its_256_masses() -> None:
    """Also where much of the mass is in the first or the last bin; half a grey level is lost by rounding."""
    means, scales = torch.cartesian_prod(torch.linspace(-2, 2, 17), torch.tensor([-7.0, -3.0, -1.0, 1.0])).T
    parameters = torch.stack([torch.ones(68), -torch.ones(68), means, means.flip(0), scales, scales.flip(0)], 1)
    ours = discretized_logistic_mixture_mean(parameters.view(68, 6, 1, 1), 1).flatten()
    grid = BINS.repeat_interleave(68).view(-1, 1, 1, 1)
    masses = discretized_logistic_mixture_log_prob(parameters.repeat(256, 1).view(-1, 6, 1, 1), grid).exp()
    by_sum = (masses.view(256, 68) * BINS.unsqueeze(1)).sum(0)
    assert (ours - by_sum).abs().max() <= 0.5 / 127.5
    wide = (scales > -7) & (scales.flip(0) > -7)
    assert (ours - by_sum)[wide].abs().max() <= 2e-4


@pytest.mark.parametrize(("channels", "num_components"), [(1, 1), (1, 4), (3, 1), (3, 4)])
def test_the_mean_of_a_mixture_is_that_of_its_samples(channels: int, num_components: int) -> None:
    """Wide components near both ends: half a grey level, and five standard errors of 20 000 samples."""
    num, pixels = 20_000, 6
    parameters = normal(1, num_logistic_parameters(channels, num_components), pixels, 1, seed=3)
    first = num_components * (1 + channels)
    parameters[:, first : first + channels * num_components] -= 1.5
    generator = torch.Generator().manual_seed(4)
    choice, uniform = (torch.rand(num, *size, pixels, 1, generator=generator) for size in ((), (channels,)))
    x = sample_discretized_logistic_mixture(parameters.expand(num, -1, -1, -1), choice, uniform)
    error = (discretized_logistic_mixture_mean(parameters, channels)[0] - x.mean(0)).abs()
    assert (error <= 5 * x.std(0) / num**0.5 + 0.5 / 127.5).all()


def test_a_low_temperature_samples_the_mode() -> None:
    parameters = torch.tensor([2.0, 0.0, 0.5, -0.5, -3.0, -3.0]).view(1, 6, 1, 1).expand(500, -1, 1, 1)
    generator = torch.Generator().manual_seed(0)
    choice, uniform = torch.rand(500, 1, 1, generator=generator), torch.rand(500, 1, 1, 1, generator=generator)
    cold = sample_discretized_logistic_mixture(parameters, choice, uniform, temperature=0.05)
    assert (cold - 0.5).abs().max() < 0.05


def test_bernoulli_and_gaussian_agree_with_scipy() -> None:
    """Eq. 1.16."""
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


def test_bits_per_dim_of_the_uniform_distribution() -> None:
    assert bits_per_dim(784 * math.log(256), 784) == pytest.approx(8)
    assert bits_per_dim(784 * math.log(2), 784, 7) == pytest.approx(8)  # density 1/2 on [-1, 1]


def test_values_outside_the_support_are_named() -> None:
    assert not_binary(torch.tensor([0.0, 1.0])) is None
    assert "0.25" in str(not_binary(torch.tensor([0.0, 0.25])))
    assert not_on_256_bins(BINS) is None
    assert "0.001" in str(not_on_256_bins(torch.tensor([0.001])))
    assert "1.01569" in str(not_on_256_bins(torch.tensor([257 / 127.5 - 1])))
    assert torch.equal(to_256_bins(BINS * 1.0001), BINS)
    assert not_grey((BINS + 1) / 2) is None
    for wrong in (0.5, -1 / 255, 256 / 255, -1.0):
        said = str(not_grey(torch.tensor([0.0, wrong])))
        assert f"{wrong:.6g}" in said
        assert "v / 255" in said
    with pytest.raises(ValueError, match="channels=2"):
        num_logistic_parameters(2)
    with pytest.raises(ValueError, match="num_components=0"):
        num_logistic_parameters(1, 0)
    with pytest.raises(ValueError, match=r"^7 .* 3 "):
        discretized_logistic_mixture_log_prob(torch.zeros(1, 7, 1, 1), torch.zeros(1, 1, 1, 1))


def test_the_divergence_in_closed_form_agrees_with_monte_carlo() -> None:
    """Within 5 standard errors of 200 000 samples."""
    mean, log_scale = torch.tensor([[0.5, -1.0, 2.0]]).double(), torch.tensor([[-0.3, 0.4, -2.0]]).double()
    noise = normal(200_000, 3, dtype=torch.float64)
    z = mean + log_scale.exp() * noise
    samples = (-0.5 * noise.square() - log_scale + 0.5 * z.square()).sum(1)
    error = samples.std() / math.sqrt(len(samples))
    assert abs(gaussian_kl(mean, log_scale).item() - samples.mean()) < 5 * error


def test_the_mean_of_weights_is_taken_in_the_logarithm() -> None:
    far = torch.tensor([[-2000.0, -2001.0], [1000.0, 1000.0]])
    expected = torch.tensor([-2000 + torch.log((1 + torch.exp(torch.tensor(-1.0))) / 2), 1000.0])
    torch.testing.assert_close(log_mean_exp(far), expected)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_none_of_the_values(wrong: float) -> None:
    for problem in (not_binary, not_on_256_bins, not_grey):
        assert str(wrong) in str(problem(torch.tensor([1.0, wrong])))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_grey_values_of_every_floating_type_are_on_their_grid(dtype: torch.dtype) -> None:
    assert not_on_256_bins(BINS.double().to(dtype)) is None
    assert not_grey((torch.arange(256).double() / 255).to(dtype)) is None
    if dtype != torch.bfloat16:  # where rounding alone reaches half a level of [0, 1]
        assert "0.5" in str(not_grey(torch.tensor([0.5], dtype=dtype)))
        assert "0.0" in str(not_on_256_bins(torch.tensor([0.001], dtype=dtype)))
    assert "1.5" in str(not_grey(torch.tensor([1.5], dtype=dtype)))
    assert "-0.5" in str(not_grey(torch.tensor([-0.5], dtype=dtype)))
    assert "2" in str(not_on_256_bins(torch.tensor([2.0], dtype=dtype)))


def test_grey_values_may_be_whole_numbers() -> None:
    assert not_on_256_bins(torch.tensor([-1, 1])) is None
    assert not_grey(torch.tensor([False, True])) is None
    assert "255" in str(not_grey(torch.tensor([0, 255], dtype=torch.uint8)))
    assert "64" in str(not_binary(torch.tensor([0, 64], dtype=torch.uint8), "notes"))
