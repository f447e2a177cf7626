"""What every method of the registry promises, so that a new method needs no change of a test.

A method is built for the smallest data of the first kind it models, with its size hyperparameters turned down.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

import zoo
from datamodules import DATAMODULES, DataSpec, MarkovSource, Ring, SyntheticImages, ZooDataModule
from datamodules.loader import Source, TensorSource
from datamodules.sequences.sequence_base import SequenceDataModule
from datamodules.sequences.strokes import ClassedDrawings
from datamodules.spec import KINDS
from lightning_modules import METHODS
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.base import GenerativeModule, ZooModule
from lightning_modules.parts.capabilities import (
    FeatureExtractor,
    SupportsAveraging,
    SupportsInterpolation,
    SupportsSampling,
)
from lightning_modules.parts.games import HINGE, RELATIVISTIC, WASSERSTEIN
from tests.captioned import CAPTIONED, WORDS, CaptionedBars

SMALL = {
    "width": 2,
    "latent_dim": 4,
    "critic_steps": 2,
    "hidden": 4,
    "depth": 1,
    "num_components": 2,
    "num_layers": 1,
    "num_hidden": 4,
    "steps": 2,
    "buffer_size": 32,
    "num_resolutions": 2,
}


class TinySequences(SequenceDataModule):
    """Frames of a piano roll, or of a video, or strokes of three classes, at random."""

    def __init__(self, kind: str) -> None:
        super().__init__(batch_size=16, seed=0)
        shape = {"piano_roll": (6, 88), "video": (4, 1, 8, 8), "strokes": (6, 3)}[kind]
        value_range, num_classes = (None, 3) if kind == "strokes" else ((0.0, 1.0), None)
        self.spec = DataSpec(f"tiny_{kind}", kind, shape, value_range, num_classes)

    def read(self) -> dict[str, Source]:
        uniform = torch.rand(64, *self.spec.shape, generator=torch.Generator().manual_seed(0))
        x = (uniform < 0.1).float() if self.spec.kind == "piano_roll" else (uniform * 255).round() / 255
        if self.spec.kind == "strokes":
            x = torch.cat([2 * uniform[..., :2] - 1, uniform[..., 2:].round()], 2)
            return {split: ClassedDrawings(x.tensor_split(3)) for split in ("train", "val", "test")}
        lengths = torch.full((64,), x.shape[1])
        return {split: TensorSource(x, lengths, "lengths") for split in ("train", "val", "test")}


def tiny_data(kind: str, name: str, captions: bool = False) -> ZooDataModule:
    if kind == "points":
        return Ring(batch_size=16, train_size=64, val_size=32, test_size=32)
    if kind == "tokens":
        return MarkovSource(length=12, batch_size=16, train_size=64, val_size=16, test_size=16)
    if kind in ("piano_roll", "video", "strokes"):
        return TinySequences(kind)
    binarize = METHODS[name].value_range == (0.0, 1.0)
    images = CaptionedBars if name in CAPTIONED or captions else SyntheticImages
    sizes = {"size": 64, "val_size": 16, "test_size": 16, "batch_size": 16}
    return images(shape=[1, 28, 28], num_classes=3, binarize=binarize, **sizes)


def cases(with_classes: bool = False) -> list[Any]:
    """Returns every method with every kind of data that it models, or of those only that have a form with classes."""
    names = [name for name, method in METHODS.items() if "num_classes" in parameters_of(method) or not with_classes]
    return [pytest.param(name, kind, id=f"{name}-{kind}") for name in names for kind in METHODS[name].kinds]


def parameters_of(method: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(method).parameters


def build(name: str, data: ZooDataModule, **overrides: Any) -> ZooModule:
    method = METHODS[name]
    small = {key: value for key, value in SMALL.items() if key in parameters_of(method)}
    return method.for_data(data.spec, **{**small, **overrides})


def sampled(module: Any, num: int, seed: int = 0, **settings: Any) -> Tensor:
    """Returns samples that are a function of the seed."""
    return module.sample(num, generator=torch.Generator().manual_seed(seed), **settings)


def fit(module: ZooModule, data: ZooDataModule, **settings: Any) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        max_steps=4,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **settings,
    )
    trainer.fit(module, data)
    return trainer


def test_every_method_and_every_kind_of_its_data_is_tried_here() -> None:
    assert {case.values[0] for case in cases()} == set(METHODS)
    assert {case.values[1] for case in cases()} == set(KINDS)
    assert len(DATAMODULES) >= 12


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_idea_and_source(name: str) -> None:
    method = METHODS[name]
    source = inspect.getmodule(method)
    assert source is not None
    assert source.__doc__
    assert method.__doc__
    parameters = parameters_of(method)
    assert [key for key in parameters if f"{key}:" not in method.__doc__] == []
    assert all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters.values())


@pytest.mark.parametrize("name", METHODS)
def test_no_method_inherits_from_a_method(name: str) -> None:
    assert [base.__name__ for base in METHODS[name].__mro__[1:] if base in METHODS.values()] == []


@pytest.mark.parametrize(("name", "kind"), cases())
def test_trains_with_finite_logged_losses_and_counts_batches(name: str, kind: str) -> None:
    data = tiny_data(kind, name)
    module = build(name, data)
    before = {key: value.clone() for key, value in module.named_parameters()}
    trainer = fit(module, data)
    assert trainer.global_step == 4
    losses = {key: value for key, value in trainer.callback_metrics.items() if key.startswith("train/")}
    assert losses
    assert all(torch.isfinite(value) for value in losses.values())
    assert any(key.startswith("val/") for key in trainer.callback_metrics)
    still = [key for key, p in module.named_parameters() if p.requires_grad and torch.equal(p, before[key])]
    assert [key for key in still if key not in without_gradient(module)] == []


def without_gradient(module: ZooModule) -> set[str]:
    """Names the parameters whose gradient may be zero by the method itself.

    The last bias of a discriminator shifts all logits alike, which cancels in the differences that a Wasserstein game
    and a relativistic one are made of, and a hinge game, too, while all logits are within the margin.
    """
    if isinstance(module, AdversarialModule) and module.game in (WASSERSTEIN, HINGE, RELATIVISTIC):
        return {"discriminator.head.linear.bias"}
    return set()


class Gradients(Callback):
    """Notes for every parameter what its gradient was before each step of its optimizer, unless it was frozen then."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Tensor | None]] = {}

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        names = {p: name for name, p in pl_module.named_parameters()}
        for p in [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]:
            self.seen.setdefault(names[p], []).append(None if p.grad is None else p.grad.clone())


def check_gradients(module: ZooModule, data: ZooDataModule) -> None:
    """Trains, and asks for a finite gradient in every step, other than zero in at least one of them.

    A method that freezes parameters, for good or for a stage of training, says so by their ``requires_grad``. What is
    not frozen when training begins has its turn at some stage.
    """
    gradients = Gradients()
    trained = {key for key, p in module.named_parameters() if p.requires_grad}
    fit(module, data, callbacks=[gradients])
    assert gradients.seen.keys() == trained
    assert [key for key, seen in gradients.seen.items() if any(g is None or not g.isfinite().all() for g in seen)] == []
    zero = {key for key, seen in gradients.seen.items() if not any(g is not None and g.any() for g in seen)}
    assert zero - without_gradient(module) == set()


@pytest.mark.parametrize(("name", "kind"), cases())
def test_every_parameter_in_training_gets_a_finite_gradient_that_is_not_zero(name: str, kind: str) -> None:
    data = tiny_data(kind, name)
    check_gradients(build(name, data), data)


@pytest.mark.parametrize(("name", "kind"), cases())
def test_hyperparameters_are_json_and_rebuild_the_module(name: str, kind: str) -> None:
    module = build(name, tiny_data(kind, name))
    plain = json.loads(json.dumps(dict(module.hparams)))
    again = METHODS[name](**plain)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in module.state_dict().items()}


@pytest.mark.parametrize(("name", "kind"), cases())
def test_checkpoint_and_zoo_folder_give_back_the_module(name: str, kind: str, tmp_path: Path) -> None:
    data = tiny_data(kind, name)
    module = build(name, data)
    trainer = fit(module, data)
    trainer.save_checkpoint(tmp_path / "module.ckpt")
    zoo.save(module, tmp_path / "folder", samples=False)
    restored = METHODS[name].load_from_checkpoint(tmp_path / "module.ckpt", weights_only=True)
    loaded = zoo.load(str(tmp_path / "folder"))
    assert not loaded.training
    for other in (restored, loaded):
        state = other.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
        assert other.data_spec == module.data_spec
    if isinstance(module, SupportsSampling):
        samples = [sampled(other, 3) for other in (module, restored, loaded)]
        assert torch.equal(samples[0], samples[1])
        assert torch.equal(samples[0], samples[2])


@pytest.mark.parametrize(("name", "kind"), cases())
def test_samples_have_shape_and_range_and_change_nothing_else(name: str, kind: str) -> None:
    data = tiny_data(kind, name)
    module = build(name, data)
    if not isinstance(module, SupportsSampling):
        assert isinstance(module, FeatureExtractor), f"{name} neither samples nor extracts features"
        return
    state = torch.get_rng_state()
    x = sampled(module, 5)
    assert x.shape == (5, *data.spec.shape)
    if data.spec.value_range is not None:
        low, high = data.spec.value_range
        assert low <= x.min()
        assert x.max() <= high
    assert torch.equal(x, sampled(module, 5))
    assert not torch.equal(x, sampled(module, 5, seed=1))
    assert torch.equal(torch.get_rng_state(), state)
    assert module.training
    for bad in (0, -1):
        with pytest.raises(ValueError, match="num_samples"):
            module.sample(bad)
    with pytest.raises(ValueError, match="labels"):
        module.sample(2, labels=torch.tensor([0, 1]))


@pytest.mark.parametrize(("name", "kind"), cases(with_classes=True))
def test_class_conditional_form(name: str, kind: str) -> None:
    data = tiny_data(kind, name)
    module = build(name, data, num_classes=data.spec.num_classes)
    check_gradients(module, data)
    if not isinstance(module, SupportsSampling):
        return
    labels = torch.tensor([0, 1, 2])
    x, y = sampled(module, 3, labels=labels), sampled(module, 3, labels=labels.flip(0))
    assert not torch.equal(x[0], y[0])
    assert torch.equal(x[1], y[1])


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if "num_words" in parameters_of(method)])
@pytest.mark.parametrize("classes", [None, 3], ids=["captions", "both"])
def test_form_of_captions(name: str, classes: int | None) -> None:
    data = tiny_data("image", name, captions=True)
    classes_of = {} if classes is None else {"num_classes": classes}
    module = build(name, data, num_words=len(WORDS), **classes_of)
    check_gradients(module, data)
    assert isinstance(module, SupportsSampling)
    with torch.no_grad():  # after four batches samples may differ by less than rounding
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    labels = {} if classes is None else {"labels": torch.tensor([0, 1, 2])}
    x = sampled(module, 3, captions=["a bar", "bar", "bar leaning left"], **labels)
    y = sampled(module, 3, captions=["leaning right bar", "bar", "a"], **labels)
    assert [torch.equal(one, two) for one, two in zip(x, y, strict=True)] == [False, True, False]


@pytest.mark.parametrize(("name", "kind"), cases())
def test_capabilities_fit_together(name: str, kind: str) -> None:
    module = build(name, tiny_data(kind, name))
    if isinstance(module, SupportsAveraging):
        modules = dict(module.named_modules())
        assert all(modules[key] is network for key, network in module.averaged_networks().items())
    if isinstance(module, SupportsInterpolation):
        assert isinstance(module, GenerativeModule)
        generator = torch.Generator().manual_seed(0)
        condition = module.choose_condition(2, None, None, generator)
        z = module.sample_latent(2, generator=generator)
        # A stochastic decoder decodes to means; samples lie around them.
        means = {"mean": True} if "mean" in parameters_of(type(module).sample) else {}
        assert torch.equal(module.decode(z, labels=condition), sampled(module, 2, **means))


@pytest.mark.parametrize("name", METHODS)
def test_kinds_that_a_method_does_not_model_are_refused(name: str) -> None:
    for kind in {"image", "points", "tokens"} - set(METHODS[name].kinds):
        with pytest.raises(ValueError, match=f"{name}.*{kind}"):
            build(name, tiny_data(kind, name))


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if "image" in method.kinds])
def test_images_of_another_range_are_refused_with_what_to_change(name: str) -> None:
    """Methods of bits ask for ``binarize``; others for data without it, or scaled."""
    module = build(name, tiny_data("image", name))
    shape, classes = (1, 28, 28), {"num_classes": 3}
    if module.value_range == (0.0, 1.0):
        grey = DataSpec("grey", "image", shape, (-1.0, 1.0), **classes)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=rf"{name}.*datamodule with binarize(=True)?\b"):
            module.check_data(grey)
        return
    bits = DataSpec("bits", "image", shape, (0.0, 1.0), preprocessing="binarized", **classes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"{name}.*datamodule with(out binarize| binarize=False)") as error:
        module.check_data(bits)
    assert "2 * x - 1" not in str(error.value)
    if name != "PixelCNNPlusPlus":
        with pytest.raises(ValueError, match=rf"{name}.*2 \* x - 1"):
            module.check_data(replace(bits, preprocessing=""))
