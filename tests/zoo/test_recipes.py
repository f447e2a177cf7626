"""Every recipe runs: what stands in the file is what is tested, for two batches."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch import LightningDataModule

import zoo
from datamodules import DATAMODULES
from lightning_modules import METHODS
from tests.zoo.recorded import as_recorded
from zoo.cli import train
from zoo.paths import recipe_names, recipe_path

RECIPES = recipe_names()


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load(recipe_path(name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_name_public_classes_and_say_how_long_they_take(name: str) -> None:
    recipe = read(name)
    for part, package, known in (("model", "lightning_modules", METHODS), ("data", "datamodules", DATAMODULES)):
        module, _, class_name = recipe[part]["class_path"].rpartition(".")
        assert module == package, f"{recipe[part]['class_path']} is a private path; recipes are a file format"
        assert class_name in known
    assert re.search(r"#.*\bminutes\b", recipe_path(name).read_text(encoding="utf-8"))
    assert "max_steps" in recipe["trainer"]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.filterwarnings("ignore")
def test_recipes_train(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    on_disk: Callable[[LightningDataModule], None],
) -> None:
    judges = set(re.findall(r"name: (classifier\.\w+)", recipe_path(name).read_text(encoding="utf-8")))
    if missing := judges - set(zoo.names()):
        pytest.skip(f"{', '.join(missing)} has no checkpoint here")
    recipe = read(name)
    on_disk(DATAMODULES[recipe["data"]["class_path"].rpartition(".")[2]](**recipe["data"].get("init_args", {})))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    overrides = ["--trainer.max_steps", "2", "--trainer.limit_val_batches", "0", "--trainer.accelerator", "cpu"]
    card = train(recipe_path(name), [*overrides, "--trainer.enable_progress_bar", "false"])
    assert card is not None
    assert (card.name, card.recipe, card.batches) == (name, name, 2)
    written = recipe["model"].get("init_args", {})
    assert {key: card.hyperparameters[key] for key in written} == as_recorded(written)
    assert (tmp_path / "runs" / name / "zoo/config.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"], "a run writes into its own folder only"
