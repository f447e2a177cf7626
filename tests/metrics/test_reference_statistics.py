"""Statistics of real images: computed once, kept whole, found again, never mixed up."""

import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from datamodules.spec import DataSpec
from lightning_modules.callbacks import real_statistics, ship_statistics
from lightning_modules.metrics.image import moments
from lightning_modules.metrics.reference_statistics import (
    MAX_FEATURES,
    RealStatistics,
    compute_statistics,
    read_statistics,
    statistics_cache,
    statistics_file_name,
)
from tests.standins import SPEC, StandInData, StandInExtractor


def find(extractor: StandInExtractor, data: StandInData | None, split: str = "test") -> RealStatistics:
    return real_statistics(extractor, SPEC, split, data, cache_dir="cache")


def assert_equal(one: RealStatistics, two: RealStatistics) -> None:
    for field in ("mu", "sigma", "features"):
        assert torch.equal(getattr(one, field), getattr(two, field))
        assert getattr(one, field).dtype == getattr(two, field).dtype
    assert (one.num_samples, one.inception_score) == (two.num_samples, two.inception_score)


def test_they_are_those_of_every_image_once() -> None:
    extractor, data = StandInExtractor().eval(), StandInData()
    found = find(extractor, data)
    features, _ = extractor.extract(data.images("test")[0])
    for value, expected in zip((found.mu, found.sigma), moments(features), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-9)
    assert found.num_samples == len(features) == 600
    assert found.mu.dtype == found.sigma.dtype == torch.float64
    assert 1 < found.inception_score.mean < 5
    rows, kept = (sorted(map(tuple, each.tolist())) for each in (features, found.features))
    torch.testing.assert_close(torch.tensor(kept), torch.tensor(rows))  # all, in another order
    assert not torch.allclose(found.features, features)


def test_they_are_computed_once_and_found_again_without_the_data() -> None:
    extractor, data = StandInExtractor(), StandInData()
    computed = find(extractor, data)
    seen = sum(extractor.seen)
    for again in (data, None):
        assert_equal(find(extractor, again), computed)
    assert sum(extractor.seen) == seen == 600
    assert_equal(find(StandInExtractor(), None), computed)  # another object, the same extractor
    assert [path.name for path in Path("cache").iterdir()] == [statistics_file_name(extractor, SPEC, "test")]


def test_other_splits_preprocessings_and_extractors_have_files_of_their_own() -> None:
    data, other = StandInData(), StandInExtractor()
    other.classes += 1e-3
    binarized = DataSpec(name="stand_in", kind="image", shape=(1, 6, 6), value_range=(0, 1), preprocessing="binarized")
    names = {
        statistics_file_name(extractor, spec, split)
        for extractor in (StandInExtractor(), other)
        for spec in (SPEC, binarized)
        for split in ("val", "test")
    }
    assert len(names) == 8
    assert not torch.equal(find(StandInExtractor(), data, "val").mu, find(StandInExtractor(), data, "test").mu)
    with pytest.raises(ValueError, match="'stand_in'.*train.*'stand_in_extractor'.*cache"):
        find(StandInExtractor(), None, "train")


def test_other_images_under_the_same_name_are_computed_anew() -> None:
    first = find(StandInExtractor(), StandInData(size=600))
    second = find(StandInExtractor(), StandInData(size=400))
    assert (first.num_samples, second.num_samples) == (600, 400)


def test_what_ships_with_the_extractor_is_found_first_and_needs_no_data() -> None:
    extractor, data = StandInExtractor(), StandInData()
    path = ship_statistics(extractor, data, "test", "shipped")
    assert path.parent == Path("shipped")
    extractor.statistics_dir = "shipped"
    data_free = real_statistics(extractor, SPEC, "test", cache_dir="cache")
    assert_equal(data_free, compute_statistics(StandInExtractor(), data.images("test")[0]))
    assert not Path("cache").exists()


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "missing tensor", "other size"])
def test_damaged_files_are_named_and_computed_anew(damage: str) -> None:
    extractor, data = StandInExtractor(), StandInData()
    computed = find(extractor, data)
    path = Path("cache") / statistics_file_name(extractor, SPEC, "test")
    whole = path.read_bytes()
    if damage == "missing tensor":
        save_file({"mu": computed.mu}, path, metadata={"images_sha256": ""})
    elif damage == "other size":
        half = {"mu": computed.mu[:4], "sigma": computed.sigma[:4, :4], "features": computed.features}
        more = {"num_samples": torch.tensor(600), "inception_score": torch.ones(2)}
        save_file({name: value.contiguous() for name, value in (half | more).items()}, path, {"images_sha256": ""})
    else:
        path.write_bytes({"truncated": whole[:-100], "garbage": os.urandom(1000), "empty": b""}[damage])
    with pytest.warns(UserWarning, match=str(path)):
        assert_equal(find(extractor, data), computed)
    assert path.read_bytes() == whole
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=str(path)):
        read_statistics(path, 8)
    with (
        pytest.warns(UserWarning, match=str(path)),
        pytest.raises(ValueError, match=str(path)),
    ):
        find(extractor, None)


def test_an_interrupted_write_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find(StandInExtractor(), StandInData())
    assert list(Path("cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_does_not_stop_the_run() -> None:
    Path("cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="cache"):
        assert find(StandInExtractor(), StandInData()).num_samples == 600


def test_at_most_5000_features_are_kept() -> None:
    images = torch.randint(0, 256, (MAX_FEATURES + 300, 1, 6, 6), dtype=torch.uint8)
    found = compute_statistics(StandInExtractor(), images)
    assert found.features.shape == (MAX_FEATURES, 8)
    assert found.num_samples == MAX_FEATURES + 300
    for bad in (images.float(), images[:1], images[:0]):
        with pytest.raises(ValueError, match=re.escape(str(tuple(bad.shape)))):
            compute_statistics(StandInExtractor(), bad)


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", "mine")
    assert statistics_cache() == Path("mine/statistics")
    monkeypatch.delenv("GENERATIVE_ZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "cached")
    assert statistics_cache() == Path("cached/generative-zoo/statistics")
    hostile = DataSpec(name="../../etc/x", kind="image", shape=(1, 6, 6), value_range=(-1, 1))
    assert "/" not in statistics_file_name(StandInExtractor(), hostile, "test")
