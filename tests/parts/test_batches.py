"""Every form in which loaders yield batches, and what is said of the others."""

from collections import UserDict, namedtuple
from dataclasses import make_dataclass
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.spec import Batch
from lightning_modules.parts.batches import read_batch

X, Y, STEPS = torch.zeros(3, 2), torch.arange(3), torch.tensor([2, 1, 2])
EXAMPLES, SEQUENCES = ("x", "labels"), ("x", "lengths", "continues")
Pair = namedtuple("Pair", ["label", "image"])
Unnamed = namedtuple("Unnamed", ["first", "second"])


def same(batch: Batch, **fields: Any) -> bool:
    present = {name: value for name, value in vars(batch).items() if value is not None}
    return present.keys() == fields.keys() and all(present[name] is value for name, value in fields.items())


@pytest.mark.parametrize("key", ["x", "image", "images", "img", "pixel_values", "input", "inputs", "data"])
@pytest.mark.parametrize("label", ["y", "label", "labels", "target", "targets"])
def test_dictionaries_hold_examples_and_labels_under_the_usual_names(key: str, label: str) -> None:
    assert same(read_batch({key: X}, EXAMPLES), x=X)
    assert same(read_batch({label: Y, key: X, "path": ["a", "b", "c"]}, EXAMPLES), x=X, labels=Y)
    assert same(read_batch(UserDict({key: X, label: Y}), EXAMPLES), x=X, labels=Y)


def test_sequences_and_positions() -> None:
    for batch in (X, [X], (X,), (X, None)):
        assert same(read_batch(batch, EXAMPLES), x=X)
    for batch in ([X, Y], (X, Y)):
        assert same(read_batch(batch, EXAMPLES), x=X, labels=Y)
    assert same(read_batch((X, STEPS), SEQUENCES), x=X, lengths=STEPS)
    assert same(read_batch({"input_ids": X, "length": STEPS}, SEQUENCES), x=X, lengths=STEPS)
    own = Batch(X, Y)
    assert read_batch(own, EXAMPLES) is own


def test_the_batch_of_a_list_of_one_loader_is_that_batch() -> None:
    own = Batch(X, Y)
    assert read_batch([own], EXAMPLES) is own
    assert same(read_batch([[X, Y]], EXAMPLES), x=X, labels=Y)
    assert same(read_batch([{"image": X}], EXAMPLES), x=X)


def test_named_tuples_are_read_by_name_where_names_are_known() -> None:
    assert same(read_batch(Pair(label=Y, image=X), EXAMPLES), x=X, labels=Y)
    assert same(read_batch(Unnamed(X, Y), EXAMPLES), x=X, labels=Y)


def test_a_mask_gives_the_lengths() -> None:
    mask = torch.tensor([[1, 1], [1, 0], [0, 0]])
    batch = read_batch({"input_ids": X, "attention_mask": mask}, SEQUENCES)
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [2, 1, 0]
    assert read_batch({"pixel_values": X, "attention_mask": mask}, EXAMPLES).lengths is None
    for wrong in (mask.flip(1), torch.tensor([[1, 0, 1]]), torch.ones(3)):
        with pytest.raises(ValueError, match="attention_mask must be 1 on the first steps"):
            read_batch({"input_ids": X, "attention_mask": wrong}, SEQUENCES)


@pytest.mark.parametrize(
    ("batch", "named"),
    [
        (np.zeros((3, 2)), "a numpy.ndarray"),
        ({"image": np.zeros((3, 2)), "label": Y}, "{'image': numpy.ndarray, 'label': torch.Tensor}"),
        ({"image": {"pixels": X}, "label": Y}, "'image': dict"),
        ({"photo": X}, "{'photo': torch.Tensor}"),
        ({"image": [X, X]}, "'image': list"),
        ([X, Y, Y], "a list of torch.Tensor, torch.Tensor, torch.Tensor"),
        ([X, "cat"], "a list of torch.Tensor, str"),
        ([[X, Y], [X, Y]], "a list of list, list"),
        ([], "a list of nothing"),
        ((), "a tuple of nothing"),
        ("image", "a str"),
        (None, "a NoneType"),
        (3.0, "a float"),
        (make_dataclass("Sample", ["x"])(X), "Sample"),
    ],
)
def test_other_forms_are_named(batch: Any, named: str) -> None:
    with pytest.raises(ValueError, match="A batch must be a tensor") as error:
        read_batch(batch, EXAMPLES)
    assert named in str(error.value)
    assert "(x, labels)" in str(error.value)
