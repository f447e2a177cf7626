"""What is refused or said before torch says it: in training, validation, the sanity check and tests, in any batch."""

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules import SampleRequests
from datamodules.spec import Batch
from lightning_modules import METHODS
from lightning_modules.base import ZooModule
from tests import training
from tests.adversarial import tiny_loop
from tests.captioned import batch_for
from tests.standins import quiet_trainer

SMALL = {
    "width": 4, "latent_dim": 2, "hidden": 4, "num_hidden": 4, "num_components": 2, "steps": 2, "num_scales": 2,
    "schedule": 100, "num_chains": 10, "num_reversed": 4,
}  # fmt: skip
FEW = ("GaussianMixture", "RBM", "VAE", "WGANGP", "TeacherForcing", "Classifier")
"""One method of each family: what is checked where is said once, for all of them."""
NUM = 8
IMAGE_METHODS = [name for name, method in METHODS.items() if "image" in method.kinds]

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no:UserWarning")


def made(method: str, shape: tuple[int, ...] | None = None, **settings: Any) -> tuple[ZooModule, Tensor, Tensor]:
    """A small model, eight examples of its data, and labels."""
    torch.manual_seed(0)
    parameters = inspect.signature(METHODS[method]).parameters
    if shape is None and "image" in METHODS[method].kinds:
        shape = (1, 8, 8)
    small = {key: value for key, value in SMALL.items() if key in parameters}
    module, shape = training.build(method, shape, **{**small, **settings})
    data = training.TinyData(shape, **training.data_of(method))
    data.setup()
    return module, data.sources["train"].data[:NUM], torch.arange(NUM) % 2  # type: ignore[attr-defined]


def loader(*batches: Any) -> Any:
    return DataLoader(range(len(batches)), collate_fn=lambda chosen: batches[chosen[0]])  # type: ignore[arg-type]


PLACES = ("first", "later", "sanity", "validation", "later in validation", "test", "later in test")


def run(method: str, place: str, wrong: Tensor) -> None:
    """Runs a method on good batches but for one."""
    module, x, labels = made(method)
    good, bad = batch_for(method, x, labels), batch_for(method, wrong, labels[: len(wrong)])
    both = loader(good, bad) if "later" in place else loader(bad)
    trainer = quiet_trainer(num_sanity_val_steps=2 if place == "sanity" else 0, max_steps=2)
    if "test" in place:
        trainer.test(module, both, verbose=False)
    elif place in ("first", "later"):
        trainer.fit(module, both)
    else:
        trainer.fit(module, loader(good), both)


@pytest.mark.parametrize(
    ("method", "place"),
    [(method, place) for method in METHODS for place in PLACES if method in FEW or place == "first"],
)
def test_another_shape_and_no_examples_are_refused_in_every_batch(method: str, place: str) -> None:
    _, x, _ = made(method)
    other = x.repeat_interleave(3, 1) if x.ndim == 4 else x[..., None].repeat_interleave(2, -1)
    message = rf"{method}: it was built for .*\b{other.shape[1 if x.ndim == 4 else -1]}\b"
    if x.ndim == 4 or "later" not in place:
        with pytest.raises(ValueError, match=message):
            run(method, place, other)
    with pytest.raises(ValueError, match=rf"{method}: a batch has no examples.*\[0, "):
        run(method, place, x[:0])


@pytest.mark.parametrize(
    ("method", "place"),
    [
        (method, place)
        for method in IMAGE_METHODS
        for place in ("first", "sanity", "validation", "test")
        if method in FEW or place == "first"
    ],
)
def test_images_before_their_conversion_are_refused(method: str, place: str) -> None:
    _, x, _ = made(method)
    for wrong, convert in (
        ((x.abs() * 255).to(torch.uint8), r"x\.float\(\) / "),
        ((x > 0).to(torch.uint8), r"x\.float\(\)"),
        (x > 0, r"x\.float\(\)"),
    ):
        with pytest.raises(ValueError, match=rf"{method}: it expects floats.*{wrong.dtype}.*{convert}"):
            run(method, place, wrong)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.uint8, torch.int32])
def test_other_floats_and_whole_numbers_are_converted(method: str, dtype: torch.dtype) -> None:
    """NumPy's numbers are float64, and tokens are often stored in few bytes."""
    module, x, labels = made(method)
    if x.is_floating_point() != dtype.is_floating_point:
        return
    if dtype == torch.float16 and x.ndim == 4 and x.min() < 0:
        x = x.sign()  # 256 grey values are not numbers of float16
    assert torch.equal(module.converted(x.to(dtype)).x, x.to(dtype).to(x.dtype))
    assert module.converted(x.to(dtype)).x.dtype == x.dtype
    assert module.converted(x).x is x
    if method in FEW or dtype in (torch.float64, torch.int32):
        run(method, "validation" if method in FEW else "first", x.to(dtype))


@pytest.mark.parametrize("hooks", ["before", "after", "all"])
@pytest.mark.parametrize("method", ["WGANGP", "VAE", "Gaussian", "TeacherForcing"])
def test_hooks_of_a_users_datamodule_may_return_any_form(method: str, hooks: str) -> None:
    module, x, _ = made(method)
    seen: list[str] = []

    class Data(LightningDataModule):
        def train_dataloader(self) -> Any:
            return loader([x], [x])

        def val_dataloader(self) -> Any:
            return loader([x])

    def before(self: Any, batch: Any, index: int) -> Any:
        seen.append("before")
        return list(batch)

    def after(self: Any, batch: Any, index: int) -> Any:
        seen.append("after")
        (values,) = batch
        return [values]

    for name, hook in {"before": before, "after": after}.items():
        if hooks in (name, "all"):
            setattr(Data, f"on_{name}_batch_transfer", hook)
    trainer = quiet_trainer(num_sanity_val_steps=0)
    trainer.fit(module, Data())
    assert trainer.global_step == 2
    assert set(seen) == ({"before", "after"} if hooks == "all" else {hooks})


@contextmanager
def warned() -> Iterator[list[str]]:
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    said += [str(warning.message) for warning in caught]


@pytest.mark.parametrize("method", [name for name in IMAGE_METHODS if METHODS[name].value_range != (0.0, 1.0)])
def test_images_that_are_never_negative_are_said(method: str) -> None:
    module, x, labels = made(method)
    if module.value_range == (0.0, 1.0):
        return
    with warned() as said:
        quiet_trainer(max_epochs=2).fit(module, loader(batch_for(method, x, labels)))
    assert not [line for line in said if "negative" in line]
    module, x, labels = made(method)
    grey = (x + 1) * 127.5 // 2 / 127.5  # of the 256 grey values those that are not negative, and ToTensor's range
    grey = ((grey + 1) * 127.5).round() / 127.5 - 1
    with warned() as said:
        quiet_trainer(max_epochs=2).fit(module, loader(batch_for(method, grey, labels)))
    (line,) = [line for line in said if "negative" in line]
    assert method in line
    assert "2 * x - 1" in line


def test_bits_and_points_may_be_positive() -> None:
    for method, shape in (("RBM", (1, 8, 8)), ("WGANGP", (2,))):
        module, x, _ = made(method, shape)
        with warned() as said:
            quiet_trainer(max_steps=1).fit(module, loader([x.abs()]))
        assert not [line for line in said if "negative" in line]


@pytest.mark.parametrize("place", ["first", "sanity", "test"])
def test_networks_of_a_users_own_are_compared_with_the_batch(place: str) -> None:
    """They have no hyperparameter that says the shape."""
    for wrong in (tiny_loop.EXAMPLES.repeat(1, 3, 1, 1), tiny_loop.EXAMPLES.flatten(1)):
        module, good, bad = tiny_loop.build(), loader(tiny_loop.EXAMPLES), loader(wrong)
        run_it = quiet_trainer().test if place == "test" else quiet_trainer().fit
        with pytest.raises(ValueError, match=rf"AdversarialModule: .*shape=\[1, 8, 8\].*{wrong.shape[1]}\b"):
            run_it(module, *([good, bad] if place == "sanity" else [bad]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
@pytest.mark.parametrize("method", ["Classifier", "VAE", "SNGAN", "PixelCNNPlusPlus"])
def test_labels_may_be_any_whole_numbers(method: str, dtype: torch.dtype) -> None:
    """NumPy keeps labels in few bytes, and torch wants int64."""
    module, x, labels = made(method, num_classes=2)
    trainer = quiet_trainer(max_steps=1)
    trainer.fit(module, loader((x, labels.to(dtype))), loader((x, labels.to(dtype))))
    assert trainer.global_step == 1
    module, _, _ = made(method, num_classes=2)
    with pytest.raises(ValueError, match=rf"{method}.*integer labels"):
        quiet_trainer(max_steps=1).fit(module, loader((x, labels.bool())))


def test_training_data_are_looked_at_although_held_out_data_come_first() -> None:
    module, x, _ = made("WGANGP")
    with warned() as said:
        quiet_trainer(max_steps=1, num_sanity_val_steps=1).fit(module, loader([x.abs()]), loader([x]))
    assert len([line for line in said if "negative" in line]) == 1


@pytest.mark.parametrize("place", ["later in validation", "later in test"])
@pytest.mark.parametrize("method", METHODS)
def test_held_out_values_outside_of_the_support_are_refused_in_every_batch(method: str, place: str) -> None:
    """Their likelihood would be logged as if it were exact."""
    _, x, _ = made(method)
    wrong = [torch.full_like(x, torch.nan)] if x.is_floating_point() else [torch.full_like(x, 99), -x - 1]
    if method in IMAGE_METHODS and METHODS[method].value_range is not None:
        wrong.append(x * 300 + 299)
    for values in wrong:
        with pytest.raises(ValueError, match=method):
            run(method, place, values)


@pytest.mark.parametrize("place", ["later", "later in validation"])
@pytest.mark.parametrize("method", METHODS)
def test_another_type_is_refused_in_every_batch(method: str, place: str) -> None:
    _, x, _ = made(method)
    wrong = [x.float() + 0.5] if not x.is_floating_point() else [torch.ones_like(x).bool(), torch.ones_like(x).byte()]
    for values in wrong:
        with pytest.raises(ValueError, match=method):
            run(method, place, values)


@pytest.mark.parametrize("place", ["later", "later in validation", "later in test"])
def test_steps_of_another_shape_and_lengths_outside_of_their_sequences_are_refused(place: str) -> None:
    module, x, _ = made("TeacherForcing")
    with pytest.raises(ValueError, match=r"TeacherForcing.*step_shape=\[\]"):
        run("TeacherForcing", place, x[..., None])
    good, wrong = Batch(x, lengths=torch.full((NUM,), x.shape[1])), Batch(x, lengths=torch.full((NUM,), 99))
    trainer = quiet_trainer(num_sanity_val_steps=0, max_steps=2)
    evaluate = trainer.validate if "validation" in place else trainer.test
    runs: Any = trainer.fit if place == "later" else evaluate
    with pytest.raises(ValueError, match=r"TeacherForcing.*99"):
        runs(module, loader(good, wrong))


def test_class_labels_that_were_read_as_lengths_are_said() -> None:
    module, x, _ = made("TeacherForcing")
    with warned() as lines:
        quiet_trainer(max_steps=1).fit(module, loader((x, torch.arange(NUM) % 2 + 1)))
    assert any("lengths" in line for line in lines)
    with warned() as lines:
        quiet_trainer(max_steps=1).fit(module, loader((x, torch.full((NUM,), x.shape[1]))))
    assert not any("lengths" in line for line in lines)


def test_batches_in_place_of_a_loader_are_refused() -> None:
    module, x, _ = made("WGANGP")
    with pytest.raises(ValueError, match="DataLoader"):
        quiet_trainer(max_steps=1).fit(module, list(x.split(4)))


def test_a_dictionary_of_one_loader_is_that_loader() -> None:
    module, x, _ = made("WGANGP")
    trainer = quiet_trainer(max_steps=1)
    trainer.fit(module, {"images": loader((x, torch.zeros(NUM).long()))})
    assert trainer.global_step == 1


def test_a_classifier_says_what_it_predicts() -> None:
    module, x, _ = made("Classifier")
    trainer = quiet_trainer()
    (logits,) = trainer.predict(module, loader(x))
    assert logits.shape == (NUM, module.num_classes)
    for wrong in (x[:, :, 1:], x.byte(), 300 + x, x.log()):
        with pytest.raises(ValueError, match="Classifier"):
            trainer.predict(module, loader(wrong))
    for nothing in (None, SampleRequests(5)):
        with pytest.raises(ValueError, match="images"):
            trainer.predict(module, nothing)
