"""Whatever form of batch a loader yields, every method computes the same losses and the same held-out numbers."""

import inspect
from collections.abc import Callable, Sequence
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
from lightning_modules.callbacks import EMA
from lightning_modules.parts.capabilities import SupportsAveraging
from tests import training
from tests.adversarial import tiny_loop
from tests.captioned import CAPTIONED
from zoo.record import TrainingRecord

NUM = 8
SMALL = {
    "width": 4, "latent_dim": 2, "hidden": 4, "num_hidden": 4, "num_components": 2, "steps": 2, "buffer_size": 16,
    "num_scales": 2, "val_particles": 3, "test_particles": 3, "critic_steps": 1, "schedule": 100, "num_chains": 10,
    "num_reversed": 4,
}  # fmt: skip

FORMS: dict[str, Callable[[Batch], Any]] = {
    "tuple": lambda batch: tuple(present(batch).values()),
    "list": lambda batch: list(present(batch).values()),
    "dictionary": lambda batch: present(batch),
    "Hugging Face": lambda batch: {USUAL.get(name, name): value for name, value in present(batch).items()},
}
USUAL = {"x": "image", "labels": "label", "lengths": "length"}
"""How dictionaries of Hugging Face name the fields."""
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
    """Methods that can be built without classes, and without captions, which plain tuples do not have."""
    signatures = {name: inspect.signature(method).parameters for name, method in METHODS.items()}
    classes = {name: found.get("num_classes", found.get("num_styles")) for name, found in signatures.items()}
    names = [name for name, parameter in classes.items() if parameter is None or parameter.default is None]
    return [name for name in names if name not in CAPTIONED]


def with_labels() -> list[tuple[str, str]]:
    """Methods that can be built for classes without captions, with the name of the number of classes."""
    signatures = {name: inspect.signature(method).parameters for name, method in METHODS.items()}
    keys = ("num_classes", "num_styles")
    return [(name, key) for name in signatures if name not in CAPTIONED for key in keys if key in signatures[name]]


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


def measured(module: ZooModule, batches: list[Any], callbacks: Sequence[Callback] = ()) -> list[dict[str, float]]:
    """Trains on batches, and returns what each step logs, and what validation and tests on the same batches do."""
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
        callbacks=[losses, *callbacks],
    )
    trainer.fit(module, loader, loader)
    held_out = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    (tested,) = trainer.test(module, loader, verbose=False)
    return [*losses.steps, held_out, tested]


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


@pytest.mark.parametrize(("method", "key"), with_labels())
def test_examples_with_labels_are_read_in_every_form(method: str, key: str) -> None:
    _, x = build(method, **{key: 2})
    labels = torch.arange(NUM) % 2
    same = assert_all_alike(method, [Batch(x, labels)], FORMS, **{key: 2})
    assert measured(build(method, **{key: 2})[0], [Batch(x, 1 - labels)]) != same, "the labels count"


@pytest.mark.parametrize("form", [*FORMS, *FORMS_OF_EXAMPLES])
def test_networks_of_a_users_own_train_on_all_examples_in_every_form(form: str) -> None:
    """In a game without a named method, averaged, recorded, validated and tested."""
    games, x = [tiny_loop.build(), tiny_loop.build()], tiny_loop.EXAMPLES[:NUM]
    found = []
    for module, batch in zip(games, (Batch(x), (FORMS | FORMS_OF_EXAMPLES)[form](Batch(x))), strict=True):
        ema, record = EMA(half_life_images=40), TrainingRecord()
        found.append(measured(module, [batch, batch], [ema, record]))
        assert ema.images == record.examples == 2 * NUM
        assert [len(seen) for seen in module.discriminator.inputs[:2]] == [NUM, NUM]  # type: ignore[union-attr,index]
    assert found[0] == found[1]
    assert torch.equal(tiny_loop.weights(games[0]), tiny_loop.weights(games[1]))


@pytest.mark.parametrize("method", ["WGANGP", "VAE", "RBM", "Gaussian", "TeacherForcing", "Classifier"])
def test_averages_and_records_count_the_examples_of_every_form(method: str) -> None:
    module, x = build(method)
    forms = FORMS if method == "Classifier" else FORMS_OF_EXAMPLES | FORMS
    fields = {"labels": torch.arange(NUM) % 2} if method == "Classifier" else {}
    for form in forms.values():
        module, _ = build(method)
        ema, record = EMA(half_life_images=40), TrainingRecord()
        averaged = isinstance(module, SupportsAveraging)
        measured(module, [form(Batch(x, **fields))], [ema, record] if averaged else [record])
        assert record.examples == NUM
        assert ema.images == NUM * averaged


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
