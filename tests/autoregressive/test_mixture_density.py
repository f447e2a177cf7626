"""Mixtures of Gaussians over strokes: the law is a law, draws follow it, and two answers are kept apart."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from scipy.special import expit, logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor

from datamodules import DataSpec
from lightning_modules import MixtureDensityRNN
from lightning_modules.autoregressive.sequence import mask
from lightning_modules.autoregressive.strokes_emission import StrokeLaw, StrokeMixture
from tests.training import TinyData

SETTINGS: dict[str, Any] = {"length": 8, "width": 12, "num_components": 3}


def emission(num_components: int = 3, features: int = 5, spread: float = 1.0) -> StrokeMixture:
    """An emission in float64 whose components differ in every number."""
    torch.manual_seed(0)
    result = StrokeMixture(num_components, features).double()
    with torch.no_grad():
        result.head.bias.copy_(spread * torch.randn(6 * num_components + 1))
    return result


def covariances(law: StrokeLaw) -> Tensor:
    """Sigma of each component, (..., K, 2, 2), by its definition."""
    sx, sy, rho = law.log_sigma_x.exp(), law.log_sigma_y.exp(), torch.tanh(law.slant)
    return torch.stack([sx**2, rho * sx * sy, rho * sx * sy, sy**2], -1).unflatten(-1, (2, 2))


def seeded_uniform(seed: int = 0) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.rand(shape, generator=generator)


def build(**overrides: Any) -> MixtureDensityRNN:
    torch.manual_seed(0)
    module = MixtureDensityRNN(**{**SETTINGS, **overrides}).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def draw(module: MixtureDensityRNN, num: int = 3) -> Tensor:
    return module.sample(num, generator=torch.Generator().manual_seed(1))


# The law


@torch.no_grad()
def test_the_density_integrates_to_one() -> None:
    strokes = emission(spread=0.5)
    axis = torch.arange(-12, 12, 0.04, dtype=torch.float64)
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    features = torch.randn(1, 1, 5, dtype=torch.float64)
    law = strokes.law(features)
    assert law.log_sigma_x.exp().min() > 0.1  # the grid is fine enough
    assert torch.tanh(law.slant).abs().max() > 0.5
    total = 0.0
    for pen in (0.0, 1.0):
        points = torch.stack([x.flatten(), y.flatten(), torch.full((x.numel(),), pen, dtype=torch.float64)], 1)
        total += strokes.log_prob(features, points.unsqueeze(0)).exp().sum().item() * 0.04**2
    assert total == pytest.approx(1, abs=1e-4)


@torch.no_grad()
def test_the_log_density_is_that_of_scipy() -> None:
    strokes = emission(num_components=4)
    features, x = torch.randn(2, 6, 5, dtype=torch.float64), torch.randn(2, 6, 3, dtype=torch.float64)
    x[..., 2] = (x[..., 2] > 0).double()
    law = strokes.law(features)
    sigma, mean = covariances(law), torch.stack([law.mean_x, law.mean_y], -1)
    ours = strokes.log_prob(features, x)
    for i, t in np.ndindex(2, 6):
        components = [
            law.log_weight[i, t, k].item() + multivariate_normal(mean[i, t, k], sigma[i, t, k]).logpdf(x[i, t, :2])
            for k in range(4)
        ]
        lifted = expit(law.pen[i, t].item())
        expected = logsumexp(components) + math.log(lifted if x[i, t, 2] == 1 else 1 - lifted)
        assert ours[i, t].item() == pytest.approx(expected, abs=1e-10)


def test_gradients_are_those_of_finite_differences() -> None:
    strokes = emission()
    features = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 3, 3, dtype=torch.float64)
    x[..., 2] = (x[..., 2] > 0).double()
    inputs = (features, *strokes.parameters())
    assert torch.autograd.gradcheck(lambda features, *_: strokes.log_prob(features, x), inputs)


def test_far_offsets_and_narrow_components_keep_finite_numbers_and_gradients() -> None:
    """A floor under the likelihood, outside of the logarithm, would give such steps no gradient at all."""
    strokes = StrokeMixture(3, 5)
    with torch.no_grad():
        strokes.head.bias[10:] = torch.tensor([-50.0] * 6 + [30.0, -30.0, 0.0])
    features = torch.randn(1, 4, 5, requires_grad=True)
    x = torch.tensor([[[0.0, 0.0, 0.0], [1e3, -1e3, 1.0], [1e3, 1e3, 0.0], [1e-8, 0.0, 1.0]]])
    values = strokes.log_prob(features, x)
    assert torch.isfinite(values).all()
    assert values[0, 1] < -1e6
    values.sum().backward()
    assert torch.isfinite(features.grad).all()
    assert (features.grad[0, 1] != 0).any()
    law = strokes.law(features)
    assert torch.tanh(law.slant).abs().max() < 1
    assert law.log_sigma_x.exp().min().item() == pytest.approx(1e-3)


@torch.no_grad()
def test_mixed_precision_does_not_round_the_law() -> None:
    strokes, features, x = StrokeMixture(3, 5), torch.randn(2, 4, 5), torch.zeros(2, 4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = strokes.log_prob(features, x)
    assert torch.equal(rounded, strokes.log_prob(features, x))


# Draws


@torch.no_grad()
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_draws_have_the_predicted_moments(temperature: float) -> None:
    """Six moments of 100 000 draws within 5 standard errors: a false alarm in 3 x 10^5 runs, with a fixed seed."""
    strokes, num = emission(), 100_000
    features = torch.randn(1, 1, 5, dtype=torch.float64)
    law = StrokeLaw(*(values[0, 0] for values in strokes.law(features)))
    weight = torch.softmax(law.log_weight / temperature, 0)
    mean, sigma = torch.stack([law.mean_x, law.mean_y], 1), temperature * covariances(law)
    second = (weight[:, None, None] * (sigma + mean[:, :, None] * mean[:, None, :])).sum(0)
    lifted = torch.sigmoid(law.pen / temperature)
    expected = torch.stack([*(weight @ mean), second[0, 0], second[1, 1], second[0, 1], lifted])
    x = strokes.sample(features.expand(num, 1, 5), seeded_uniform(), temperature)[:, 0]
    dx, dy, pen = x.unbind(1)
    values = torch.stack([dx, dy, dx * dx, dy * dy, dx * dy, pen], 1)
    z = (values.mean(0) - expected) / (values.std(0) / math.sqrt(num))
    assert z.abs().max() < 5
    assert set(pen.tolist()) == {0.0, 1.0}


@torch.no_grad()
def test_a_low_temperature_leaves_the_mean_of_the_likeliest_component() -> None:
    strokes = emission(num_components=5)
    features = torch.randn(200, 1, 5, dtype=torch.float64)
    law = strokes.law(features)
    best = law.log_weight.argmax(-1, keepdim=True)
    x = strokes.sample(features, seeded_uniform(), 1e-12)
    torch.testing.assert_close(x[..., 0], law.mean_x.gather(-1, best)[..., 0], atol=1e-3, rtol=0)
    torch.testing.assert_close(x[..., 1], law.mean_y.gather(-1, best)[..., 0], atol=1e-3, rtol=0)
    assert torch.equal(x[..., 2], (law.pen > 0).double())


@torch.no_grad()
@pytest.mark.parametrize("edge", [0.0, 1 - 2**-24])
def test_draws_at_the_edges_of_the_uniform_law_are_finite(edge: float) -> None:
    x = StrokeMixture(3, 5).sample(torch.randn(7, 1, 5), lambda *shape: torch.full(shape, edge))
    assert torch.isfinite(x).all()
    assert x[..., :2].abs().max() < 50


# The network


@pytest.mark.parametrize("architecture", ["lstm", "gru"])
@torch.no_grad()
def test_priming_keeps_the_prefix_and_equals_reading_it_anew_at_every_step(architecture: str) -> None:
    module = build(architecture=architecture, num_layers=2)
    prefix = draw(module, 2)[:, :3]
    primed = module.continue_sequence(prefix, 4, generator=torch.Generator().manual_seed(3), temperature=0.7)
    assert torch.equal(primed[:, :3], prefix)
    uniform, slow = seeded_uniform(3), prefix
    for _ in range(4):
        start = module.network.emission.start(2, slow.device)
        features, _ = module.network(torch.cat([start, slow], 1))
        slow = torch.cat([slow, module.network.emission.sample(features[:, -1:], uniform, temperature=0.7)], 1)
    torch.testing.assert_close(primed, slow, atol=1e-4, rtol=1e-4)
    other = prefix.clone()
    other[:, 0, 0] += 1
    changed = module.continue_sequence(other, 4, generator=torch.Generator().manual_seed(3), temperature=0.7)
    assert not torch.allclose(changed[:, 3:], primed[:, 3:])


def test_no_step_sees_itself_or_the_future() -> None:
    module = build()
    x = draw(module, 1).requires_grad_()
    features, _ = module.network(module.network.inputs(x))
    for t in range(x.shape[1]):
        (gradient,) = torch.autograd.grad(features[:, t].sum(), x, retain_graph=True)
        seen = gradient.abs().sum(2)[0]
        assert (seen[t:] == 0).all()
        assert (seen[max(0, t - 3) : t] > 0).all()


@torch.no_grad()
def test_padding_changes_nothing() -> None:
    module = build()
    x, lengths = draw(module), torch.tensor([8, 5, 1])
    padded = torch.where(mask(lengths, 8).bool()[..., None], x, 0.0)
    torch.testing.assert_close(module.log_prob(x, lengths), module.log_prob(padded, lengths))
    torch.testing.assert_close(module.log_prob(x, lengths)[1], module.log_prob(x[1:2, :5])[0])


# Numbers


@pytest.mark.parametrize(
    ("preprocessing", "scale", "kind"),
    [
        ("dequantized", 2.0, "exact_pixels"),
        ("", 2.0, "exact_pixels_not_dequantized"),
        ("dequantized", None, "exact_own_units"),
        ("", None, "exact_own_units_not_dequantized"),
    ],
)
def test_held_out_numbers_are_densities_of_pixels(preprocessing: str, scale: float | None, kind: str) -> None:
    """In pixels a Gaussian N(mu, Sigma) of units is N(scale mu, scale^2 Sigma), by scipy, at scale times the offset."""
    data = TinyData((6, 3), sequences="strokes")
    data.spec = DataSpec("tiny", "strokes", (6, 3), preprocessing=preprocessing, scale=scale)
    module = build(num_components=1)
    with torch.no_grad():
        module.network.emission.head.weight.zero_()
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    (measures,) = trainer.validate(module, data, verbose=False)
    assert list(measures) == [f"val/nats_per_step-{kind}"]

    law = StrokeLaw(*(values[0, 0] for values in module.network.emission.law(torch.zeros(1, 1, 12))))
    pixels = scale or 1.0
    mean = pixels * torch.cat([law.mean_x, law.mean_y])
    normal = multivariate_normal(mean.detach(), pixels**2 * covariances(law)[0].detach())
    source = data.sources["val"]
    x, lengths = source.data.double(), source.labels
    valid = mask(lengths, 6).bool()
    density = normal.logpdf(pixels * x[..., :2][valid])
    pen = torch.nn.functional.logsigmoid((2 * x[..., 2][valid] - 1) * law.pen.detach())
    expected = -(density.mean() + pen.mean().item())
    assert measures[f"val/nats_per_step-{kind}"] == pytest.approx(expected, abs=1e-5)


def test_a_mixture_keeps_two_answers_apart() -> None:
    """Strokes to the left or to the right: two components reach the entropy of the source, one loses over half a nat.

    One Gaussian has the variance 1 + s^2 against s^2 within a component: it loses log sqrt(1 + 1 / s^2) - log 2 nats.
    """
    s, steps, lifted = 0.1, 6, 0.3
    entropy = math.log(2) + math.log(2 * math.pi * math.e * s**2)
    entropy -= lifted * math.log(lifted) + (1 - lifted) * math.log(1 - lifted)
    generator = torch.Generator().manual_seed(0)

    def strokes(num: int) -> Tensor:
        x = s * torch.randn(num, steps, 3, generator=generator)
        x[..., 0] += torch.randint(2, (num, steps), generator=generator) * 2.0 - 1
        x[..., 2] = (torch.rand(num, steps, generator=generator) < lifted).float()
        return x

    nats = {}
    for num_components in (1, 2):
        torch.manual_seed(1)
        module = MixtureDensityRNN(length=steps, width=8, num_components=num_components)
        optimizer = torch.optim.Adam(module.parameters(), lr=0.03)
        for _ in range(250):
            optimizer.zero_grad()
            (-module.log_prob(strokes(64)).mean() / steps).backward()
            optimizer.step()
        with torch.no_grad():
            nats[num_components] = -module.log_prob(strokes(4000)).mean().item() / steps
    assert nats[2] == pytest.approx(entropy, abs=0.06)
    assert nats[1] - nats[2] > 0.5
    assert nats[1] - entropy == pytest.approx(0.5 * math.log(1 + 1 / s**2) - math.log(2), abs=0.06)


# Bad input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "transformer"}, "architecture='transformer' is not one of lstm, gru"),
        ({"num_components": 0}, "num_components=0"),
        ({"width": 0}, "width=0"),
        ({"dropout": 1.0}, r"dropout=1\.0"),
        ({"clip_norm": 0.0}, r"clip_norm=0\.0"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixtureDensityRNN(**settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[..., :2], r"step_shape=\[3\], but a batch is \[3, 8, 2\]"),
        (lambda x: x + torch.tensor([0.0, 0.0, 0.5]), r"0 or 1, but a batch holds [01]\.5; give strokes as"),
        (lambda x: x * math.inf, "finite floats, but a batch holds"),
        (lambda x: x.long(), r"torch\.int64; divide"),
    ],
)
def test_what_is_no_stroke_is_named(change: Callable[[Tensor], Tensor], message: str) -> None:
    module = build()
    wrong = change(draw(module))
    assert (problem := module.problem_with((wrong, torch.full((3,), 8))))
    with pytest.raises(ValueError, match=message) as error:
        module.continue_sequence(wrong, 2)
    assert str(error.value) == problem


def test_choices_among_symbols_are_refused() -> None:
    with pytest.raises(ValueError, match="top_k"):
        build().sample(1, top_k=3)
    with pytest.raises(ValueError, match="temperature=0"):
        build().sample(1, temperature=0.0)
    with pytest.raises(ValueError, match="models strokes"):
        MixtureDensityRNN.for_data(DataSpec("text", "tokens", (4,), vocabulary=("a",)))
