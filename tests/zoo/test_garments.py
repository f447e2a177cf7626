"""Images and features that studies of Fashion-MNIST share: a file of features is read where it is of the same ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from datamodules import FashionMNIST
from tests.standins import StandInExtractor
from zoo.studies import garments


def test_features_are_kept_of_many_images_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", str(tmp_path))
    extractor, images = StandInExtractor(), torch.randint(256, (garments.LEAST_KEPT, 1, 6, 6), dtype=torch.uint8)
    found = garments.extracted(extractor, images)
    assert garments.file_of(extractor, images).is_file()

    monkeypatch.setattr(garments, "extract_images", lambda *arguments: pytest.fail("extracted again"))
    again = garments.extracted(extractor, images)
    assert torch.equal(again.features, found.features)
    assert torch.equal(again.logits, found.logits)


def test_the_file_is_that_of_these_images_and_this_extractor() -> None:
    extractor, images = StandInExtractor(), torch.zeros(4, 1, 6, 6, dtype=torch.uint8)
    brighter = images.clone()
    brighter[0, 0, 0, 0] = 1
    files = [garments.file_of(extractor, x) for x in (images, brighter, images.view(1, 4, 6, 6))]
    assert len(set(files)) == 3


def test_few_images_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", str(tmp_path))
    garments.extracted(StandInExtractor(), torch.zeros(garments.LEAST_KEPT - 1, 1, 6, 6, dtype=torch.uint8))
    assert list(tmp_path.iterdir()) == []


def test_a_subset_is_of_the_split_and_has_its_labels(on_disk: Callable[..., None]) -> None:
    on_disk(FashionMNIST())
    (all_images, all_labels), (images, labels) = garments.data().images("val"), garments.images("val", 50, seed=1)
    for image, label in zip(images, labels, strict=True):
        same = (all_images == image).flatten(1).all(1)
        assert same.any()
        assert label in all_labels[same]
    assert not torch.equal(images, garments.images("val", 50, seed=2)[0])
