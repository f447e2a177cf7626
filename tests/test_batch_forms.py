"""Whatever form of batch a loader yields, every method computes the same losses and the same held-out numbers."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.spec import Batch
from lightning_modules import METHODS, GaussianMixture
from lightning_modules.autoregressive.sequence_module import SequenceModule
from lightning_modules.base import ZooModule
from tests import training

NUM = 8
SMALL = {
    "width": 4, "latent_dim": 2, "hidden": 4, "num_hidden": 4, "num_components": 2, "steps": 2, "buffer_size": 16,
    "num_scales": 2, "val_particles": 3, "critic_steps": 1,
}  # fmt: skip

FORMS: dict[str, Callable[[Batch], Any]] = {
    "tuple": lambda batch: tuple(present(batch).values()),
    "list": lambda batch: list(present(batch).values()),
    "dictionary": lambda batch: present(batch),
}
FORMS_OF_EXAMPLES: dict[str, Callable[[Batch], Any]] = {
    "bare tensor": lambda batch: batch.x,
    "tuple of one": lambda batch: (batch.x,),
    "list of one": lambda batch: [batch.x],
    "no labels": lambda batch: (batch.x, None),
}


def present(batch: Batch) -> dict[str, Tensor]:
    """The fields that a batch has."""
    return {name: value for name, value in vars(batch).items() if value is not None}


def without_labels() -> list[str]:
    """Methods that can be built without classes."""
    classes = {name: inspect.signature(method).parameters.get("num_classes") for name, method in METHODS.items()}
    return [name for name, parameter in classes.items() if parameter is None or parameter.default is None]


def with_labels() -> list[str]:
    """Methods that can be built for classes."""
    return [name for name, method in METHODS.items() if "num_classes" in inspect.signature(method).parameters]


def build(method: str, **settings: Any) -> tuple[ZooModule, Tensor]:
    """A small model that is the same each time, and eight examples of its data."""
    torch.manual_seed(0)
    small = {key: value for key, value in SMALL.items() if key in inspect.signature(METHODS[method]).parameters}
    module, shape = training.build(method, **{**small, **settings})
    data = training.TinyData(shape, **training.data_of(method))
    x = data.source("train").data[:NUM]  # type: ignore[attr-defined]
    if isinstance(module, GaussianMixture):
        module.start([x])
    return module, x


class Losses(Callback):
    """Remembers what each training step logs."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        logged = trainer.callback_metrics.items()
        self.steps.append({name: value.item() for name, value in logged if name.startswith("train/")})


def measured(module: ZooModule, batches: list[Any]) -> list[dict[str, float]]:
    """Trains on batches, and returns what each step logs, and what validation on the same batches does."""
    torch.manual_seed(1)
    loader: Any = DataLoader(range(len(batches)), collate_fn=lambda chosen: batches[chosen[0]])  # type: ignore[arg-type]
    losses = Losses()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=len(batches),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        callbacks=[losses],
    )
    trainer.fit(module, loader, loader)
    held_out = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    return [*losses.steps, held_out]


def assert_all_alike(method: str, batches: list[Batch], forms: dict[str, Any], **settings: Any) -> list[Any]:
    """Compares every form with the ``Batch`` that has the same fields, whose numbers are returned."""
    expected = measured(build(method, **settings)[0], batches)
    assert all(step for step in expected)
    for name, form in forms.items():
        assert measured(build(method, **settings)[0], [form(batch) for batch in batches]) == expected, name
    return expected


@pytest.mark.parametrize("method", without_labels())
def test_examples_alone_are_read_in_every_form(method: str) -> None:
    _, x = build(method)
    assert_all_alike(method, [Batch(x)], FORMS_OF_EXAMPLES | FORMS)


@pytest.mark.parametrize("method", with_labels())
def test_examples_with_labels_are_read_in_every_form(method: str) -> None:
    _, x = build(method, num_classes=2)
    labels = torch.arange(NUM) % 2
    same = assert_all_alike(method, [Batch(x, labels)], FORMS, num_classes=2)
    assert measured(build(method, num_classes=2)[0], [Batch(x, 1 - labels)]) != same, "the labels count"


SEQUENCE_METHODS = [name for name, method in METHODS.items() if issubclass(method, SequenceModule)]


@pytest.mark.parametrize("method", SEQUENCE_METHODS)
def test_sequences_with_lengths_are_read_in_every_form(method: str) -> None:
    _, x = build(method)
    lengths = torch.arange(NUM) % x.shape[1] + 1
    same = assert_all_alike(method, [Batch(x, lengths=lengths)], FORMS)
    assert measured(build(method)[0], [Batch(x)]) != same, "the lengths count"


@pytest.mark.parametrize("method", SEQUENCE_METHODS)
def test_streams_are_read_in_every_form(method: str) -> None:
    _, x = build(method)
    lengths = torch.full((NUM,), x.shape[1])
    first = Batch(x, lengths=lengths, continues=torch.zeros(NUM, dtype=torch.bool))
    second = Batch(x.flip(0), lengths=lengths, continues=torch.ones(NUM, dtype=torch.bool))
    same = assert_all_alike(method, [first, second], FORMS)
    broken = Batch(second.x, lengths=lengths, continues=first.continues)
    assert measured(build(method)[0], [first, broken]) != same, "what continues counts"
