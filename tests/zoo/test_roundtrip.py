"""What is saved is what is loaded, bit for bit."""

import json
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import LightningModule, Trainer
from safetensors import safe_open
from torch import nn

import lightning_modules
import zoo
from lightning_modules import Classifier
from lightning_modules.callbacks.ema import EMA
from tests.captioned import needed
from tests.zoo.conftest import SPEC
from tests.zoo.tiny import TinyGAN


def assert_same(state: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert state.keys() == other.keys()
    for key, value in state.items():
        assert torch.equal(value, other[key]), key
        assert value.dtype == other[key].dtype, key


def ema_of(trainer: Trainer) -> EMA:
    (ema,) = (callback for callback in trainer.callbacks if isinstance(callback, EMA))  # type: ignore[attr-defined]
    return ema


def test_raw_weights_come_back_bit_for_bit(module: TinyGAN, averaging: Trainer, tmp_path: Path) -> None:
    zoo.save(module, tmp_path / "tiny", trainer=averaging)
    assert_same(module.state_dict(), zoo.load(str(tmp_path / "tiny"), weights="raw").state_dict())


def test_averaged_weights_are_the_default(module: TinyGAN, averaging: Trainer, tmp_path: Path) -> None:
    saved = zoo.save(module, tmp_path / "tiny", trainer=averaging)
    averages = ema_of(averaging).averaged_state_dict(module)
    assert not torch.equal(averages["generator.0.weight"], module.state_dict()["generator.0.weight"])
    assert saved.averaged
    assert_same(module.state_dict() | averages, zoo.load(str(tmp_path / "tiny")).state_dict())


def test_the_modules_own_trainer_is_asked_for_averages(module: TinyGAN, averaging: Trainer, tmp_path: Path) -> None:
    module.trainer = averaging
    assert zoo.save(module, tmp_path / "tiny").averaged


def test_without_averages_both_weights_are_the_last(checkpoint: Path) -> None:
    assert not zoo.card(checkpoint).averaged
    assert_same(zoo.load(str(checkpoint)).state_dict(), zoo.load(str(checkpoint), weights="raw").state_dict())


def test_loaded_modules_are_ready_to_sample(module: TinyGAN, tmp_path: Path) -> None:
    zoo.save(module, tmp_path / "tiny")
    loaded = zoo.load(str(tmp_path / "tiny"))
    assert not any(part.training for part in loaded.modules())
    assert loaded.data_spec == SPEC
    samples = [m.eval().sample(4, generator=torch.Generator().manual_seed(1)) for m in (module, loaded)]
    assert torch.equal(*samples)


def test_training_can_continue_from_a_loaded_module(checkpoint: Path) -> None:
    loaded = zoo.load(str(checkpoint), TinyGAN, weights="raw")
    assert all(parameter.requires_grad and not parameter.is_inference() for parameter in loaded.parameters())
    weights = loaded.discriminator[1].weight
    assert weights is loaded.discriminator[2].weight, "tied weights must stay tied"


def test_saving_and_loading_leave_the_random_state_alone(module: TinyGAN, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    zoo.save(module, tmp_path / "tiny")
    zoo.load(str(tmp_path / "tiny"))
    assert torch.equal(before, torch.get_rng_state())


def test_saving_leaves_the_module_as_it_was(module: TinyGAN, averaging: Trainer, tmp_path: Path) -> None:
    before = {key: value.clone() for key, value in module.state_dict().items()}
    zoo.save(module, tmp_path / "tiny", trainer=averaging)
    assert_same(before, module.state_dict())
    assert module.training
    assert module.state_dict()["generator.4.weight"].is_contiguous(memory_format=torch.channels_last)


def test_hyperparameters_of_the_command_line_leave_no_code_in_the_config(module: TinyGAN, tmp_path: Path) -> None:
    module.hparams.update({"_class_path": "os.system", "_instantiator": "os.system"})
    zoo.save(module, tmp_path / "tiny")
    assert "os.system" not in (tmp_path / "tiny/config.json").read_text()
    assert zoo.card(tmp_path / "tiny").hyperparameters["shape"] == [1, 8, 8]


def test_the_card_says_what_was_saved(module: TinyGAN, averaging: Trainer, tmp_path: Path) -> None:
    row = {"batches": 100, "test/fid-tiny-2k": 31.25}
    card = zoo.save(
        module, tmp_path / "x", name="tiny.images", metrics={"test/fid-tiny-10k": 12.5}, recipe="tiny",
        notes="Small.", curve=[row], trainer=averaging,
    )  # fmt: skip
    assert card == zoo.card(tmp_path / "x")
    assert (card.name, card.method, card.data, card.recipe, card.notes) == (
        "tiny.images", "TinyGAN", "tiny_images", "tiny", "Small.",
    )  # fmt: skip
    assert card.metrics == {"test/fid-tiny-10k": 12.5}
    assert card.curve == (row,)
    assert card.versions["torch"] == torch.__version__.split("+")[0]
    with safe_open(tmp_path / "x/model.safetensors", framework="pt") as file:
        keys = {key for key in file.keys() if "weight_" not in key}  # noqa: SIM118
    assert {f"ema.{key}" for key in keys if key.startswith("generator")} <= keys
    counted = {name: sum(p.numel() for p in net.parameters()) for name, net in module.named_children()}
    assert card.networks == counted
    assert card.parameters == sum(counted.values())
    with pytest.raises(TypeError):
        card.metrics["test/fid-tiny-10k"] = 0.0  # type: ignore[index]


def test_the_model_card_is_one_of_hugging_face(module: TinyGAN, averaging: Trainer, tmp_path: Path) -> None:
    zoo.save(
        module, tmp_path / "x", name="tiny.images", metrics={"test/fid-tiny-10k": 12.5}, recipe="tiny",
        overrides=["--model.width", "a b"], notes="Small.", curve=[{"batches": 100, "fid": 31.25}], trainer=averaging,
    )  # fmt: skip
    from huggingface_hub import ModelCard

    card = ModelCard.load(tmp_path / "x/README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.eval_results[0].metric_value == 12.5
    assert card.data.datasets == ["tiny_images"]
    for fact in (
        'zoo.load("path/to/this/folder")', "A method small enough", "`python -m zoo train tiny --model.width 'a b'`",
        "| test/fid-tiny-10k | 12.5 |", "| 100 | 31.25 |", "Small.", "samples.png", "generator 1,078",
    ):  # fmt: skip
        assert fact in card.text, fact
    yaml.safe_load((tmp_path / "x/README.md").read_text().split("---")[1])
    assert (tmp_path / "x/samples.png").read_bytes().startswith(b"\x89PNG")


def test_a_classifier_knows_where_its_statistics_lie(tmp_path: Path) -> None:
    folder = tmp_path / "classifier"
    zoo.save(Classifier(shape=(1, 8, 8), width=2), folder)
    assert zoo.load_classifier(str(folder)).statistics_dir is None
    (folder / "statistics").mkdir()
    assert zoo.load_classifier(str(folder)).statistics_dir == str(folder / "statistics")
    assert not (folder / "samples.png").exists()


@pytest.mark.parametrize("method", sorted(lightning_modules.METHODS))
def test_every_method_goes_round(method: str, tmp_path: Path) -> None:
    method_class = lightning_modules.METHODS[method]
    small: dict[str, Any] = {"width": 2, "num_hidden": 4, "num_components": 2}
    known = {key: value for key, value in small.items() if key in signature(method_class).parameters}
    module = method_class(**known, **needed(method))
    zoo.save(module, tmp_path / "m", samples=False)
    loaded = zoo.load(str(tmp_path / "m"), method_class)
    assert type(loaded) is type(module)
    assert_same(module.state_dict(), loaded.state_dict())


def test_modules_outside_the_registry_are_refused(tmp_path: Path) -> None:
    class Mine(TinyGAN):
        pass

    with pytest.raises(zoo.ZooError, match=r"Mine .*WGANGP"):
        zoo.save(Mine(), tmp_path / "mine")

    class WGANGP(TinyGAN):  # a known name is not enough
        pass

    with pytest.raises(zoo.ZooError, match="WGANGP"):
        zoo.save(WGANGP(), tmp_path / "mine")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("value", [nn.Linear(1, 1), Path("x"), float("nan"), {1: 2}, torch.tensor(1.0)])
def test_hyperparameters_that_are_no_json_are_refused(module: TinyGAN, value: object, tmp_path: Path) -> None:
    module.hparams["latent_dim"] = value
    with pytest.raises(zoo.ZooError, match="latent_dim"):
        zoo.save(module, tmp_path / "tiny")


def test_networks_that_the_hyperparameters_do_not_rebuild_are_refused(module: TinyGAN, tmp_path: Path) -> None:
    module.generator.append(nn.Conv2d(1, 1, 1))
    with pytest.raises(zoo.ZooError, match=r"TinyGAN.*generator\.5"):
        zoo.save(module, tmp_path / "tiny")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(module: TinyGAN, value: float, tmp_path: Path) -> None:
    with torch.no_grad():
        module.state_dict()["generator.0.bias"][3] = value
    with pytest.raises(zoo.ZooError, match=r"'generator\.0\.bias'"):
        zoo.save(module, tmp_path / "tiny")
    assert [*tmp_path.iterdir()] == []


def test_averages_that_are_not_finite_are_refused(module: TinyGAN, averaging: Trainer, tmp_path: Path) -> None:
    ema_of(averaging).state_dict()["averages"]["generator.0.bias"].fill_(float("nan"))
    with pytest.raises(zoo.ZooError, match=r"'ema\.generator\.0\.bias'"):
        zoo.save(module, tmp_path / "tiny", trainer=averaging)


def test_metrics_that_are_not_finite_are_refused(module: TinyGAN, tmp_path: Path) -> None:
    with pytest.raises(zoo.ZooError, match="fid.*nan"):
        zoo.save(module, tmp_path / "tiny", metrics={"fid": float("nan")})


def test_config_is_readable_json(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["format_version"] == 1
    assert config["hyperparameters"] == {
        "shape": [1, 8, 8], "latent_dim": 4, "width": 3, "depth": 1, "num_classes": None,
    }  # fmt: skip


def test_load_returns_a_lightning_module(checkpoint: Path) -> None:
    assert isinstance(zoo.load(str(checkpoint), device="cpu"), LightningModule)
    assert "load" in dir(zoo)
    assert sys.modules["zoo.loading"].load is zoo.load
