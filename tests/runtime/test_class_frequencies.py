"""The frequencies of classes in data without a spec: counted where the labels are at hand, else said to be unknown."""

import logging
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from datamodules.loader import TensorSource, TrainingLoader
from datamodules.spec import DataSpec
from lightning_modules import SNGAN, PixelCNNPlusPlus
from lightning_modules.runtime.class_frequencies import take_class_frequencies
from tests.standins import quiet_trainer

LABELS = torch.tensor([0, 0, 0, 1, 0, 2, 2, 0])
X = torch.rand(len(LABELS), 2) * 2 - 1
SHARES = [5 / 8, 1 / 8, 2 / 8]
PAIRS = TensorDataset(X, LABELS)


class WithLabels(Dataset[Any]):
    """A data set that keeps labels under an attribute, as those of torchvision do."""

    def __init__(self, name: str, labels: Any, **attributes: Any) -> None:
        for key, value in {name: labels, **attributes}.items():
            setattr(self, key, value)

    def __len__(self) -> int:
        return len(LABELS)

    def __getitem__(self, index: int) -> Any:
        return X[index], LABELS[index]


class Table(WithLabels):
    """A data set of columns, as those of Hugging Face are."""

    def __init__(self) -> None:
        super().__init__("column_names", ["image", "label"])

    def __getitem__(self, index: Any) -> Any:
        return LABELS.tolist() if index == "label" else {"image": X[index], "label": LABELS[index]}


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(PAIRS)


class Model(LightningModule):
    """Only what is asked of a model with classes."""

    def __init__(self, num_classes: int | None = 3) -> None:
        super().__init__()
        uniform = None if num_classes is None else torch.full((num_classes,), 1 / num_classes)
        self.register_buffer("class_probabilities", uniform)


COUNTED: dict[str, Any] = {
    "tensors": DataLoader(PAIRS, 2),
    "shuffled": DataLoader(PAIRS, 2, shuffle=True),
    "targets": DataLoader(WithLabels("targets", LABELS.tolist()), 2),
    "labels": DataLoader(WithLabels("labels", LABELS.numpy()), 2),
    "table": DataLoader(Table(), 2),
    "part": DataLoader(Subset(TensorDataset(torch.cat([X, X]), torch.cat([LABELS, LABELS + 1])), range(8)), 2),
    "sum": DataLoader(ConcatDataset([PAIRS, WithLabels("targets", LABELS)]), 2),
    "own": TrainingLoader(TensorSource(X, LABELS), 2),
}
UNKNOWN: dict[str, Any] = {
    "iterable": DataLoader(Endless(), 2),
    "weighted": DataLoader(PAIRS, 2, sampler=WeightedRandomSampler([1.0] * 8, 8)),
    "chosen": DataLoader(PAIRS, 2, sampler=SubsetRandomSampler([1, 2])),
    "transformed": DataLoader(WithLabels("targets", LABELS, target_transform=abs), 2),
    "no labels": DataLoader(TensorDataset(X), 2),
    "real numbers": DataLoader(TensorDataset(X, LABELS / 3), 2),
    "too many classes": DataLoader(TensorDataset(X, LABELS + 1), 2),
    "half known": DataLoader(ConcatDataset([PAIRS, WithLabels("other", LABELS)]), 2),
    "no loader": [(X, LABELS)],
}


@pytest.mark.parametrize("kind", COUNTED)
def test_labels_at_hand_are_counted(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    module = Model()
    with caplog.at_level(logging.INFO):
        take_class_frequencies(module, COUNTED[kind])
    assert module.get_buffer("class_probabilities").tolist() == pytest.approx(SHARES)
    assert not caplog.records


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_is_not_known_is_said_in_one_line(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    module = Model()
    with caplog.at_level(logging.INFO):
        take_class_frequencies(module, UNKNOWN[kind])
    assert module.get_buffer("class_probabilities").tolist() == pytest.approx([1 / 3] * 3)
    (record,) = caplog.records
    assert "3 classes equally often" in record.message
    assert "\n" not in record.message


def test_models_without_classes_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        take_class_frequencies(Model(None), UNKNOWN["iterable"])
    assert not caplog.records


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`:UserWarning")
@pytest.mark.parametrize("method", [SNGAN, PixelCNNPlusPlus])
def test_a_class_conditional_model_samples_as_its_loader_does(method: Any) -> None:
    x: Tensor = (torch.rand(8, 1, 8, 8) * 255).round() / 127.5 - 1
    small: dict[str, Any] = {"width": 4} if method is SNGAN else {"width": 4, "num_scales": 2}
    spec = DataSpec("tiny", "image", (1, 8, 8), (-1.0, 1.0), num_classes=3)
    architecture = {"architecture": "resnet"} if method is SNGAN else {}
    module = method.for_data(spec, num_classes=3, **small, **architecture)
    quiet_trainer(max_steps=1).fit(module, DataLoader(TensorDataset(x, LABELS), 4))
    assert module.class_probabilities.tolist() == pytest.approx(SHARES)
