"""What every method of the registry promises, so that a new method edits no test.

A method is built for the smallest data of the first kind it models, with its size hyperparameters turned down.
"""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

import lightning_modules
import zoo
from datamodules import DATAMODULES, DataSpec, MarkovSource, Ring, SyntheticImages, ZooDataModule
from datamodules.loader import Source, TensorSource
from datamodules.sequence_base import SequenceDataModule
from lightning_modules import METHODS
from lightning_modules.base import GenerativeModule
from lightning_modules.parts.capabilities import Averages, Extracts, Interpolates, Samples

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
}


class TinySequences(SequenceDataModule):
    """Frames of a piano roll, or of a video, or strokes, at random."""

    def __init__(self, kind: str) -> None:
        super().__init__(batch_size=16, seed=0)
        shape = {"piano_roll": (6, 88), "video": (4, 1, 8, 8), "strokes": (6, 3)}[kind]
        self.spec = DataSpec(f"tiny_{kind}", kind, shape, None if kind == "strokes" else (0.0, 1.0))

    def read(self) -> dict[str, Source]:
        draws = torch.rand(64, *self.spec.shape, generator=torch.Generator().manual_seed(0))
        x = (draws < 0.1).float() if self.spec.kind == "piano_roll" else (draws * 255).round() / 255
        if self.spec.kind == "strokes":
            x = torch.cat([2 * draws[..., :2] - 1, draws[..., 2:].round()], 2)
        return {split: TensorSource(x, torch.full((64,), x.shape[1])) for split in ("train", "val", "test")}


def tiny_data(kind: str, name: str) -> ZooDataModule:
    if kind == "points":
        return Ring(batch_size=16, train_size=64, val_size=32, test_size=32)
    if kind == "tokens":
        return MarkovSource(length=12, batch_size=16, train_size=64, val_size=16, test_size=16)
    if kind in ("piano_roll", "video", "strokes"):
        return TinySequences(kind)
    binarize = METHODS[name].value_range == (0.0, 1.0)
    return SyntheticImages(
        shape=[1, 28, 28], num_classes=3, size=64, val_size=16, test_size=16, batch_size=16, binarize=binarize
    )


def cases() -> list[Any]:
    return [pytest.param(name, kind, id=f"{name}-{kind}") for name, method in METHODS.items() for kind in method.kinds]


def build(name: str, data: ZooDataModule, **overrides: Any) -> GenerativeModule:
    method = METHODS[name]
    small = {key: value for key, value in SMALL.items() if key in inspect.signature(method).parameters}
    return method.for_data(data.spec, **{**small, **overrides})


def fit(module: GenerativeModule, data: ZooDataModule, **settings: Any) -> Trainer:
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


def test_the_registry_is_what_the_package_lists() -> None:
    listed = {name for name, value in vars(lightning_modules).items() if inspect.isclass(value)}
    assert set(METHODS) <= listed
    assert {"MinimaxGAN", "NonSaturatingGAN", "WGAN", "WGANGP", "SNGAN", "ComposedGAN", "Classifier"} <= set(METHODS)
    assert len(DATAMODULES) >= 12


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_idea_and_source(name: str) -> None:
    method = METHODS[name]
    source = inspect.getmodule(method)
    assert source is not None
    assert source.__doc__
    assert method.__doc__
    parameters = [key for key in inspect.signature(method).parameters if key != "self"]
    assert [key for key in parameters if f"{key}:" not in method.__doc__] == []
    assert all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in inspect.signature(method).parameters.values())


@pytest.mark.parametrize("name", METHODS)
def test_no_method_inherits_from_a_method(name: str) -> None:
    assert [base.__name__ for base in METHODS[name].__mro__[1:] if base in METHODS.values()] == []


@pytest.mark.parametrize(("name", "kind"), cases())
def test_trains_with_finite_logged_losses_and_honest_steps(name: str, kind: str) -> None:
    data = tiny_data(kind, name)
    module = build(name, data)
    before = {key: value.clone() for key, value in module.named_parameters()}
    trainer = fit(module, data)
    assert trainer.global_step == 4
    losses = {key: value for key, value in trainer.callback_metrics.items() if key.startswith("train/")}
    assert losses
    assert all(torch.isfinite(value) for value in losses.values())
    assert any(key.startswith("val/") for key in trainer.callback_metrics)
    learnt = {key: value for key, value in module.named_parameters() if value.requires_grad}
    still = [key for key, value in learnt.items() if torch.equal(value, before[key])]
    # The bias of a critic's last layer cancels in a difference of means, and is the only weight that may rest.
    assert [key for key in still if key != "discriminator.head.linear.bias"] == []


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
        assert other.data_spec is not None
        assert other.data_spec.name == data.spec.name
    if isinstance(module, Samples):
        samples = [m.sample(3, generator=torch.Generator().manual_seed(0)) for m in (module, restored, loaded)]
        assert torch.equal(samples[0], samples[1])
        assert torch.equal(samples[0], samples[2])


@pytest.mark.parametrize(("name", "kind"), cases())
def test_samples_have_shape_and_range_and_leave_the_world_alone(name: str, kind: str) -> None:
    data = tiny_data(kind, name)
    module = build(name, data)
    if not isinstance(module, Samples):
        assert isinstance(module, Extracts), f"{name} can neither sample nor judge"
        return
    state = torch.get_rng_state()
    x = module.sample(5, generator=torch.Generator().manual_seed(0))
    assert x.shape == (5, *data.spec.shape)
    if data.spec.value_range is not None:
        low, high = data.spec.value_range
        assert low <= x.min()
        assert x.max() <= high
    assert torch.equal(x, module.sample(5, generator=torch.Generator().manual_seed(0)))
    assert not torch.equal(x, module.sample(5, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(torch.get_rng_state(), state)
    assert module.training
    for bad in (0, -1):
        with pytest.raises(ValueError, match="num_samples"):
            module.sample(bad)
    with pytest.raises(ValueError, match="unconditional"):
        module.sample(2, labels=torch.tensor([0, 1]))


@pytest.mark.parametrize(("name", "kind"), cases())
def test_class_conditional_form(name: str, kind: str) -> None:
    data = tiny_data(kind, name)
    if "num_classes" not in inspect.signature(METHODS[name]).parameters:
        pytest.skip(f"{name} has no class-conditional form")
    module = build(name, data, num_classes=data.spec.num_classes)
    fit(module, data)
    if not isinstance(module, Samples):
        return
    labels = torch.tensor([0, 1, 2])
    x = module.sample(3, labels=labels, generator=torch.Generator().manual_seed(0))
    y = module.sample(3, labels=labels.flip(0), generator=torch.Generator().manual_seed(0))
    assert not torch.equal(x[0], y[0])
    assert torch.equal(x[1], y[1])


@pytest.mark.parametrize(("name", "kind"), cases())
def test_capabilities_fit_together(name: str, kind: str) -> None:
    module = build(name, tiny_data(kind, name))
    if isinstance(module, Averages):
        modules = dict(module.named_modules())
        assert all(modules[key] is network for key, network in module.averaged_networks().items())
    if isinstance(module, Interpolates):
        z = module.sample_latent(2, generator=torch.Generator().manual_seed(0))
        # A stochastic decoder decodes to means; samples are draws around them.
        means = {"mean": True} if "mean" in inspect.signature(module.sample).parameters else {}
        assert torch.equal(module.decode(z), module.sample(2, generator=torch.Generator().manual_seed(0), **means))


@pytest.mark.parametrize("name", METHODS)
def test_kinds_that_a_method_does_not_model_are_refused(name: str) -> None:
    for kind in {"image", "points", "tokens"} - set(METHODS[name].kinds):
        with pytest.raises(ValueError, match=f"{name} models"):
            build(name, tiny_data(kind, name))
