"""How often the judge names the class that was asked for, on a model and a judge whose answers are known."""

import pytest
import torch
from torch import Tensor, nn

from datamodules import DataSpec
from lightning_modules.callbacks import evaluate_classes

SPEC = DataSpec(name="levels", kind="image", shape=(1, 2, 2), value_range=(-1.0, 1.0), num_classes=4)


class Levels(nn.Module):
    """Class k is a constant picture; a class in ``wrong`` comes out as the next one."""

    def __init__(self, wrong: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.wrong = torch.tensor(wrong, dtype=torch.long)

    def sample(self, num_samples: int, *, labels: Tensor | None = None, generator: object = None) -> Tensor:
        assert labels is not None
        drawn = torch.where(torch.isin(labels, self.wrong), (labels + 1) % 4, labels)
        return (drawn / 3 * 2 - 1).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


class Reader(nn.Module):
    """Reads the class off the grey level."""

    extractor_name, num_features = "reader", 1

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        level = images.float().mean((1, 2, 3))
        return level[:, None], -(level[:, None] - torch.arange(4) * 85.0).abs()


@pytest.mark.parametrize(("wrong", "expected"), [((), 1.0), ((2,), 0.75), ((0, 1, 2, 3), 0.0)])
def test_it_is_the_share_of_pictures_whose_class_was_named(wrong: tuple[int, ...], expected: float) -> None:
    values = evaluate_classes(Levels(wrong), Reader(), spec=SPEC, num_samples=1000)
    assert values == {"test/class_accuracy-reader-1k": pytest.approx(expected, abs=0.01)}


def test_data_without_classes_are_refused() -> None:
    spec = DataSpec(name="plain", kind="image", shape=(1, 2, 2), value_range=(-1.0, 1.0))
    with pytest.raises(ValueError, match="plain has no classes"):
        evaluate_classes(Levels(), Reader(), spec=spec)
