"""Every recipe runs: what stands in the file is what is tested, for two batches, which are small."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from lightning.pytorch import LightningDataModule

import zoo
from datamodules import DATAMODULES
from lightning_modules import METHODS
from lightning_modules.networks.bfloat16 import has_bfloat16_units
from tests.zoo.recorded import as_recorded, chosen_hyperparameters
from zoo import saving
from zoo.cli import train
from zoo.compatibility import current_config
from zoo.paths import checkpoint_names, recipe_names, recipe_path
from zoo.recipe import dependencies, extractor_of, read_recipe
from zoo.recipe_defaults import with_defaults

RECIPES = recipe_names()
MEASURED_BY_A_CLASSIFIER = ("datamodules.FashionMNIST", "datamodules.PixelSequence", "datamodules.Emoji")
SCHEDULES = {"noise_steps", "gamma_steps", "schedule_steps", "kl_warmup_steps"}
"""Hyperparameters that must not be longer than the run."""


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_name_public_classes_and_say_how_long_they_take(name: str) -> None:
    recipe = read_recipe(name)
    for part, package, known in (
        ("model", "lightning_modules", set(METHODS)),
        ("data", "datamodules", set(DATAMODULES)),
    ):
        module, _, class_name = recipe[part]["class_path"].rpartition(".")
        assert module == package, f"{recipe[part]['class_path']} is a private path; recipes are a file format"
        assert class_name in known
    assert re.search(r"#.*\bminutes\b", recipe_path(name).read_text(encoding="utf-8"))
    assert "max_steps" in recipe["trainer"]


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_use_todays_names(name: str) -> None:
    assert current_config(read_recipe(name)) == read_recipe(name)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_of_images_name_the_classifier_that_measures_them(name: str) -> None:
    recipe, extractor = read_recipe(name), extractor_of(name)
    assert dependencies(name) <= set(RECIPES)
    if extractor is not None:
        assert read_recipe(extractor)["model"]["class_path"] == "lightning_modules.Classifier"
    of_images = recipe["data"]["class_path"] in MEASURED_BY_A_CLASSIFIER
    assert (extractor is not None) == (of_images and not name.startswith("classifier."))


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_leave_out_what_the_command_adds(name: str) -> None:
    recipe = read_recipe(name)
    assert not {"logger", "enable_model_summary"} & recipe["trainer"].keys()
    callbacks = recipe["trainer"].get("callbacks", [])
    assert [callback for callback in callbacks if "extractor" in callback.get("init_args", {})] == []
    trainer = with_defaults(recipe, name)["trainer"]
    assert trainer["enable_model_summary"] is False
    assert trainer["logger"]["init_args"] == {"name": name}
    # Whatever is measured in training is measured by the extractor that the evaluation takes.
    measured = [
        callback["init_args"]["extractor"]["init_args"]["name"]
        for callback in trainer["callbacks"]
        if callback["class_path"].endswith("ImageMetrics")
    ]
    assert set(measured) <= {extractor_of(name)}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.filterwarnings("ignore")
def test_recipes_train(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    on_disk: Callable[[LightningDataModule], None],
) -> None:
    if missing := dependencies(name) - set(checkpoint_names()):
        pytest.skip(f"{', '.join(missing)} has no checkpoint here")
    recipe = read_recipe(name)
    on_disk(DATAMODULES[recipe["data"]["class_path"].rpartition(".")[2]](**recipe["data"].get("init_args", {})))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(saving, "render_samples", partial(saving.render_samples, num_samples=4))
    overrides = ["--trainer.max_steps", "2", "--trainer.limit_val_batches", "0", "--trainer.accelerator", "cpu"]
    schedules = dict.fromkeys(SCHEDULES & set(recipe["model"].get("init_args", {})), 2)
    overrides += [f"--model.{schedule}={length}" for schedule, length in schedules.items()]
    overrides += ["--data.batch_size", "8"]
    card = train(recipe_path(name), [*overrides, "--trainer.enable_progress_bar", "false"])
    assert card is not None
    assert (card.name, card.recipe, card.batches, card.planned_batches) == (name, name, 2, 2)
    fast = recipe["trainer"].get("precision") == "auto" and has_bfloat16_units()
    assert card.precision == ("bf16-mixed" if fast else "32-true")
    written = recipe["model"].get("init_args", {}) | schedules
    assert chosen_hyperparameters(card, written) == as_recorded(written)
    assert set(written) <= set(card.hyperparameters), "a new card is written with today's names"
    assert zoo.card(Path("runs") / name / "zoo") == card
    assert [path.name for path in tmp_path.iterdir()] == ["runs"], "a run writes into its own folder only"
