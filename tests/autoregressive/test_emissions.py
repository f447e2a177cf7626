"""The emissions of tokens and notes: probabilities sum to one, samples follow them, likely symbols can be selected."""

import itertools

import pytest
import torch

from lightning_modules.autoregressive.emissions import GreyFrames, NADENotes, restricted


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
