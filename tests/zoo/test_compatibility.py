"""Former class paths and hyperparameters, in configs and on the command line, are read as today's."""

from importlib import import_module
from inspect import isclass, signature
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_modules import METHODS, WGAN
from zoo.cli import ZooCLI
from zoo.compatibility import CLASS_PATHS, current_config, current_overrides

FORMER_CLASSES = {
    "lightning_modules.tracking.Tracking": "lightning_modules.runtime.tracking.Tracking",
    "lightning_modules.parts.checkpoint_io.AtomicCheckpointIO": (
        "lightning_modules.runtime.checkpoint_io.AtomicCheckpointIO"
    ),
    "lightning_modules.classifier.Classifier": "lightning_modules.Classifier",
    "lightning_modules.extractors.Inception": "lightning_modules.metrics.inception.Inception",
    "zoo.announcing.AnnounceMeasures": "lightning_modules.callbacks.AnnounceMetrics",
    "zoo.sample_exhibits.SampleExhibits": "lightning_modules.callbacks.SampleGrid",
}
FORMER_HYPERPARAMETERS = [
    ("WGAN", "clip", "weight_clip"),
    ("ComposedGAN", "clip", "weight_clip"),
    ("PixelCNNPlusPlus", "clip", "clip_norm"),
    ("ProfessorForcing", "listen_above", "generator_accuracy_threshold"),
    ("ProfessorForcing", "teach_below", "discriminator_accuracy_threshold"),
    ("EBM", "jump_every", "mh_proposal_every"),
    ("VAE", "mixtures", "num_components"),
    ("IWAE", "mixtures", "num_components"),
]


def test_these_are_all_that_were_renamed() -> None:
    assert CLASS_PATHS == FORMER_CLASSES
    renamed = {
        (name, former, current)
        for name, method in METHODS.items()
        for former, current in method.renamed_hyperparameters.items()
    }
    assert renamed == set(FORMER_HYPERPARAMETERS)


# Class paths


@pytest.mark.parametrize(("former", "current"), FORMER_CLASSES.items())
def test_a_former_class_path_is_read_as_todays(former: str, current: str) -> None:
    module, _, name = current.rpartition(".")
    assert isclass(getattr(import_module(module), name)), "today's path leads to a class"
    arguments = {"name": "x", "nested": [{"class_path": former}]}
    config = {"trainer": {"logger": {"class_path": former, "init_args": arguments}, "max_steps": 3}}
    assert current_config(config) == {
        "trainer": {
            "logger": {
                "class_path": current,
                "init_args": {"name": "x", "nested": [{"class_path": current}]},
            },
            "max_steps": 3,
        }
    }
    assert config["trainer"]["logger"]["class_path"] == former, "the config itself is left as it was"  # type: ignore[index]


@pytest.mark.parametrize(("former", "current"), FORMER_CLASSES.items())
def test_a_former_class_path_on_the_command_line_is_read_as_todays(former: str, current: str) -> None:
    given = ["--trainer.logger", former, f"--trainer.logger={former}", f"--trainer.callbacks+={former}", "--x", "y"]
    expected = ["--trainer.logger", current, f"--trainer.logger={current}", f"--trainer.callbacks+={current}"]
    assert current_overrides(given, "lightning_modules.WGAN") == [*expected, "--x", "y"]


# Hyperparameters


@pytest.mark.parametrize("path", ["lightning_modules.{}", "lightning_modules.somewhere.deeper.{}"])
@pytest.mark.parametrize(("method", "former", "current"), FORMER_HYPERPARAMETERS)
def test_a_former_hyperparameter_in_a_config_is_read_as_todays(
    method: str, former: str, current: str, path: str
) -> None:
    assert current in signature(METHODS[method]).parameters
    assert former not in signature(METHODS[method]).parameters
    written = {"class_path": path.format(method), "init_args": {"lr": 1e-3, former: 7, "width": 2}}
    read = {"class_path": path.format(method), "init_args": {"lr": 1e-3, current: 7, "width": 2}}
    assert current_config({"model": written}) == {"model": read}
    assert current_config({"callbacks": [written, {"noise_density": written}]}) == {
        "callbacks": [read, {"noise_density": read}]
    }
    assert current_config(read) == read


@pytest.mark.parametrize(("method", "former", "current"), FORMER_HYPERPARAMETERS)
@pytest.mark.parametrize("prefix", ["--model.", "--model.init_args."])
def test_a_former_hyperparameter_on_the_command_line_is_read_as_todays(
    prefix: str, method: str, former: str, current: str
) -> None:
    path = f"lightning_modules.{method}"
    assert current_overrides([f"{prefix}{former}", "7"], path) == [f"{prefix}{current}", "7"]
    assert current_overrides([f"{prefix}{former}=7"], path) == [f"{prefix}{current}=7"]
    assert current_overrides([f"{prefix}{current}=7"], path) == [f"{prefix}{current}=7"]


@pytest.mark.parametrize(("method", "former", "current"), FORMER_HYPERPARAMETERS)
def test_names_that_mean_the_same_elsewhere_are_left_alone(method: str, former: str, current: str) -> None:
    """``clip`` of a WGAN is another thing than ``clip`` of a PixelCNN++, and nothing in a user's own class."""
    for path in (f"mine.{method}", "lightning_modules.Gaussian", f"lightning_modules.callbacks.{former}", ""):
        written = {"class_path": path, "init_args": {former: 7}}
        assert current_config(written) == written
        assert current_overrides([f"--model.{former}", "7"], path) == [f"--model.{former}", "7"]
    own = f"lightning_modules.{method}"
    kept = [f"--data.{former}", f"--trainer.{former}=1", f"--model.x.{former}", former, f"--model.lr={former}"]
    assert current_overrides(kept, own) == kept
    assert current_config({"class_path": own, "init_args": None}) == {"class_path": own, "init_args": None}
    assert current_config({"class_path": own, "other": {former: 7}}) == {"class_path": own, "other": {former: 7}}


@pytest.mark.parametrize("config", [None, 3, "text", [], {}, {"class_path": 3, "init_args": {"clip": 1}}])
def test_other_values_are_returned_as_they_are(config: Any) -> None:
    assert current_config(config) == config


# The command


@pytest.mark.parametrize(
    ("written", "overrides", "expected"),
    [
        ("clip", [], 0.02),
        ("weight_clip", [], 0.02),
        ("clip", ["--model.clip", "0.5"], 0.5),
        ("clip", ["--model.weight_clip=0.5"], 0.5),
        ("weight_clip", ["--model.init_args.clip=0.5"], 0.5),
    ],
)
def test_a_recipe_of_a_former_version_is_built(
    written: str, overrides: list[str], expected: float, tmp_path: Path
) -> None:
    recipe = {
        "model": {"class_path": "lightning_modules.WGAN", "init_args": {"width": 2, written: 0.02}},
        "data": {"class_path": "datamodules.SyntheticImages"},
        "trainer": {
            "accelerator": "cpu",
            "logger": {"class_path": "lightning_modules.tracking.Tracking", "init_args": {"name": "x"}},
            "callbacks": [{"class_path": "zoo.sample_exhibits.SampleExhibits", "init_args": {"num_samples": 3}}],
        },
    }
    (tmp_path / "former.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    cli = ZooCLI(tmp_path / "former.yaml", overrides, tmp_path / "run")
    assert type(cli.model) is WGAN
    assert cli.model.hparams["weight_clip"] == expected
    assert "clip" not in cli.model.hparams
    assert type(cli.trainer.logger).__name__ == "Tracking"
    callbacks = cli.trainer.callbacks  # type: ignore[attr-defined]
    assert "SampleGrid" in [type(callback).__name__ for callback in callbacks]


@pytest.mark.parametrize(
    "chosen",
    [["--model", "WGAN"], ["--model=lightning_modules.WGAN"], ["--model.class_path", "lightning_modules.WGAN"]],
)
def test_another_method_on_the_command_line_has_names_of_its_own(chosen: list[str]) -> None:
    """``clip`` was the bound of the weights in one method, and that of the gradient's norm in another."""
    recipe = "lightning_modules.PixelCNNPlusPlus"
    assert current_overrides(["--model.clip", "0.1"], recipe) == ["--model.clip_norm", "0.1"]
    assert current_overrides([*chosen, "--model.clip", "0.1"], recipe)[-2:] == ["--model.weight_clip", "0.1"]
