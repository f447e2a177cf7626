"""Synthetic images: that they have structure, and that their arguments are checked."""

import pytest
import torch

from datamodules import SyntheticImages


def test_synthetic_images_have_structure() -> None:
    """Neighbouring pixels are similar, and the means of the classes differ; noise has neither."""
    images, labels = SyntheticImages(shape=[3, 16, 16], num_classes=4).images("train")
    x = images.double() / 255
    assert (x.diff(dim=-1).abs().mean() < 0.5 * (x - x.flip(0)).abs().mean()).item()
    means = torch.stack([x[labels == label].mean(0) for label in range(4)])
    assert torch.cdist(means.flatten(1), means.flatten(1)).fill_diagonal_(9).min() > 0.5
    assert set(labels.tolist()) == {0, 1, 2, 3}
    assert SyntheticImages().images("train")[1].unique().tolist() == [0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": [2, 8, 8]}, r"shape=\[2, 8, 8\]"),
        ({"shape": [1, 8]}, r"shape=\[1, 8\]"),
        ({"size": 0}, "size=0"),
        ({"num_classes": 0}, "num_classes=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"val_size": -1}, "val_size=-1"),
        ({"test_size": -1}, "test_size=-1"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticImages(**arguments)  # type: ignore[arg-type]
