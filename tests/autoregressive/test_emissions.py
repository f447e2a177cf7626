"""The emissions of tokens, notes and video: probabilities sum to one, samples follow them, symbols are selected."""

import itertools

import pytest
import torch
from torch import Tensor

from lightning_modules import TeacherForcing
from lightning_modules.autoregressive.emissions import NADENotes, restricted
from lightning_modules.autoregressive.frames_emission import GreyFrames, MixtureFrames


@torch.no_grad()
def test_probabilities_of_all_frames_of_a_nade_sum_to_one() -> None:
    torch.manual_seed(0)
    nade = NADENotes(7, 4, 5, hidden=6).double()
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=7)), dtype=torch.float64).unsqueeze(0)
    features = torch.randn(1, 1, 5, dtype=torch.float64).expand(1, 128, 5)
    assert nade.log_prob(features, every).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_a_nade_equals_its_definition_note_by_note() -> None:
    """Values and gradients, for frames of none, some and all notes."""
    torch.manual_seed(0)
    nade = NADENotes(9, 4, 5, hidden=6).double()
    features = torch.randn(2, 4, 5, dtype=torch.float64)
    x = (torch.rand(2, 4, 9) < torch.tensor([0.0, 0.3, 0.6, 1.0]).view(1, 4, 1)).double()
    expected = torch.zeros(2, 4, dtype=torch.float64)
    for d in range(9):
        h = torch.sigmoid(nade.hidden_bias(features) + x[..., :d] @ nade.encode[:d])
        p = torch.sigmoid(nade.visible_bias(features)[..., d] + h @ nade.decode[d])
        expected = expected + torch.where(x[..., d] > 0, p, 1 - p).log()
    ours = nade.log_prob(features, x)
    torch.testing.assert_close(ours, expected)
    parameters = [nade.encode, nade.decode, *nade.hidden_bias.parameters(), *nade.visible_bias.parameters()]
    for a, b in zip(
        torch.autograd.grad(ours.sum(), parameters), torch.autograd.grad(expected.sum(), parameters), strict=True
    ):
        torch.testing.assert_close(a, b)


@torch.no_grad()
def test_a_nade_samples_by_its_own_probabilities() -> None:
    """Chi-squared over the 8 frames of three notes; a false alarm in 10^5 runs, with a fixed seed."""
    torch.manual_seed(1)
    nade = NADENotes(3, 4, 5, hidden=6)
    nade.decode.mul_(3)
    features = torch.randn(1, 1, 5)
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3))).unsqueeze(0)
    expected = 20_000 * nade.log_prob(features.expand(1, 8, 5), every).exp()[0]
    generator = torch.Generator().manual_seed(0)
    sampled = nade.sample(features.expand(20_000, 1, 5), lambda *shape: torch.rand(shape, generator=generator))
    observed = torch.bincount((sampled[:, 0] @ torch.tensor([4.0, 2.0, 1.0])).long(), minlength=8)
    assert ((observed - expected) ** 2 / expected).sum() < 34.0  # chi2(7).isf(1e-5) = 34.6


def test_only_the_likeliest_symbols_are_left() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert restricted(logits, top_k=2).isfinite().tolist() == [[True, True, False, False]]
    assert restricted(logits, top_p=0.7).isfinite().tolist() == [[True, True, False, False]]
    assert restricted(logits, top_p=0.8).isfinite().sum() in (2, 3)  # 0.5 + 0.3 in float32
    assert restricted(logits, top_p=1e-9).isfinite().tolist() == [[True, False, False, False]]
    assert torch.equal(restricted(logits, top_k=9, top_p=1.0), logits)


@pytest.mark.parametrize("wrong", [0.5, 1.5, -1.0, 255.0])
def test_a_frame_that_is_not_grey_is_named_as_it_was_given(wrong: float) -> None:
    frames = torch.arange(256).view(1, 1, 1, 16, 16) / 255
    emission = GreyFrames(1, 16, 16, 4)
    assert emission.problem_with(frames) is None
    said = str(emission.problem_with(frames.index_fill(-1, torch.tensor([3]), wrong)))
    assert f"holds {wrong:g};" in said
    assert "v / 255" in said


def same_everywhere(channels: int) -> MixtureFrames:
    """Frames of 2x2 pixels, all of the same distribution, whatever the features."""
    torch.manual_seed(0)
    emission = MixtureFrames(channels, 2, 2, 3)
    torch.nn.init.zeros_(emission.head.weight)
    bias_of(emission)[:3] = torch.randn(3)
    return emission


def bias_of(emission: MixtureFrames) -> Tensor:
    assert emission.head.bias is not None
    return emission.head.bias.data


def test_a_mixture_of_logistics_sums_to_one_and_samples_what_it_says() -> None:
    emission = same_everywhere(1)
    greys = (torch.arange(256) / 255).view(-1, 1, 1, 1, 1).expand(-1, 1, 1, 2, 2)
    log_prob = emission.log_prob(torch.zeros(256, 1, 3, 1, 1), greys)
    assert log_prob.shape == (256, 1)
    probabilities = (log_prob.flatten() / 4).exp()  # of one pixel of four
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-4)
    uniform = torch.Generator().manual_seed(1)
    frames = emission.sample(torch.zeros(20_000, 1, 3, 1, 1), lambda *shape: torch.rand(shape, generator=uniform))
    assert frames.shape == (20_000, 1, 1, 2, 2)
    assert emission.problem_with(frames) is None
    counts = torch.bincount((frames * 255).round().long().flatten(), minlength=256)
    for low in range(0, 256, 32):  # a standard error is at most 0.0018
        share = counts[low : low + 32].sum() / counts.sum()
        assert share.item() == pytest.approx(probabilities[low : low + 32].sum().item(), abs=0.01)


def test_a_mixture_in_colour_has_a_log_prob_for_each_frame() -> None:
    emission, frames = same_everywhere(3), (torch.rand(2, 4, 3, 2, 2) * 255).round() / 255
    log_prob = emission.log_prob(torch.zeros(2, 4, 3, 1, 1), frames)
    assert log_prob.shape == (2, 4)
    alone = emission.log_prob(torch.zeros(1, 1, 3, 1, 1), frames[1:2, 2:3])
    torch.testing.assert_close(log_prob[1:2, 2:3], alone)
    assert emission.sample(torch.zeros(5, 1, 3, 1, 1), torch.rand).shape == (5, 1, 3, 2, 2)


def test_at_a_low_temperature_a_pixel_is_the_mean_of_its_likeliest_component() -> None:
    emission = same_everywhere(1)
    bias_of(emission)[:6] = torch.tensor([0.0, 0.2, 1.0, -1.0, 0.0, 0.5])
    frames = emission.sample(torch.zeros(4, 1, 3, 1, 1), torch.rand, temperature=1e-3)
    assert frames.flatten().tolist() == pytest.approx([0.75] * 16, abs=0.01)


def test_video_may_have_mixtures() -> None:
    module = TeacherForcing(
        length=3, step_shape=[1, 8, 8], vocabulary_size=None, architecture="conv_lstm", width=4, output="mixture"
    )
    assert isinstance(module.network.emission, MixtureFrames)
    frames = module.sample(2, length=3, generator=torch.Generator().manual_seed(0))
    assert module.log_prob(frames).shape == (2,)
    assert module.continue_sequence(frames, 2).shape == (2, 5, 1, 8, 8)
