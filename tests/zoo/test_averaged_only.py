"""Checkpoints that hold only the averaged weights of some networks, and those whose weights a wheel leaves out."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file

import zoo
from tests.datamodules.small_data import image_folder
from tests.zoo.damage import edit_config, edit_tensors, refuses
from tests.zoo.running import RECIPE, fails
from tests.zoo.test_roundtrip import assert_same, ema_of
from tests.zoo.tiny import TinyGAN
from zoo.__main__ import main
from zoo.cards import FORMAT_VERSION
from zoo.saving import save_state, update_metrics


@pytest.fixture
def smaller(module: TinyGAN, averaging: Trainer, tmp_path: Path) -> Path:
    """A checkpoint that has of the generator nothing but the average."""
    zoo.save(module, tmp_path / "smaller", averaged_only=True, trainer=averaging)
    return tmp_path / "smaller"


def test_the_average_and_the_other_networks_come_back_bit_for_bit(
    module: TinyGAN, averaging: Trainer, smaller: Path
) -> None:
    card = zoo.card(smaller)
    assert (card.averaged, card.averaged_only, card.to_json()["format_version"]) == (True, ("generator",), 2)
    averages = ema_of(averaging).averaged_state_dict(module)
    assert not torch.equal(averages["generator.0.weight"], module.state_dict()["generator.0.weight"])
    assert_same(module.state_dict() | averages, zoo.load(str(smaller)).state_dict())
    stored = load_file(smaller / "model.safetensors")
    assert {key.partition(".")[0] for key in stored} == {"ema", "discriminator"}
    assert card.networks == {"generator": count(module.generator), "discriminator": count(module.discriminator)}


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_weights_of_the_last_step_are_refused_where_there_are_none(
    smaller: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(zoo.ZooError, match=r"smaller.*averaged.*generator.*weights='ema'"):
        zoo.load(str(smaller), weights="raw")
    assert "generator" in fails(["sample", str(smaller), "--weights", "raw"], capsys)


def test_a_network_of_which_a_part_has_no_average_keeps_its_weights(
    module: TinyGAN, averaging: Trainer, tmp_path: Path
) -> None:
    averages = ema_of(averaging).state_dict()["averages"]
    del averages["generator.0.bias"]
    card = save_state(module, tmp_path / "partly", averages, averaged_only=True)
    assert (card.averaged, card.averaged_only) == (True, ())
    assert_same(module.state_dict(), zoo.load(str(tmp_path / "partly"), weights="raw").state_dict())


def test_without_an_average_everything_is_written_in_the_former_format(module: TinyGAN, tmp_path: Path) -> None:
    card = zoo.save(module, tmp_path / "tiny", averaged_only=True)
    assert not card.averaged_only
    config = json.loads((tmp_path / "tiny/config.json").read_text())
    assert config["format_version"] == 1
    assert not {"averaged_only", "large"} & set(config)


def test_both_marks_stay_when_metrics_are_written(smaller: Path) -> None:
    edit_config(smaller, large=True)
    update_metrics(smaller, {"test/fid-tiny-10k": 3.0})
    card = zoo.card(smaller)
    assert (card.averaged_only, card.large, dict(card.metrics)) == (("generator",), True, {"test/fid-tiny-10k": 3.0})
    text = (smaller / "README.md").read_text()
    assert 'weights="raw"' not in text
    assert re.search(r"- Weights: .*generator their average alone.*checkout", text)


def test_show_says_which_weights_there_are(smaller: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(smaller)]) == 0
    assert re.search(r"weights +average; last step of all networks but generator", capsys.readouterr().out)


def test_a_model_without_other_networks_is_said_to_have_the_average_alone(
    smaller: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_config(smaller, networks={"generator": 5}, batches=7, planned_batches=9)
    assert main(["show", str(smaller)]) == 0
    assert re.search(r"weights +average *\n", capsys.readouterr().out)
    update_metrics(smaller, {"test/fid-tiny-10k": 3.0})
    assert "- Weights: those after batch 7 of 9 planned; the average alone\n" in (smaller / "README.md").read_text()


def test_a_loaded_module_can_be_saved_again(smaller: Path, tmp_path: Path) -> None:
    module = zoo.load(str(smaller))
    zoo.save(module, tmp_path / "again")
    assert_same(module.state_dict(), zoo.load(str(tmp_path / "again"), weights="raw").state_dict())


SETTINGS = ["--trainer.limit_val_batches", "0"]


def test_a_recipe_can_ask_for_it_and_fine_tuning_starts_from_the_average(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.yaml").write_text(f"averaged_only: true\nlarge: true\n{RECIPE}")
    assert main(["train", "tiny.yaml", *SETTINGS, "--averaged_only", "false", "--save-to", "both"]) == 0
    assert zoo.card("./both").averaged_only == ()
    assert main(["train", "tiny.yaml", *SETTINGS]) == 0
    card = zoo.card("runs/tiny/zoo")
    assert (card.averaged_only, card.large) == (("generator",), True)
    (ckpt,) = Path("runs/tiny/checkpoints").glob("step=4.ckpt")
    assert main(["export", str(ckpt), "exported", "--averaged-only"]) == 0
    assert "generator" in capsys.readouterr().out
    assert_same(zoo.load("./exported").state_dict(), zoo.load("runs/tiny/zoo").state_dict())

    start = zoo.load("runs/tiny/zoo").state_dict()
    first: dict[str, torch.Tensor] = {}

    def remember(self: Any, *_: object, **__: object) -> None:
        first.update({key: value.clone() for key, value in self.state_dict().items()})

    monkeypatch.setattr("lightning_modules.adversarial.loop.AdversarialModule.on_train_start", remember)
    image_folder(tmp_path / "pets")
    words = ["--steps", "1", "--batch-size", "2", "--out", "tuned"]
    assert main(["fine-tune", "runs/tiny/zoo", "--data", str(tmp_path / "pets"), *words]) == 0
    assert "averaged weights (generator)" in capsys.readouterr().out
    assert_same(start, first)


# Configs that are damaged or a stranger's


@pytest.mark.parametrize("value", ["generator", {"generator": 1}, [1], [None], [["generator"]], None, True, 1.5,
                                   ["generator", "generator"]])  # fmt: skip
def test_other_things_than_lists_of_names(smaller: Path, value: object) -> None:
    edit_config(smaller, averaged_only=value)
    refuses(smaller, r"config\.json.*'averaged_only'.*list of names")


@pytest.mark.parametrize(
    "name", ["critic", "", ".", "generator.0", "generator.", "ema", "../generator", "ema.generator", "\x00", "𝒢"]
)
def test_names_of_no_network(smaller: Path, name: str) -> None:
    edit_config(smaller, averaged_only=["generator", name])
    refuses(smaller, r"'averaged_only'.*no network of TinyGAN.*discriminator, generator")


def test_a_network_without_any_average(smaller: Path) -> None:
    edit_config(smaller, averaged_only=["generator", "discriminator"])
    refuses(smaller, r"model\.safetensors has discriminator.*averaged_only: generator, discriminator")
    edit_tensors(smaller, lambda tensors: [tensors.pop(key) for key in [*tensors] if key.startswith("discr")])
    refuses(smaller, r"lacks ema\.discriminator")


def test_a_network_whose_weights_of_the_last_step_are_there_as_well(smaller: Path) -> None:
    edit_tensors(smaller, lambda tensors: tensors.update({"generator.0.bias": torch.zeros(192)}))
    refuses(smaller, r"model\.safetensors has generator\.0\.bias.*last step.*averaged_only: generator")
    edit_config(smaller, averaged_only=[])
    refuses(smaller, r"lacks generator\.0\.weight")


def test_an_average_that_lacks_a_tensor_or_has_another_shape(smaller: Path) -> None:
    whole = load_file(smaller / "model.safetensors")
    edit_tensors(smaller, lambda tensors: tensors.pop("ema.generator.0.bias"))
    refuses(smaller, r"lacks ema\.generator\.0\.bias")
    edit_tensors(smaller, lambda tensors: tensors.update({**whole, "ema.generator.0.bias": torch.zeros(7)}))
    refuses(smaller, r"'ema\.generator\.0\.bias'.*\[7\].*\[192\]")
    edit_tensors(smaller, lambda tensors: tensors.update({**whole, "ema.generator.9.bias": torch.zeros(7)}))
    refuses(smaller, r"ema\.generator\.9\.bias")


@pytest.mark.parametrize(("key", "value"), [("format_version", 1), ("averaged", False)])
def test_a_config_that_contradicts_itself(smaller: Path, key: str, value: object) -> None:
    edit_config(smaller, **{key: value})
    refuses(smaller, r"'averaged_only'.*format_version 2.*averaged")


@pytest.mark.parametrize("value", [1, "true", None, []])
def test_large_is_true_or_false(smaller: Path, value: object) -> None:
    edit_config(smaller, large=value)
    refuses(smaller, r"config\.json.*'large'")


def test_missing_weights_of_a_large_checkpoint_are_in_a_checkout(smaller: Path) -> None:
    (smaller / "model.safetensors").unlink()
    refuses(smaller, r"no file model\.safetensors")
    edit_config(smaller, large=True)
    assert "zoo train" not in refuses(smaller, r"smaller.*wheel.*model\.safetensors.*checkout.*checkpoints/smaller")
    edit_config(smaller, recipe="tiny")
    refuses(smaller, r"python -m zoo train tiny")


def test_a_format_of_the_future_names_the_version_that_it_needs(smaller: Path) -> None:
    versions = dict(zoo.card(smaller).versions)
    edit_config(smaller, format_version=FORMAT_VERSION + 1, versions=versions | {"generative-zoo": "7.8.9"})
    refuses(smaller, r"format_version 3.*reads 1 to 2.*generative-zoo '7\.8\.9'")
    for unknown in (versions | {"generative-zoo": "unknown"}, {"generative-zoo": 3}, [], None):
        edit_config(smaller, versions=unknown)
        refuses(smaller, r"format_version 3.*a newer generative-zoo\.")


def test_the_card_is_what_is_read_again(smaller: Path) -> None:
    card = replace(zoo.card(smaller), large=True)
    (smaller / "config.json").write_text(json.dumps(card.to_json()))
    assert zoo.card(smaller) == card
