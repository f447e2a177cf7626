"""Pen drawings: only published files are unpickled; offsets are scaled, dequantized and padded."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from datamodules import DamagedDataError, Strokes
from datamodules.sequences.sequence_sources import SequenceSource, length_mask
from datamodules.sequences.strokes import BOTH
from datamodules.sources.formats import read_strokes
from datamodules.sources.public_files import PublicDataset
from tests.datamodules.loaders import held_out
from tests.datamodules.small_data import (
    DRAWINGS,
    LONGEST_DRAWING,
    Trap,
    as_objects,
    described,
    digest,
    random_drawings,
    stroke_files,
    symbols_and_sheep,
    written,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with a small file that passes for Omniglot's strokes."""
    files = stroke_files()
    monkeypatch.setitem(Strokes.datasets, "omniglot", (described("Small", files), LONGEST_DRAWING, 52.0))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return str(written(tmp_path / "data", files))


def test_a_pickle_of_another_digest_is_never_run(tmp_path: Path, folder: str) -> None:
    sprung = tmp_path / "sprung"
    path = Path(folder) / "small.npz"
    published = digest(path)
    np.savez(path, train=as_objects([Trap(sprung)] * 2))
    with pytest.raises(ValueError, match=r"small\.npz .*SHA-256"):
        read_strokes(path, published)
    with pytest.raises(DamagedDataError, match=r"small\.npz"):
        Strokes(data_dir=folder).setup()
    assert not sprung.exists()
    with pytest.raises(ValueError, match="valid, test"):
        read_strokes(path, digest(path))
    assert sprung.exists()  # the trap works, so it was the digest that stopped it


def test_a_file_that_is_changed_after_its_check_is_not_unpickled(
    tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sprung, path = tmp_path / "sprung", Path(folder) / "small.npz"

    def found_then_swapped(*arguments: object) -> list[Path]:
        np.savez(path, train=as_objects([Trap(sprung)] * 2))
        return [path]

    monkeypatch.setattr("datamodules.sequences.strokes.find", found_then_swapped)
    with pytest.raises(ValueError, match=r"small\.npz .*SHA-256"):
        Strokes(data_dir=folder).setup()
    assert not sprung.exists()


def test_without_noise_offsets_are_divided_by_the_scale_and_padded_with_zeros(folder: str) -> None:
    data = Strokes(data_dir=folder, dequantize=False, scale=40.0)
    assert (data.spec.scale, data.spec.preprocessing) == (40.0, "")
    x, lengths = data.sequences("test")
    assert x.dtype == torch.float32
    assert not x[~length_mask(lengths, x.shape[1])].any()
    for ours, length, theirs in zip(x, lengths, random_drawings(DRAWINGS["test"]), strict=True):
        assert length == len(theirs)
        expected = torch.from_numpy(theirs / np.array([40, 40, 1]))
        torch.testing.assert_close(ours[:length].double(), expected, atol=1e-6, rtol=0)


def noise_of(data: Strokes, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Returns the noise that was added to each offset, in pixels: the distance to the nearest whole number."""
    assert data.spec.scale is not None
    pixels = x[length_mask(lengths, x.shape[1])][:, :2].double() * data.spec.scale
    return pixels - pixels.round()


def test_noise_is_uniform_over_one_pixel_and_fresh_in_training(folder: str) -> None:
    """A Kolmogorov-Smirnov test of some 17 000 values; false alarms below 1e-6."""
    data = Strokes(data_dir=folder, batch_size=50)
    assert data.spec.preprocessing == "dequantized"
    loader = data.train_dataloader()
    epochs = [[noise_of(data, x, lengths) for x, lengths in loader] for _ in range(2)]
    noise = torch.cat([torch.cat(epoch) for epoch in epochs]).flatten()
    assert noise.abs().max() <= 0.5 + 1e-4
    assert stats.kstest(noise.numpy(), stats.uniform(-0.5, 1).cdf).pvalue > 1e-6
    assert len(noise.unique()) > 0.99 * len(noise)


def test_noise_changes_neither_the_pen_nor_the_pixel(folder: str) -> None:
    data, plain = (Strokes(data_dir=folder, dequantize=noisy, batch_size=7) for noisy in (True, False))
    for (x, lengths), (y, _) in zip(held_out(data, "test"), held_out(plain, "test"), strict=True):
        assert torch.equal(x[..., 2], y[..., 2])
        assert set(x[..., 2].unique().tolist()) <= {0.0, 1.0}
        assert not x[~length_mask(lengths, x.shape[1])].any()
        assert ((x - y)[..., :2] * 52.0).abs().max() <= 0.5 + 1e-4
        assert ((x - y)[..., :2] * 52.0).abs().max() > 0.4


@pytest.mark.parametrize("split", ["val", "test"])
def test_noise_of_held_out_drawings_does_not_depend_on_the_batch(folder: str, split: str) -> None:
    def evaluated(batch_size: int, world_size: int = 1) -> list[torch.Tensor]:
        parts = []
        for rank in range(world_size):
            data = Strokes(data_dir=folder, batch_size=batch_size)
            data.place = (rank, world_size)
            parts.append(list(held_out(data, split)))
        batches = [batch for group in zip(*parts, strict=True) for batch in group]
        return [row[:length] for x, lengths in batches for row, length in zip(x, lengths, strict=True)]

    x, lengths = Strokes(data_dir=folder).sequences(split)
    expected = [row[:length] for row, length in zip(x, lengths, strict=True)]
    for rows in (evaluated(7), evaluated(30), evaluated(5, world_size=2)):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(rows, expected, strict=True))
    assert not torch.equal(Strokes(data_dir=folder, seed=1).sequences(split)[0], x)


@pytest.mark.parametrize(
    ("name", "sizes", "longest"),
    [("omniglot", [30_000, 1000, 1000], 157), ("aaron_sheep", [7400, 300, 300], 250)],
)
def test_the_real_drawings(
    real_files: Callable[[PublicDataset], list[Path]], name: str, sizes: list[int], longest: int
) -> None:
    real_files(Strokes.datasets[name][0])
    data = Strokes(name)
    data.setup()
    sources = [data.sources[split] for split in ("train", "val", "test")]
    assert [len(source) for source in sources] == sizes
    assert data.spec.shape == (max(source.shape[0] for source in sources), 3) == (longest, 3)
    train = sources[0]
    assert isinstance(train, SequenceSource)
    rms = train.values[:, :2].double().square().mean().sqrt().item()
    assert data.spec.scale == pytest.approx(rms, abs=0.05)  # three figures
    assert set(train.values[:, 2].unique().tolist()) == {0, 1}
    x, lengths = next(iter(data.train_dataloader()))
    assert 0.5 < x[length_mask(lengths, x.shape[1])][:, :2].square().mean().sqrt() < 2


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder of the drawings of both sets."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return symbols_and_sheep(tmp_path / "data", monkeypatch)


def test_the_sets_are_classes_of_their_union(both: str) -> None:
    data = Strokes(BOTH, data_dir=both, batch_size=7, dequantize=False, scale=1.0)
    data.prepare_data()
    assert (data.spec.num_classes, data.spec.class_names) == (2, ("omniglot", "aaron_sheep"))
    assert data.spec.class_counts == (30_000, 7400)
    known = random_drawings(DRAWINGS["train"])
    expected = [known, [drawing[::-1] for drawing in known]]
    found: list[list[bytes]] = [[], []]
    for x, labels, lengths in data.train_dataloader():
        for drawing, label, length in zip(x, labels, lengths, strict=True):
            found[int(label)].append(drawing[:length].numpy().astype(np.int16).tobytes())
    for ours, theirs in zip(found, expected, strict=True):
        assert set(ours) <= {drawing.tobytes() for drawing in theirs}
        assert len(ours) > 0.8 * len(theirs)  # the rest of a last batch is left for another epoch
    assert Strokes("omniglot", data_dir=both).spec.num_classes is None


def test_the_last_step_of_a_drawing_can_be_marked(both: str) -> None:
    for dataset in ("omniglot", BOTH):
        marked, plain = (
            Strokes(dataset, data_dir=both, batch_size=7, dequantize=False, mark_ends=ends) for ends in (True, False)
        )
        assert marked.spec.marks_ends
        assert not plain.spec.marks_ends
        x, lengths = marked.sequences("val")
        y, _ = plain.sequences("val")
        last = torch.zeros_like(x[..., 2]).bool()
        last[torch.arange(len(x)), lengths - 1] = True
        assert (x[..., 2] == 2).equal(last)
        x[..., 2][last] = y[..., 2][last]
        assert torch.equal(x, y)
    noisy = Strokes("omniglot", data_dir=both, mark_ends=True).spec
    assert noisy.marks_ends
    assert noisy.is_dequantized


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "cats"}, "dataset='cats' .*omniglot, aaron_sheep"),
        ({"scale": 0.0}, r"scale=0\.0"),
        ({"scale": -3.0}, r"scale=-3\.0"),
        ({"scale": math.inf}, "scale=inf"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Strokes(**arguments)  # type: ignore[arg-type]
