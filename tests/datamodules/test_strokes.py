"""Pen drawings: nothing is unpickled that was not published; offsets are scaled, blurred and padded as is said."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from datamodules import DamagedDataError, Strokes
from datamodules.formats import read_strokes
from datamodules.public_files import PublicDataset, PublicFile
from datamodules.sequences import SequenceSource, length_mask

SIZES = {"train": 300, "valid": 40, "test": 30}


def as_objects(drawings: list[np.ndarray]) -> np.ndarray:
    array = np.empty(len(drawings), object)
    array[:] = drawings
    return array


def drawings(num: int, seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, 30, num)
    return [
        np.column_stack([generator.integers(-90, 91, (length, 2)), generator.integers(0, 2, length)]).astype(np.int16)
        for length in lengths
    ]


def splits() -> dict[str, np.ndarray]:
    return {name: as_objects(drawings(size, size)) for name, size in SIZES.items()}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with a small file that passes for Omniglot's strokes."""
    path = tmp_path / "data" / "small.npz"
    path.parent.mkdir()
    np.savez(path, **splits())  # type: ignore[arg-type]
    public = PublicDataset("Small", ("small",), (PublicFile("small.npz", path.stat().st_size, digest(path)),))
    monkeypatch.setitem(Strokes.datasets, "omniglot", (public, 29, 52.0))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return str(path.parent)


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_of_another_digest_is_never_run(tmp_path: Path, folder: str) -> None:
    sprung = tmp_path / "sprung"
    path = Path(folder) / "small.npz"
    published = digest(path)
    np.savez(path, train=as_objects([Trap(sprung)] * 2))  # type: ignore[list-item, arg-type]
    with pytest.raises(ValueError, match=r"small\.npz is not the published file \(its SHA-256 differs\) and is not"):
        read_strokes(path, published)
    with pytest.raises(DamagedDataError, match=r"small\.npz is damaged: .* Delete it"):
        Strokes(data_dir=folder).setup()
    assert not sprung.exists()
    with pytest.raises(ValueError, match="lacks"):
        read_strokes(path, digest(path))
    assert sprung.exists()  # the trap works: it was the digest that kept it shut


def test_a_file_that_is_changed_after_its_check_is_not_unpickled(
    tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sprung, path = tmp_path / "sprung", Path(folder) / "small.npz"

    def found_then_swapped(*arguments: object) -> list[Path]:
        np.savez(path, train=as_objects([Trap(sprung)] * 2))  # type: ignore[list-item, arg-type]
        return [path]

    monkeypatch.setattr("datamodules.strokes.find", found_then_swapped)
    with pytest.raises(ValueError, match="is not unpickled: get a whole copy"):
        Strokes(data_dir=folder).setup()
    assert not sprung.exists()


def test_drawings_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "drawings.npz"
    np.savez_compressed(path, **splits())  # type: ignore[arg-type]
    for (split, read), (name, size) in zip(read_strokes(path, digest(path)).items(), SIZES.items(), strict=True):
        assert (split, len(read)) == ("val" if name == "valid" else name, size)
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(read, drawings(size, size), strict=True))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"valid": None}, "lacks valid"),
        ({"test": as_objects([])}, "lacks test"),
        ({"test": np.array(3)}, "lacks test"),
        ({"test": as_objects([np.zeros((4, 3))])}, "no int16 array"),
        ({"test": as_objects([np.zeros((4, 2), np.int16)])}, "no int16 array"),
        ({"test": as_objects([np.zeros((0, 3), np.int16)])}, "no int16 array"),
        ({"test": np.arange(6, dtype=np.int16)}, "no int16 array"),
        ({"test": np.array(["a", "b"])}, "no int16 array"),
    ],
)
def test_files_that_hold_no_drawings_are_named(
    tmp_path: Path, changed: dict[str, np.ndarray | None], message: str
) -> None:
    path = tmp_path / "drawings.npz"
    content = {name: array for name, array in {**splits(), **changed}.items() if array is not None}
    np.savez(path, **content)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"drawings\.npz .*{message}"):
        read_strokes(path, digest(path))


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "array"])
def test_files_that_are_no_archive_are_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "drawings.npz"
    np.savez(path, **splits())  # type: ignore[arg-type]
    if damage == "array":
        with path.open("wb") as stream:
            np.save(stream, np.zeros(3))
    else:
        path.write_bytes({"empty": b"", "text": b"no archive", "truncated": path.read_bytes()[:-100]}[damage])
    with pytest.raises(ValueError, match=r"drawings\.npz cannot be read as an NPZ file \(.*\): get a whole copy"):
        read_strokes(path, digest(path))


def test_without_noise_offsets_are_divided_by_the_scale_and_padded_with_zeros(folder: str) -> None:
    data = Strokes(data_dir=folder, dequantize=False, scale=40.0)
    assert (data.spec.scale, data.spec.preprocessing) == (40.0, "")
    x, lengths = data.sequences("test")
    assert x.dtype == torch.float32
    assert not x[~length_mask(lengths, x.shape[1])].any()
    for ours, length, theirs in zip(x, lengths, drawings(SIZES["test"], SIZES["test"]), strict=True):
        assert length == len(theirs)
        expected = torch.from_numpy(theirs / np.array([40, 40, 1]))
        torch.testing.assert_close(ours[:length].double(), expected, atol=1e-6, rtol=0)


def noise_of(data: Strokes, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """What was added to each offset, in pixels: the distance to the nearest whole number."""
    assert data.spec.scale is not None
    pixels = x[length_mask(lengths, x.shape[1])][:, :2].double() * data.spec.scale
    return pixels - pixels.round()


def test_noise_is_uniform_over_one_pixel_and_fresh_in_training(folder: str) -> None:
    """A Kolmogorov-Smirnov test over some 17 000 draws; false alarm below 1e-6."""
    data = Strokes(data_dir=folder, batch_size=50)
    assert data.spec.preprocessing == "dequantized"
    loader = data.train_dataloader()
    epochs = [[noise_of(data, x, lengths) for x, lengths in loader] for _ in range(2)]
    noise = torch.cat([torch.cat(epoch) for epoch in epochs]).flatten()
    assert noise.abs().max() <= 0.5 + 1e-4
    assert stats.kstest(noise.numpy(), stats.uniform(-0.5, 1).cdf).pvalue > 1e-6
    assert len(noise.unique()) > 0.99 * len(noise)


def test_noise_leaves_the_pen_and_the_pixel_as_they_are(folder: str) -> None:
    data, plain = (Strokes(data_dir=folder, dequantize=noisy, batch_size=7) for noisy in (True, False))
    for (x, lengths), (y, _) in zip(data.test_dataloader(), plain.test_dataloader(), strict=True):
        assert torch.equal(x[..., 2], y[..., 2])
        assert set(x[..., 2].unique().tolist()) <= {0.0, 1.0}
        assert not x[~length_mask(lengths, x.shape[1])].any()
        assert ((x - y)[..., :2] * 52.0).abs().max() <= 0.5 + 1e-4
        assert ((x - y)[..., :2] * 52.0).abs().max() > 0.4


@pytest.mark.parametrize("split", ["val", "test"])
def test_noise_of_held_out_drawings_is_fixed_whatever_the_batch(folder: str, split: str) -> None:
    def evaluated(batch_size: int, world_size: int = 1) -> list[torch.Tensor]:
        parts = []
        for rank in range(world_size):
            data = Strokes(data_dir=folder, batch_size=batch_size)
            data._place = lambda rank=rank: (rank, world_size)  # type: ignore
            parts.append(list(data.val_dataloader() if split == "val" else data.test_dataloader()))
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "cats"}, "dataset='cats' is not one of omniglot, aaron_sheep"),
        ({"scale": 0.0}, r"scale=0\.0 must be a finite number above 0"),
        ({"scale": -3.0}, r"scale=-3\.0"),
        ({"scale": math.inf}, "scale=inf"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Strokes(**arguments)  # type: ignore[arg-type]
