"""Exposure bias: nothing for the source itself, a growing curve for a sampler that drifts away from it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn

from datamodules import MarkovSource, TextFile
from datamodules.sequences.markov import contexts_of
from datamodules.sources.public_files import JSB_CHORALES, PublicDataset
from lightning_modules import TeacherForcing
from lightning_modules.metrics import exposure_bias
from lightning_modules.metrics.exposure_bias import exposure_curves, real_sequences, symbols_of
from lightning_modules.metrics.sequence import jensen_shannon


class ChainNetwork(nn.Module):
    """Features of the last eight symbols, which are all that matters and a little more."""

    weights: Tensor

    def __init__(self, num_symbols: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("weights", torch.randn(8, num_symbols, 12, generator=generator) / 3)

    def inputs(self, x: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[()]]:
        padded = nn.functional.pad(x, (7, 0))
        windows = padded.unfold(1, 8, 1)
        return torch.tanh(torch.stack([self.weights[k][windows[..., k]] for k in range(8)]).sum(0)), ()


class Chain(nn.Module):
    """The Markov chain itself, as a model; from step to step it may forget more and more of the past."""

    def __init__(self, source: MarkovSource, drift: float = 0.0) -> None:
        super().__init__()
        self.source, self.drift = source, drift
        self.network = ChainNetwork(source.transitions.shape[1])

    def continue_sequence(self, prefix: Tensor, length: int, *, generator: Generator | None = None) -> Tensor:
        x, num_symbols = prefix, self.source.transitions.shape[1]
        for t in range(length):
            context = contexts_of(x[:, -self.source.order :], self.source.order, num_symbols)[:, 0]
            forgets = min(self.drift * t, 1.0)
            distribution = (1 - forgets) * self.source.transitions[context] + forgets / num_symbols
            x = torch.cat([x, torch.multinomial(distribution, 1, generator=generator)], 1)
        return x


@pytest.fixture(scope="module")
def source() -> MarkovSource:
    return MarkovSource(num_symbols=6, length=72, test_size=1000)


def test_the_source_itself_has_no_excess_and_one_that_drifts_has_more_and_more(source: MarkovSource) -> None:
    """The bounds are five standard deviations of the excess over 30 other seeds: a false alarm in 10^5 runs.

    Those deviations, for 500 sequences against 500 and windows of 16 steps, are at most BOUNDS / 5.
    """
    real = real_sequences(source, "test", 72, 500)
    exact, drifting = (
        exposure_curves(model, real, prefix=8, window=16) for model in (Chain(source), Chain(source, drift=1 / 128))
    )
    bounds = {"js_1gram": 1.5e-3, "js_2gram": 4e-3, "js_3gram": 8e-3, "js_4gram": 15e-3, "hidden_frechet": 3e-3}
    assert exact.keys() == drifting.keys() == bounds.keys()
    for name, bound in bounds.items():
        assert exact[name].excess.abs().max() < bound, name
        assert exact[name].floor.min() > 0
        assert torch.equal(exact[name].floor, drifting[name].floor)
    for name in ("js_3gram", "js_4gram"):
        excess = drifting[name].excess
        assert (excess.diff() > 0).all(), name
        assert excess[-1] > 2 * bounds[name]
        assert drifting[name].values.max() < 0.6931


def test_the_first_features_have_read_true_steps_only(source: MarkovSource) -> None:
    real = real_sequences(source, "test", 72, 200)
    curve = exposure_curves(Chain(source, drift=1.0), real, prefix=8, window=1, orders=(1,))["hidden_frechet"]
    # Features of the two halves at step 0 are those of the true prefixes in both.
    assert curve.values[0] == pytest.approx(curve.floor[0].item(), rel=1e-9)
    assert curve.values[1] != pytest.approx(curve.floor[1].item(), rel=1e-3)
    assert curve.excess[8:].mean() > 0.005


def test_ngrams_are_of_the_steps_after_the_prefix(source: MarkovSource) -> None:
    class Stuck(Chain):
        def continue_sequence(self, prefix: Tensor, length: int, *, generator: Generator | None = None) -> Tensor:
            return torch.cat([prefix, torch.zeros(len(prefix), length, dtype=torch.int64)], 1)

    real = real_sequences(source, "test", 72, 200)
    curve = exposure_curves(Stuck(source), real, prefix=8, window=1, orders=(1,))["js_1gram"]
    only_zero = torch.eye(6)[0]
    for t in (0, 63):
        counts = [real[half::2, 8 + t].bincount(minlength=6) for half in (0, 1)]
        expected = sum(jensen_shannon(only_zero, count) for count in counts) / 2
        assert curve.values[t].item() == pytest.approx(expected, rel=1e-9)
        assert curve.floor[t].item() == pytest.approx(jensen_shannon(*counts), rel=1e-9)


def test_neither_chunks_nor_batches_nor_the_random_state_matter(
    source: MarkovSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = real_sequences(source, "test", 72, 20)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    whole = exposure_curves(Chain(source), real, prefix=8, window=16)
    assert torch.equal(torch.get_rng_state(), before)
    monkeypatch.setattr(exposure_bias, "FEATURE_CHUNK", 7)
    chunked = exposure_curves(Chain(source), real, prefix=8, window=16)
    other = exposure_curves(Chain(source), real, prefix=8, window=16, seed=1)
    for name, curve in whole.items():
        torch.testing.assert_close(curve.values, chunked[name].values, rtol=1e-6, atol=1e-9)
        assert not torch.equal(curve.values, other[name].values)
        assert torch.equal(curve.starts, torch.tensor([0, 16, 32, 48]))


def test_text_is_cut_into_sequences_longer_than_its_windows() -> None:
    Path("text.txt").write_text("abcdefghij" * 100)
    data = TextFile("text.txt", window=16, val_fraction=0.2, test_fraction=0.2)
    found = real_sequences(data, "test", 40)
    record = data.tokens["test"].long()
    assert found.shape == (4, 40)  # of 200 characters five pieces, of which two pairs
    pieces = record.view(5, 40)
    assert all(any(torch.equal(row, piece) for piece in pieces) for row in found)
    with pytest.raises(ValueError, match=r" 2 .* 80 .* 4 "):
        real_sequences(data, "test", 80)


def test_songs_are_compared_by_their_melodies(real_files: Callable[[PublicDataset], list[Path]]) -> None:
    real_files(JSB_CHORALES)
    from datamodules import JSBChorales

    data = JSBChorales()
    real = real_sequences(data, "test", 40)
    assert real.shape[1:] == (40, 88)
    assert len(real) >= 60
    melody = symbols_of(real)
    assert all(real[3, t, note] == 1 and real[3, t, note + 1 :].sum() == 0 for t, note in enumerate(melody[3]))
    curves = exposure_curves(
        TeacherForcing.for_data(data.spec, architecture="gru", width=8), real, prefix=8, window=8, orders=(1, 2)
    )
    # An untrained network plays half of all keys: its highest notes are nowhere near a soprano's.
    assert curves["js_1gram"].values.min() > 0.6
    assert curves["js_1gram"].floor.max() < 0.1
