"""The classifier: what it extracts, how it augments, that it learns."""

import re

import pytest
import torch

from datamodules import SyntheticImages
from lightning_modules import Classifier
from lightning_modules.parts.capabilities import FeatureExtractor
from lightning_modules.parts.noise import Noise
from tests.standins import quiet_trainer


def test_it_extracts_features_and_logits_of_uint8_images() -> None:
    classifier = Classifier(width=2, num_classes=5).eval()
    images = torch.randint(256, (3, 1, 28, 28), dtype=torch.uint8)
    features, logits = classifier.extract(images)
    assert isinstance(classifier, FeatureExtractor)
    assert features.shape == (3, classifier.num_features) == (3, 8)
    torch.testing.assert_close(logits, classifier(images.float() / 127.5 - 1))
    torch.testing.assert_close(logits, classifier.head(features))


@pytest.mark.parametrize("images", [torch.rand(2, 1, 28, 28), torch.zeros(2, 3, 28, 28, dtype=torch.uint8)])
def test_it_refuses_other_images(images: torch.Tensor) -> None:
    with pytest.raises(
        ValueError, match=r"uint8.*\[1, 28, 28\].*" + re.escape(f"{images.dtype} of {list(images.shape[1:])}")
    ):
        Classifier(width=2).extract(images)


def test_augmentation_shifts_and_mirrors_each_image_on_its_own() -> None:
    classifier = Classifier(width=2, max_shift=2)

    class Chosen(Noise):
        def __init__(self) -> None:
            self.shifts = iter([torch.tensor([2, 0, 4]), torch.tensor([2, 3, 2])])

        def integers(self, high: int, num: int, device: torch.device) -> torch.Tensor:
            assert high == 5
            return next(self.shifts)

        def uniform(self, *shape: int, device: torch.device) -> torch.Tensor:
            return torch.tensor([[0.9], [0.9], [0.1]])

    classifier.noise = Chosen()
    x = torch.rand(3, 1, 28, 28)
    y = classifier.augment(x)
    assert torch.equal(y[0], x[0])
    assert torch.equal(y[1, :, 2:, :-1], x[1, :, :-2, 1:])
    assert (y[1, :, :2] == -1).all()
    assert (y[1, :, :, -1] == -1).all()
    assert torch.equal(y[2, :, :-2], x[2, :, 2:].flip(-1))


def test_augmentation_can_be_turned_off() -> None:
    x = torch.rand(4, 1, 28, 28)
    assert torch.equal(Classifier(width=2, max_shift=0, flip=False).augment(x), x)


def test_it_learns_to_tell_simple_images_apart() -> None:
    torch.manual_seed(0)
    data = SyntheticImages(shape=[1, 28, 28], num_classes=3, size=512, batch_size=32)
    classifier = Classifier.for_data(data.spec, width=4, max_shift=0, flip=False)
    assert classifier.hparams["num_classes"] == 3
    assert classifier.extractor_name == data.spec.name
    trainer = quiet_trainer(max_epochs=-1, max_steps=60)
    trainer.fit(classifier, data)
    (measured,) = trainer.test(classifier, data, verbose=False)
    assert measured["test/accuracy"] > 0.8  # chance is 1/3


def test_it_needs_classes_and_a_known_length() -> None:
    with pytest.raises(ValueError, match="synthetic"):
        Classifier.for_data(SyntheticImages(shape=[1, 28, 28], size=64).spec)
    data = SyntheticImages(shape=[1, 28, 28], num_classes=3, size=64, val_size=16, batch_size=16)
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(Classifier.for_data(data.spec, width=2), data)
    assert trainer.lr_scheduler_configs[0].scheduler.state_dict()["total_steps"] == trainer.global_step
    with pytest.raises(ValueError, match="max_steps.*max_epochs"):
        quiet_trainer(max_epochs=-1).fit(Classifier.for_data(data.spec, width=2), data)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": [2]}, r"shape=\[2\]"),
        ({"num_classes": 1}, "num_classes=1"),
        ({"width": 0}, "width=0"),
        ({"ground": 2.0}, r"ground=2\.0"),
        ({"attributes": {"tone": 6, "style": 1}}, "'style' must have at least 2"),
    ],
)
def test_bad_hyperparameters_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Classifier(**settings)  # type: ignore[arg-type]
