"""Mixture density networks over strokes: priming, units of the numbers, and two answers that are kept apart."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from scipy.stats import multivariate_normal
from torch import Tensor

from datamodules import DataSpec
from datamodules.spec import Batch
from lightning_modules import MixtureDensityRNN
from lightning_modules.autoregressive.sequence_module import SequenceModule, step_mask
from lightning_modules.autoregressive.sequence_network import SequenceNetwork
from lightning_modules.autoregressive.strokes_emission import StrokeDistribution
from tests.autoregressive.test_strokes_emission import covariances, seeded_uniform
from tests.training import TinyData

SETTINGS: dict[str, Any] = {"length": 8, "width": 12, "num_components": 3}


def build(**overrides: Any) -> MixtureDensityRNN:
    torch.manual_seed(0)
    module = MixtureDensityRNN(**{**SETTINGS, **overrides}).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def sampled(module: MixtureDensityRNN, num: int = 3) -> Tensor:
    return module.sample(num, generator=torch.Generator().manual_seed(1))


# The network


@pytest.mark.parametrize("architecture", ["lstm", "gru"])
@torch.no_grad()
def test_priming_keeps_the_prefix_and_equals_reading_it_anew_at_every_step(architecture: str) -> None:
    module = build(architecture=architecture, num_layers=2)
    prefix = sampled(module, 2)[:, :3]
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
    x = sampled(module, 1).requires_grad_()
    features, _ = module.network(module.network.inputs(x))
    for t in range(x.shape[1]):
        (gradient,) = torch.autograd.grad(features[:, t].sum(), x, retain_graph=True)
        seen = gradient.abs().sum(2)[0]
        assert (seen[t:] == 0).all()
        assert (seen[max(0, t - 3) : t] > 0).all()


@torch.no_grad()
def test_padding_changes_nothing() -> None:
    module = build()
    x, lengths = sampled(module), torch.tensor([8, 5, 1])
    padded = torch.where(step_mask(lengths, 8).bool()[..., None], x, 0.0)
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
    emission: Any = module.network.emission
    with torch.no_grad():
        emission.head.weight.zero_()
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    (measures,) = trainer.validate(module, data, verbose=False)
    assert list(measures) == [f"val/nats_per_step-{kind}"]

    distribution = StrokeDistribution(*(values[0, 0] for values in emission.distribution(torch.zeros(1, 1, 12))))
    pixels = scale or 1.0
    mean = pixels * torch.cat([distribution.mean_x, distribution.mean_y])
    normal = multivariate_normal(mean.detach(), pixels**2 * covariances(distribution)[0].detach())
    source: Any = data.sources["val"]
    x, lengths = source.data.double(), source.labels
    valid = step_mask(lengths, 6).bool()
    density = normal.logpdf(pixels * x[..., :2][valid])
    pen = torch.nn.functional.logsigmoid((2 * x[..., 2][valid] - 1) * distribution.pen.detach())
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


# Classes and ends


def of_classes(**overrides: Any) -> MixtureDensityRNN:
    module = build(num_classes=3, ends=True, **overrides)
    assert module.class_probabilities is not None
    module.class_probabilities.copy_(torch.tensor([0.5, 0.3, 0.2]))
    return module


@pytest.mark.parametrize("architecture", ["lstm", "gru"])
def test_the_likelihood_of_a_class_begins_with_its_state(architecture: str) -> None:
    module = of_classes(architecture=architecture, num_layers=2)
    x, lengths, labels = sampled(module), torch.tensor([8, 5, 1]), torch.tensor([2, 0, 2])
    each = module.log_prob(x, lengths, labels=labels)
    alone = [module.log_prob(x[i : i + 1, :length], labels=labels[i : i + 1]) for i, length in enumerate(lengths)]
    torch.testing.assert_close(each, torch.cat(alone))
    assert not torch.isclose(each, module.log_prob(x, lengths, labels=labels - 1 + 2 * (labels == 0))).any()
    each.sum().backward()
    assert module.network.classes is not None
    gradient = module.network.classes.weight.grad
    assert gradient is not None
    assert gradient.any(1).tolist() == [True, False, True]


@torch.no_grad()
def test_the_class_given_the_steps_is_that_of_bayes_rule() -> None:
    module = of_classes()
    x, lengths = sampled(module, 4), torch.tensor([8, 3, 1, 5])
    posterior = module.class_posterior(x, lengths)
    assert module.class_probabilities is not None
    joint = torch.stack(
        [module.class_probabilities[k] * module.log_prob(x, lengths, labels=[k] * 4).exp() for k in range(3)], 1
    )
    torch.testing.assert_close(posterior, joint / joint.sum(1, keepdim=True), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_classes_of_continuations_are_drawn_given_their_prefix() -> None:
    """Frequencies of 4 000 draws within 5 standard errors of Bayes' rule; without a prefix, of training."""
    module, num = of_classes(), 4000
    prefix = sampled(module, 1)[:, :2]
    for given in (prefix, prefix[:, :0]):
        drawn = module.classes_given(given.expand(num, -1, -1), torch.Generator().manual_seed(0))
        expected = module.class_posterior(given)[0] if given.shape[1] else module.class_probabilities
        assert isinstance(expected, Tensor)
        error = torch.sqrt(expected * (1 - expected) / num)
        assert ((drawn.bincount(minlength=3) / num - expected).abs() < 5 * error + 1e-6).all()


@torch.no_grad()
def test_samples_of_a_class_continue_nothing() -> None:
    module = of_classes()
    labels = torch.tensor([0, 1, 2, 1])
    sampled_at_once = module.sample(4, labels=labels, generator=torch.Generator().manual_seed(5))
    empty = torch.zeros(4, 0, 3)
    continued = module.continue_sequence(empty, 8, labels=labels, generator=torch.Generator().manual_seed(5))
    assert torch.equal(sampled_at_once, continued)
    other = module.sample(4, labels=[2, 1, 2, 1], generator=torch.Generator().manual_seed(5))
    assert torch.equal(other[1:], sampled_at_once[1:])
    assert not torch.equal(other[0], sampled_at_once[0])


@torch.no_grad()
def test_samples_are_zeros_after_their_end() -> None:
    module = of_classes(length=30)
    drawings = module.sample(200, generator=torch.Generator().manual_seed(0))
    assert module.batch_problem(Batch(drawings, labels=torch.zeros(200).long(), lengths=torch.full((200,), 30))) is None
    ends = (drawings[..., 2] == 2).long()
    assert ends.sum(1).max() == 1
    ended = ends.cumsum(1) - ends > 0
    assert 0.05 < ended.float().mean() < 0.95  # both kinds of steps are there
    assert not drawings[ended].any()
    assert drawings[~ended][:, :2].all()


@torch.no_grad()
def test_no_step_is_sampled_after_the_last_end(monkeypatch: pytest.MonkeyPatch) -> None:
    module, calls = of_classes(length=1000), []
    forward = SequenceNetwork.forward
    monkeypatch.setattr(SequenceNetwork, "forward", lambda *args: (calls.append(1), forward(*args))[1])
    drawings = module.sample(20, labels=torch.arange(20) % 3, generator=torch.Generator().manual_seed(0))
    assert drawings.shape == (20, 1000, 3)
    ends = drawings[..., 2] == 2
    assert ends.any(1).all()
    assert len(calls) == ends.long().argmax(1).max() + 1 < 1000


@torch.no_grad()
def test_drawings_are_measured_up_to_their_end() -> None:
    module = of_classes(length=30)
    labels = torch.arange(50) % 3
    drawings = module.sample(50, labels=labels, generator=torch.Generator().manual_seed(0))
    ends = drawings[..., 2] == 2
    lengths = torch.where(ends.any(1), ends.long().argmax(1) + 1, 30)
    assert lengths.unique().numel() > 3
    expected = module.log_prob(drawings, lengths, labels=labels)
    torch.testing.assert_close(module.log_prob(drawings, labels=labels), expected)
    torch.testing.assert_close(module.class_posterior(drawings), module.class_posterior(drawings, lengths))
    again = drawings.clone()
    again[ends.any(1), -1] = torch.tensor([1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="strokes after its end"):
        module.log_prob(again, labels=labels)


def test_what_is_given_to_classes_is_checked() -> None:
    module, plain = of_classes(), build()
    x = sampled(plain)
    with pytest.raises(ValueError, match=r"needs labels.*\(3,\)"):
        module.log_prob(x)
    with pytest.raises(ValueError, match=r"labels span \[0, 3\].*0 to 2"):
        module.sample(2, labels=[0, 3])
    with pytest.raises(ValueError, match="unconditional"):
        plain.continue_sequence(x, 1, labels=[0, 0, 0])
    with pytest.raises(ValueError, match="has no classes"):
        plain.class_posterior(x)
    for wrong in (None, torch.tensor(1.0)):
        with pytest.raises(ValueError, match="MixtureDensityRNN"):
            module.class_posterior(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"num_classes=2 is not that of the network, 3"):
        SequenceModule.__init__(plain, module.network, 8, plain.build_optimizer, num_classes=2)
    with pytest.raises(ValueError, match="num_classes=0"):
        MixtureDensityRNN(num_classes=0)


def test_drawings_with_and_without_ends_do_not_mix() -> None:
    x = torch.tensor([[[1.0, 0.0, 0.0], [0.5, 0.5, 2.0]]])
    with pytest.raises(ValueError, match=r"0 or 1, but a batch holds 2"):
        build().log_prob(x)
    assert torch.isfinite(build(ends=True).log_prob(x)).all()
    spec = DataSpec("tiny", "strokes", (8, 3), preprocessing="ends-marked-dequantized", scale=2.0)
    assert MixtureDensityRNN.for_data(spec, width=4).hparams["ends"]
    with pytest.raises(ValueError, match=r"ends=False.*ends=True"):
        build().check_data(spec)


# Bad input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "transformer"}, "architecture='transformer'.*lstm.*gru"),
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
        (lambda x: x[..., :2], r"step_shape=\[3\].*\[3, 8, 2\]"),
        (lambda x: x + torch.tensor([0.0, 0.0, 0.5]), r"\b[01]\.5\b"),
        (lambda x: x * math.inf, r"\b(inf|nan)\b"),
        (lambda x: x.long(), r"torch\.int64"),
    ],
)
def test_what_is_no_stroke_is_named(change: Callable[[Tensor], Tensor], message: str) -> None:
    module = build()
    wrong = change(sampled(module))
    assert (problem := module.batch_problem(Batch(wrong, lengths=torch.full((3,), 8))))
    with pytest.raises(ValueError, match=message) as error:
        module.continue_sequence(wrong, 2)
    assert str(error.value) == f"MixtureDensityRNN: {problem}"


def test_choices_among_symbols_are_refused() -> None:
    with pytest.raises(ValueError, match="top_k"):
        build().sample(1, top_k=3)
    with pytest.raises(ValueError, match="temperature=0"):
        build().sample(1, temperature=0.0)
    with pytest.raises(ValueError, match="MixtureDensityRNN.*strokes.*text.*tokens"):
        MixtureDensityRNN.for_data(DataSpec("text", "tokens", (4,), vocabulary=("a",)))
