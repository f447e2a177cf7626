"""What a recipe leaves out is added, and whatever it or the command line says stays."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_modules.callbacks import ImageMetrics
from lightning_modules.runtime.tracking import Tracking
from tests.zoo.running import RECIPE
from zoo.cli import ZooCLI
from zoo.recipe import MEASURED_BY_EXTRACTOR
from zoo.recipe_defaults import with_defaults

MEASURED: dict[str, Any] = {
    "class_path": "lightning_modules.callbacks.ImageMetrics",
    "init_args": {"metrics": ["kid"], "num_samples": 250},
}


def recipe(**trainer: Any) -> dict[str, Any]:
    """The small recipe without what is added, in which a callback measures."""
    content = yaml.safe_load(RECIPE)
    for key in ("logger", "enable_model_summary"):
        del content["trainer"][key]
    content["trainer"]["callbacks"] = [MEASURED]
    return {**content, "extractor": "classifier.fashion_mnist", "trainer": {**content["trainer"], **trainer}}


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Builds a recipe named ``mine`` as the command does, and returns its trainer and its config."""
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def built(content: dict[str, Any], *overrides: str) -> Any:
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
        return ZooCLI(tmp_path / "mine.yaml", list(overrides), tmp_path / "runs/mine")

    return built


def test_a_short_recipe_is_built_as_a_long_one(build: Callable[..., Any]) -> None:
    cli = build(recipe())
    assert isinstance(cli.trainer.logger, Tracking)
    assert Path(cli.trainer.logger.save_dir).name == "mine"
    (callback,) = [callback for callback in cli.trainer.callbacks if isinstance(callback, ImageMetrics)]
    assert callback.extractor.extractor_name == "fashion_mnist"
    assert callback.metrics == ("kid",)
    assert [type(callback).__name__ for callback in cli.trainer.callbacks if "Summary" in type(callback).__name__] == []


@pytest.mark.parametrize(
    ("content", "overrides", "key", "expected"),
    [
        ({}, ["--trainer.logger", "false"], "logger", False),
        ({"logger": False}, [], "logger", False),
        ({"enable_model_summary": True}, [], "enable_model_summary", True),
        ({}, ["--trainer.enable_model_summary", "true"], "enable_model_summary", True),
    ],
)
def test_what_is_said_stays(
    content: dict[str, Any], overrides: list[str], key: str, expected: Any, build: Callable[..., Any]
) -> None:
    assert build(recipe(**content), *overrides).config["trainer"][key] == expected


def test_arguments_of_the_added_logger_can_be_overridden(build: Callable[..., Any]) -> None:
    cli = build(recipe(), "--trainer.logger.init_args.mode", "disabled", "--trainer.logger.init_args.project", "p")
    assert (cli.trainer.logger.mode, cli.trainer.logger.project) == ("disabled", "p")


LOADED = {"class_path": "zoo.load_classifier", "init_args": {"name": "classifier.x"}}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], "classifier.fashion_mnist"),
        (["--extractor", "classifier.y"], "classifier.y"),
        (["--extractor=classifier.y", "--model.lr", "1"], "classifier.y"),
        (["--extractor", "null"], None),
    ],
)
def test_training_measures_with_the_extractor_of_the_evaluation(overrides: list[str], expected: str | None) -> None:
    (callback,) = with_defaults(recipe(), "mine", overrides)["trainer"]["callbacks"]
    found = callback["init_args"].get("extractor", {}).get("init_args", {}).get("name")
    assert found == expected


def test_every_callback_that_measures_gets_it_unless_it_has_one() -> None:
    names = [{"class_path": f"lightning_modules.callbacks.{name}"} for name in sorted(MEASURED_BY_EXTRACTOR)]
    own = {"class_path": "ImageMetrics", "init_args": {"extractor": LOADED}}
    others: list[Any] = [{"class_path": "lightning_modules.callbacks.SampleGrid"}, "EMA"]
    *measuring, kept, grid, ema = with_defaults(recipe(callbacks=[*names, own, *others]), "x")["trainer"]["callbacks"]
    assert len(measuring) == 5
    assert {callback["init_args"]["extractor"]["init_args"]["name"] for callback in measuring} == {
        "classifier.fashion_mnist"
    }
    assert [kept, grid, ema] == [own, *others]


@pytest.mark.parametrize("content", [None, "x", ["y"], {"trainer": "z"}])
def test_what_is_no_recipe_is_left_to_the_parser(content: Any) -> None:
    assert with_defaults(content, "x") == content


def test_the_recipe_itself_is_left_as_it_is() -> None:
    content = recipe()
    with_defaults(content, "x")
    assert content == recipe()
