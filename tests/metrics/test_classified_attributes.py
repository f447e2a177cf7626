"""A classifier of attributes beside the class: its loss, what it measures, and what it refuses."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from datamodules.spec import Batch, DataSpec
from lightning_modules import Classifier

ATTRIBUTES = (("half", ("left", "right", "both")), ("bright", ("no", "yes")))
SPEC = DataSpec(
    "shown", "image", (1, 8, 8), value_range=(-1.0, 1.0), num_classes=2, attributes=ATTRIBUTES, class_names=("a", "b")
)


def batch_of(attributes: list[list[int]]) -> Batch:
    num = len(attributes)
    x = torch.rand(num, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Batch(x, torch.arange(num) % 2, attributes=torch.tensor(attributes))


def classifier(**settings: Any) -> Classifier:
    torch.manual_seed(0)
    return Classifier.for_data(SPEC, width=2, max_shift=0, flip=False, label_smoothing=0.0, **settings)


def test_it_is_built_for_the_attributes_of_the_data() -> None:
    module = classifier().eval()
    assert module.hparams["attributes"] == {"half": 3, "bright": 2}
    features, logits = module.extract(torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8))
    shapes = {name: tuple(values.shape) for name, values in module.attribute_logits(features).items()}
    assert shapes == {"half": (5, 3), "bright": (5, 2)}
    assert logits.shape == (5, 2)
    with pytest.raises(ValueError, match=r"attributes=\{'half': 3, 'bright': 2\}.*'bright': 3"):
        module.check_data(replace(SPEC, attributes=(ATTRIBUTES[0], ("bright", ("no", "yes", "very")))))


def test_a_classifier_of_classes_alone_has_no_weights_for_attributes() -> None:
    module = Classifier(width=2)
    assert module.attribute_logits(torch.rand(2, module.num_features)) == {}
    assert not any("attribute" in key for key in module.state_dict())


def test_the_loss_is_the_mean_over_class_and_attributes_of_the_examples_that_have_them() -> None:
    module, batch = classifier().eval(), batch_of([[0, 1], [-1, 0], [2, 1]])
    assert batch.labels is not None
    features = module.features(batch.x)
    told = module.attribute_logits(features)
    of_class = F.cross_entropy(module.head(features), batch.labels)
    half = -(told["half"].log_softmax(1)[0, 0] + told["half"].log_softmax(1)[2, 2]) / 2
    bright = F.cross_entropy(told["bright"], torch.tensor([1, 0, 1]))
    losses = module.losses(batch)
    torch.testing.assert_close(sum(losses.values()), (of_class + half + bright) / 3)
    assert list(losses) == ["cross_entropy", "cross_entropy_half", "cross_entropy_bright"]


def test_a_batch_in_which_no_example_has_an_attribute_has_a_finite_loss() -> None:
    losses = classifier().eval().losses(batch_of([[-1, 1], [-1, 0]]))
    assert losses["cross_entropy_half"] == 0
    assert losses["cross_entropy_bright"].isfinite()


def test_held_out_accuracy_is_over_the_examples_that_have_the_attribute() -> None:
    module, batch = classifier().eval(), batch_of([[0, 1], [-1, 0], [2, 1]])
    values = module.held_out(batch, torch.arange(3), "val")
    found, weight = values["accuracy_half"]
    assert weight.tolist() == [1.0, 0.0, 1.0]
    told = module.attribute_logits(module.features(batch.x))["half"].argmax(1)
    assert found.tolist() == [float(told[0] == 0), 0.0, float(told[2] == 2)]
    assert values["accuracy_bright"][1].tolist() == [1.0, 1.0, 1.0]


def test_shifts_bring_in_the_background() -> None:
    shifted = Classifier(width=2, max_shift=2, ground=0.5).augment(torch.full((64, 1, 28, 28), -0.25))
    assert set(shifted.unique().tolist()) == {-0.25, 0.5}


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (None, "must have attributes, integers of shape .N, 2."),
        (torch.zeros(16, 2, dtype=torch.bool), "must have attributes, integers"),
        (torch.zeros(16, 3, dtype=torch.int64), "attributes"),
        (torch.tensor([[0, 2]] * 16), r"bright of a batch spans \[2, 2\]"),
        (torch.tensor([[-2, 0]] * 16), r"half of a batch spans \[-2, -2\]"),
    ],
)
def test_batches_with_other_attributes_are_refused(attributes: torch.Tensor | None, message: str) -> None:
    batch = batch_of([[0, 1]] * 16)
    with pytest.raises(ValueError, match=message):
        classifier().check_batch(replace(batch, attributes=attributes))
