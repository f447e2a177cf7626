"""Batches: their fields in order, their way to a device, and those that the loaders of every datamodule yield."""

from collections.abc import Callable

import pytest
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning.pytorch.utilities.data import extract_batch_size
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data._utils.pin_memory import pin_memory

from datamodules import DATAMODULES, Batch, ZooDataModule
from tests.datamodules.loaders import loader_of

FIELDS = ("x", "labels", "tokens", "lengths", "continues", "attributes")
KINDS_WITH_LABELS = ("image", "points")


def full() -> Batch:
    return Batch(
        x=torch.rand(3, 5, 2),
        labels=torch.tensor([1, 0, 2]),
        tokens=torch.zeros(3, 7, dtype=torch.int64),
        lengths=torch.tensor([5, 2, 1]),
        continues=torch.tensor([True, False, True]),
        attributes=torch.tensor([[0, 1], [1, -1], [0, 0]]),
    )


def present(batch: Batch) -> list[str]:
    return [field for field in FIELDS if getattr(batch, field) is not None]


def test_fields_that_are_not_given_are_none() -> None:
    batch = Batch(torch.rand(3, 2))
    assert present(batch) == ["x"]
    assert [getattr(batch, field) for field in FIELDS[1:]] == [None] * 5


@pytest.mark.parametrize("given", [FIELDS, ("x",), ("x", "labels"), ("x", "lengths", "continues"), ("x", "tokens")])
def test_a_batch_iterates_and_indexes_over_the_present_fields_in_order(given: tuple[str, ...]) -> None:
    values = {field: getattr(full(), field) for field in given}
    batch = Batch(**values)
    assert len(batch) == len(given)
    assert all(ours is theirs for ours, theirs in zip(batch, values.values(), strict=True))
    for i, value in enumerate(values.values()):
        assert batch[i] is batch[i - len(given)] is value
    with pytest.raises(IndexError):
        batch[len(given)]


def test_a_batch_unpacks() -> None:
    batch = full()
    x, labels = Batch(batch.x, batch.labels)
    assert x is batch.x
    assert labels is batch.labels
    x, lengths, continues = Batch(batch.x, lengths=batch.lengths, continues=batch.continues)
    assert (lengths is batch.lengths, continues is batch.continues) == (True, True)
    with pytest.raises(ValueError, match="2"):
        x, labels = Batch(batch.x)


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("given", [FIELDS, ("x",), ("x", "lengths", "continues")])
def test_lightning_moves_every_field_to_a_device(device: str, given: tuple[str, ...]) -> None:
    batch = Batch(**{field: getattr(full(), field) for field in given})
    moved = move_data_to_device(batch, torch.device(device))
    assert type(moved) is Batch
    assert present(moved) == list(given)
    assert {value.device.type for value in moved} == {device}
    assert {value.device.type for value in batch} == {"cpu"}
    for before, after in zip(batch, moved, strict=True):
        assert (before.shape, before.dtype) == (after.shape, after.dtype)


def test_lightning_reads_the_number_of_examples_off_a_batch() -> None:
    assert extract_batch_size(full()) == 3
    assert extract_batch_size(Batch(torch.rand(4, 2), labels=torch.zeros(4))) == 4


def test_a_dataloader_pins_every_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """Page-locked memory needs an accelerator, so a stand-in changes the sign of tensors that are pinned."""
    monkeypatch.setattr(Tensor, "pin_memory", lambda self, device=None: -self)
    batch = Batch(torch.rand(3, 2) + 1, lengths=torch.tensor([2, 1, 3]))
    pinned = pin_memory(batch)
    assert type(pinned) is Batch
    assert present(pinned) == ["x", "lengths"]
    assert torch.equal(pinned.x, -batch.x)
    assert pinned.lengths is not None
    assert pinned.lengths.tolist() == [-2, -1, -3]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_pinned_batches_reach_the_gpu() -> None:
    examples = [Batch(torch.rand(3, 2), lengths=torch.tensor([2, 1, i])) for i in range(2)]
    for given, batch in zip(examples, DataLoader(examples, batch_size=None, pin_memory=True), strict=True):  # type: ignore[arg-type]
        assert type(batch) is Batch
        assert all(value.is_pinned() for value in batch)
        moved = move_data_to_device(batch, torch.device("cuda"))
        assert {value.device.type for value in moved} == {"cuda"}
        assert torch.equal(moved.x.cpu(), given.x)


def expected_fields(data: ZooDataModule, streams: bool) -> list[str]:
    if data.spec.is_captioned:
        return ["x", "labels", "tokens"]
    if data.spec.kind in KINDS_WITH_LABELS:
        return ["x", "labels"]
    return ["x", "lengths", "continues"] if streams else ["x", "lengths"]


def check(batch: Batch, data: ZooDataModule, fields: list[str]) -> None:
    """Checks the fields, types, shapes and ranges of one batch against the spec of its datamodule."""
    spec, num = data.spec, len(batch.x)
    assert type(batch) is Batch
    assert present(batch) == fields
    assert batch.x.dtype == (torch.int64 if spec.kind == "tokens" else torch.float32)
    if spec.value_range is not None:
        assert spec.value_range[0] <= batch.x.min() <= batch.x.max() <= spec.value_range[1]
    if batch.labels is not None:
        assert batch.x.shape[1:] == spec.shape
        assert (batch.labels.shape, batch.labels.dtype) == ((num,), torch.int64)
        assert 0 <= batch.labels.min() <= batch.labels.max() < (spec.num_classes or 1)
    if batch.tokens is not None:
        assert (len(batch.tokens), batch.tokens.dtype) == (num, torch.int64)
        assert 0 <= batch.tokens.min() <= batch.tokens.max() <= len(spec.vocabulary)
        padding = batch.tokens == 0
        assert torch.equal(padding, padding.long().cummax(1).values.bool())  # at the end alone
        assert not padding[:, 0].any()
    if batch.lengths is not None:
        assert batch.x.shape[2:] == spec.shape[1:]
        assert (batch.lengths.shape, batch.lengths.dtype) == ((num,), torch.int64)
        assert 1 <= batch.lengths.min() <= batch.lengths.max() == batch.x.shape[1] <= spec.shape[0]
        padding = torch.arange(batch.x.shape[1]) >= batch.lengths[:, None]
        assert not batch.x[padding].any()
    if batch.continues is not None:
        assert (batch.continues.shape, batch.continues.dtype) == ((num,), torch.bool)
    if spec.kind == "tokens":
        assert 0 <= batch.x.min() <= batch.x.max() < len(spec.vocabulary)


@pytest.mark.parametrize("name", sorted(DATAMODULES))
def test_every_loader_yields_batches_with_the_right_fields(name: str, small_data: Callable[..., ZooDataModule]) -> None:
    data = small_data(name)
    text = name in ("TextFile", "TinyShakespeare")
    for split in ("train", "val", "test"):
        loader = loader_of(data, split)
        batches = list(loader)
        assert len(batches) == len(loader) > 0
        for batch in batches:
            check(batch, data, expected_fields(data, streams=text and split != "train"))


@pytest.mark.parametrize("name", ["TextFile", "TinyShakespeare"])
def test_text_says_in_streams_alone_whether_rows_continue(name: str, small_data: Callable[..., ZooDataModule]) -> None:
    for training, evaluation in (("streams", "windows"), ("windows", "streams")):
        data = small_data(name, training=training, evaluation=evaluation)
        for split, arrangement in (("train", training), ("val", evaluation), ("test", evaluation)):
            for k, batch in enumerate(loader_of(data, split)):
                check(batch, data, expected_fields(data, arrangement == "streams"))
                if batch.continues is not None:
                    assert batch.continues.all() if k else not batch.continues.any()


@pytest.mark.parametrize("form", [{"binarize": True}, {"dequantize": True}, {"channels_last": True}])
def test_images_in_every_form_keep_their_labels(
    form: dict[str, bool], small_data: Callable[..., ZooDataModule]
) -> None:
    data, plain = small_data("CIFAR10", **form), small_data("CIFAR10")
    for batch, same in zip(data.train_dataloader(), plain.train_dataloader(), strict=True):
        check(batch, data, ["x", "labels"])
        assert batch.labels is not None
        assert same.labels is not None
        assert torch.equal(batch.labels, same.labels)
