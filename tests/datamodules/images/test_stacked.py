from pathlib import Path

import pytest
import torch

from datamodules import FashionMNIST, StackedFashionMNIST
from tests.datamodules.small_data import described, idx_files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    files = idx_files()
    for name, body in files.items():
        (tmp_path / name).write_bytes(body)
    monkeypatch.setattr(FashionMNIST, "dataset", described("Small", files))
    return str(tmp_path)


def test_channels_hold_the_garments_and_the_label_their_classes(folder: str) -> None:
    garments, stacks = FashionMNIST(data_dir=folder, val_size=10), StackedFashionMNIST(data_dir=folder, val_size=10)
    garments.setup()
    stacks.setup()
    assert stacks.spec.shape == (3, 28, 28)
    assert stacks.spec.num_classes == 1000
    for split in ("train", "val", "test"):
        single, classes = garments.images(split)
        images, labels = stacks.images(split)
        assert len(images) == len(single)
        found = {image.numpy().tobytes(): int(label) for image, label in zip(single[:, 0], classes, strict=True)}
        for image, label in zip(images, labels, strict=True):
            digits = [found[channel.numpy().tobytes()] for channel in image]
            assert int(label) == 100 * digits[0] + 10 * digits[1] + digits[2]
        for channel in range(3):  # each garment once
            assert {image.numpy().tobytes() for image in images[:, channel]} == set(found)


def test_orders_of_channels_differ_and_are_those_of_the_seed(folder: str) -> None:
    def images(seed: int) -> torch.Tensor:
        data = StackedFashionMNIST(data_dir=folder, val_size=10, seed=seed)
        data.setup()
        return data.images("test")[0]

    assert torch.equal(images(0), images(0))
    assert not torch.equal(images(0), images(1))
    assert not torch.equal(images(0)[:, 0], images(0)[:, 1])
