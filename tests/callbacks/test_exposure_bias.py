"""Exposure bias: nothing for the source itself, a growing curve for a sampler that drifts, the same on any machine."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Generator, Tensor, nn

from datamodules import MarkovSource, Ring, TextFile
from datamodules.markov import contexts_of
from datamodules.public_files import JSB_CHORALES, PublicDataset
from lightning_modules import TeacherForcing
from lightning_modules.callbacks import ExposureBias
from lightning_modules.callbacks import exposure_bias as module_under_test
from lightning_modules.callbacks.exposure_bias import exposure_curves, last_of_curves, real_sequences, symbols_of
from lightning_modules.parts.sequence_metrics import jensen_shannon
from tests.callbacks.measure_exposure_on_processes import measure

ROOT = Path(__file__).parents[2]


class ChainNetwork(nn.Module):
    """Features of the last eight symbols, which are all that matters and a little more."""

    def __init__(self, num_symbols: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("weights", torch.randn(8, num_symbols, 12, generator=generator) / 3)

    def inputs(self, x: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[()]]:
        padded = nn.functional.pad(x, (7, 0))
        windows = padded.unfold(1, 8, 1)
        return torch.tanh(sum(self.weights[k][windows[..., k]] for k in range(8))), ()


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
            law = (1 - forgets) * self.source.transitions[context] + forgets / num_symbols
            x = torch.cat([x, torch.multinomial(law, 1, generator=generator)], 1)
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
    monkeypatch.setattr(module_under_test, "FEATURE_CHUNK", 7)
    chunked = exposure_curves(Chain(source), real, prefix=8, window=16)
    other = exposure_curves(Chain(source), real, prefix=8, window=16, seed=1)
    for name, curve in whole.items():
        torch.testing.assert_close(curve.values, chunked[name].values, rtol=1e-6, atol=1e-9)
        assert not torch.equal(curve.values, other[name].values)
        assert torch.equal(curve.starts, torch.tensor([0, 16, 32, 48]))


def test_the_callback_logs_the_last_window_whatever_the_processes_and_batches() -> None:
    out = Path("two").resolve()
    script = ROOT / "tests" / "callbacks" / "measure_exposure_on_processes.py"
    done = subprocess.run(
        [sys.executable, str(script), "2", str(out)], cwd=ROOT, timeout=150, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(Path(f"{out}-{rank}.json").read_text()) for rank in (0, 1))
    one, (other_batches, _) = measure(1)[0], measure(1, batch_size=7)
    exposure = {name for name in one if "prefix4" in name}
    assert exposure == {
        f"test/{name}{floor}-prefix4-steps10to20-300"
        for name in ("js_1gram", "js_2gram", "hidden_frechet")
        for floor in ("", "_floor")
    }
    for name in exposure:
        assert first[name] == second[name] == pytest.approx(one[name], rel=1e-6)
        assert other_batches[name] == one[name]
    assert one["test/js_2gram-prefix4-steps10to20-300"] > 2 * one["test/js_2gram_floor-prefix4-steps10to20-300"]


def test_curves_are_kept_and_validation_is_measured_but_not_the_sanity_check() -> None:
    data = MarkovSource(length=12, train_size=64, val_size=40, test_size=40, order=1)
    callback = ExposureBias(prefix=2, steps=10, window=5, orders=(1,), components=4)
    trainer = Trainer(
        max_epochs=1,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        accelerator="cpu",
        log_every_n_steps=1,
    )
    trainer.fit(TeacherForcing.for_data(data.spec, width=8), data)
    curve = callback.curves["js_1gram"]
    assert curve.starts.tolist() == [0, 5]
    logged = trainer.callback_metrics["val/js_1gram-prefix2-steps5to10-20"].item()
    assert logged == pytest.approx(curve.values[-1].item())
    assert last_of_curves(callback.curves, "prefix2", 20).keys() == {
        name.removeprefix("val/") for name in trainer.callback_metrics if "prefix2" in name
    }


def test_text_is_cut_into_sequences_longer_than_its_windows() -> None:
    Path("text.txt").write_text("abcdefghij" * 100)
    data = TextFile("text.txt", window=16, val_fraction=0.2, test_fraction=0.2)
    found = real_sequences(data, "test", 40)
    record = data.tokens["test"].long()
    assert found.shape == (4, 40)  # of 200 characters five pieces, of which two pairs
    pieces = record.view(5, 40)
    assert all(any(torch.equal(row, piece) for piece in pieces) for row in found)
    with pytest.raises(ValueError, match=r"2 sequences of 80 steps, but at least 4"):
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


def test_what_cannot_be_measured_is_refused_at_once() -> None:
    for settings, message in (
        ({"prefix": 0}, "prefix=0"),
        ({"window": 600}, "window=600"),
        ({"orders": (1, 65)}, r"orders=\[1, 65\]"),
        ({"orders": ()}, r"orders=\[\]"),
        ({"num_sequences": 1}, "num_sequences=1"),
        ({"components": 0}, "components=0"),
    ):
        with pytest.raises(ValueError, match=message):
            ExposureBias(**settings)
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.datamodule = Ring()
    with pytest.raises(TypeError, match="continue_sequence"):
        ExposureBias().setup(trainer, nn.Linear(1, 1), "fit")
    with pytest.raises(ValueError, match=r"not 'ring8' \(kind='points'\)"):
        ExposureBias().setup(trainer, TeacherForcing(), "fit")
