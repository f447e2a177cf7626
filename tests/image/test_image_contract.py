"""What methods promise that are fitted to one image: they train, log, resume exactly and refuse what does not fit."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything

import zoo
from datamodules import SingleImage
from datamodules.spec import Batch, DataSpec
from lightning_modules import FAMILIES, METHODS
from lightning_modules.image.pixel_optimization import PixelOptimization
from tests.image import small_images
from tests.image.small_images import SmallFeatures, data_of, fit, method
from tests.test_resume import differences, states

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")
VARIANTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("StyleTransfer", {"num_scales": 1}, {}),
    ("StyleTransfer", {"num_scales": 2, "coarse_steps": 4, "start": "mean", "preserve_colour": "luminance"}, {}),
    ("StyleTransfer", {"num_scales": 2, "coarse_steps": 4, "optimizer": "adam", "lr": 0.02, "tile": 32}, {}),
    ("TextureSynthesis", {"num_scales": 2, "coarse_steps": 4, "seamless": True}, {}),
    ("DeepImagePrior", {}, {"noise": 25.0}),
    ("DeepImagePrior", {"scale": 2, "stop_early": False}, {"scale": 2}),
]


def built(name: str, settings: dict[str, Any], data: SingleImage) -> Any:
    seed_everything(7, verbose=False)
    return method(name, data, **settings)


def test_the_family_is_tried_here() -> None:
    assert {each.__name__ for each in FAMILIES["image"]} == set(small_images.METHODS)
    assert {variant[0] for variant in VARIANTS} == set(small_images.METHODS)


@pytest.mark.parametrize("kind", FAMILIES["image"])
def test_every_method_says_idea_source_and_arguments(kind: type) -> None:
    module = inspect.getmodule(kind)
    assert module is not None
    assert "https://" in str(module.__doc__)
    assert [key for key in inspect.signature(kind).parameters if f"{key}:" not in str(kind.__doc__)] == []


@pytest.mark.parametrize(("name", "settings", "damage"), VARIANTS)
def test_resumed_run_equals_the_uninterrupted_one(
    name: str, settings: dict[str, Any], damage: dict[str, Any], tmp_path: Path
) -> None:
    """An epoch has five steps, and a coarse scale four: stops are within and between both."""
    size = (64, 64) if settings.get("num_scales", 1) > 1 or damage.get("scale") else (32, 32)

    def run(folder: str, ckpt_path: str | None = None) -> None:
        data = data_of(tmp_path, name, size, **damage)
        fit(built(name, settings, data), data, 11, tmp_path / folder, 1, ckpt_path)

    run("whole")
    expected = states(tmp_path / "whole/last.ckpt")
    assert expected["global_step"] == 11
    for stop in (3, 4, 5, 8):
        run(f"rest-{stop}", str(tmp_path / f"whole/step={stop}.ckpt"))
        assert differences(expected, states(tmp_path / f"rest-{stop}/last.ckpt")) == [], stop


def test_the_state_of_lbfgs_is_in_a_checkpoint(tmp_path: Path) -> None:
    data = data_of(tmp_path, "StyleTransfer")
    fit(method("StyleTransfer", data), data, 4, tmp_path / "run", 1)
    kept = torch.load(tmp_path / "run/last.ckpt", weights_only=True)["optimizer_states"][0]["state"][0]
    assert len(kept["old_dirs"]) == 3
    assert kept["n_iter"] == 4


@pytest.mark.parametrize(("name", "settings", "damage"), VARIANTS)
def test_trains_with_finite_logged_losses_and_counts_steps(
    name: str, settings: dict[str, Any], damage: dict[str, Any], tmp_path: Path
) -> None:
    data = data_of(tmp_path, name, (64, 64), **damage)
    module = built(name, settings, data)
    before = {key: value.clone() for key, value in module.named_parameters()}
    trainer = fit(module, data, 10)
    assert trainer.global_step == 10
    metrics = trainer.callback_metrics
    assert {key.partition("/")[0] for key in metrics} == {"train", "val"}
    assert all(torch.isfinite(value) for value in metrics.values())
    assert ("val/psnr" in metrics) == bool(damage)
    assert [key for key, value in module.named_parameters() if torch.equal(value, before[key])] == []
    image = module.image()
    assert image.shape == (1, 3, 64, 64)
    assert image.abs().max() <= 1
    (predicted,) = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False).predict(module, data)
    assert torch.equal(predicted, image)


@pytest.mark.parametrize("name", small_images.METHODS)
def test_hyperparameters_are_json_and_a_checkpoint_gives_back_the_image(name: str, tmp_path: Path) -> None:
    data = data_of(tmp_path, name)
    module = method(name, data)
    fit(module, data, 3, tmp_path / "run", 1)
    assert json.loads(json.dumps(dict(module.hparams))) == dict(module.hparams)
    again = type(module).load_from_checkpoint(tmp_path / "run/last.ckpt", weights_only=True)
    assert torch.equal(again.image(), module.image())
    assert again.data_spec == module.data_spec


def test_the_feature_network_is_in_no_checkpoint_but_its_name_is(tmp_path: Path) -> None:
    data = data_of(tmp_path, "StyleTransfer")
    fit(method("StyleTransfer", data), data, 2, tmp_path / "run", 1)
    checkpoint = torch.load(tmp_path / "run/last.ckpt", weights_only=True)
    assert set(checkpoint["state_dict"]) == {"images.0", "begun", "colours"}
    assert checkpoint["features"] == "small"
    other = method("StyleTransfer", data)
    assert isinstance(other, PixelOptimization)
    other.use_features(SmallFeatures("other"))
    with pytest.raises(ValueError, match=r"features 'small', but 'other' was given"):
        fit(other, data, 4, ckpt_path=str(tmp_path / "run/last.ckpt"))


@pytest.mark.parametrize("name", small_images.METHODS)
def test_what_was_loaded_is_measured_as_it_was_trained(name: str, tmp_path: Path) -> None:
    data = data_of(tmp_path, name)
    module: Any = method(name, data)
    expected = fit(module, data, 3, tmp_path / "run", 1).validate(module, data, verbose=False)
    again = type(module).load_from_checkpoint(tmp_path / "run/last.ckpt", weights_only=True)
    if isinstance(again, PixelOptimization):
        again.use_features(SmallFeatures())
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    assert trainer.validate(again, data_of(tmp_path, name), verbose=False) == expected


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("StyleTransfer", {}, {"styles": ["other.png"]}),
        ("DeepImagePrior", {"mask": "mask.png"}, {"mask": "other.png"}),
        ("DeepImagePrior", {"mask": "mask.png"}, {"mask": "mask.png", "invert_mask": True}),
    ],
)
def test_a_run_is_not_resumed_with_another_style_or_mask(
    name: str, before: dict[str, Any], after: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, path in enumerate(("mask.png", "other.png")):
        small_images.write_image(tmp_path / path, 5 + number)

    def run(folder: str, steps: int, ckpt_path: str | None, **settings: Any) -> None:
        data = data_of(tmp_path, name, **settings)
        fit(method(name, data), data, steps, tmp_path / folder, 1, ckpt_path)

    run("run", 2, None, **before)
    former = str(tmp_path / "run/last.ckpt")
    run("rest", 3, former, **before)
    with pytest.raises(ValueError, match="not those that this run was trained on"):
        run("other", 3, former, **after)


def test_networks_without_layers_by_name_are_refused(tmp_path: Path) -> None:
    module: Any = method("StyleTransfer", data_of(tmp_path, "StyleTransfer"))
    with pytest.raises(TypeError, match=r"network=Conv2d is no FeatureNetwork: give WrappedFeatures\(network\)"):
        module.use_features(torch.nn.Conv2d(3, 3, 3))


@pytest.mark.parametrize("name", small_images.METHODS)
def test_they_are_no_models_of_the_zoo(name: str, tmp_path: Path) -> None:
    assert name not in METHODS
    with pytest.raises(zoo.ZooError, match=name):
        zoo.save(method(name, data_of(tmp_path, name)), tmp_path / "saved")


@pytest.mark.parametrize("name", small_images.METHODS)
def test_what_does_not_fit_is_refused(name: str, tmp_path: Path) -> None:
    data = data_of(tmp_path, name)
    module: Any = method(name, data)
    x = torch.zeros(1, 3, 32, 32)
    module.check_batch(Batch(x))
    with pytest.raises(ValueError, match="fitted to one image, but a batch has 2: use batch_size=1"):
        module.check_batch(Batch(x.expand(2, -1, -1, -1)))
    with pytest.raises(ValueError, match=r"shape=\[3, 32, 32\].*\[3, 32, 16\]"):
        module.check_batch(Batch(x[..., :16]))
    with pytest.raises(ValueError, match="nan"):
        module.check_batch(Batch(x * torch.nan))
    with pytest.raises(ValueError, match=r"\[1, 32, 32\] must be \[3, height, width\]"):
        type(module).for_data(DataSpec("grey", "image", (1, 32, 32), (-1.0, 1.0)))
    with pytest.raises(ValueError, match=f"{name} models image"):
        type(module).for_data(DataSpec("ring", "points", (2,)))


@pytest.mark.parametrize("name", small_images.METHODS)
@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true", "16-true", "bf16-true"])
def test_every_precision_trains_or_is_refused(name: str, precision: Any, tmp_path: Path) -> None:
    data = data_of(tmp_path, name)
    module = method(name, data)
    if precision in ("16-true", "bf16-true"):
        with pytest.raises(ValueError, match=f"precision='{precision}' does not suffice for {name}"):
            fit(module, data, 2, precision=precision)
        return
    fit(module, data, 2, precision=precision)
    assert torch.isfinite(module.image()).all()
    assert module.image().dtype == (torch.float64 if precision == "64-true" else torch.float32)


@pytest.mark.parametrize("name", small_images.METHODS)
def test_several_processes_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "world_size", 2)
    data = data_of(tmp_path, name)
    with pytest.raises(ValueError, match=r"which 2 processes cannot share: use Trainer\(devices=1\)"):
        fit(method(name, data), data, 1)
