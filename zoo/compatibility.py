"""Configs of former versions: maps former names to current ones, so that old configs still run."""

import atexit
import json
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import yaml

CLASS_PATHS = {
    "lightning_modules.tracking.Tracking": "lightning_modules.runtime.tracking.Tracking",
    "lightning_modules.parts.checkpoint_io.AtomicCheckpointIO": (
        "lightning_modules.runtime.checkpoint_io.AtomicCheckpointIO"
    ),
    "lightning_modules.classifier.Classifier": "lightning_modules.Classifier",
    "lightning_modules.extractors.Inception": "lightning_modules.metrics.inception.Inception",
    "zoo.announcing.AnnounceMeasures": "lightning_modules.callbacks.AnnounceMetrics",
    "zoo.sample_exhibits.SampleExhibits": "lightning_modules.callbacks.SampleGrid",
}
"""Maps former paths of classes to current ones, where ``current_path`` does not find them by their names."""
PUBLIC = ("lightning_modules", "lightning_modules.callbacks", "datamodules")
"""Packages from which methods, callbacks and datamodules are imported by their names alone."""
CLASS_PATH = re.compile(r"(lightning_modules|datamodules|zoo)(\.[A-Za-z_]\w*)+")


def current_path(path: str) -> str:
    """Returns the path of a class today, given the one of a former version; any other text is returned as it is."""
    if path in CLASS_PATHS or not CLASS_PATH.fullmatch(path):
        return CLASS_PATHS.get(path, path)
    module, _, name = path.rpartition(".")
    if not _has(module, name):
        return next((f"{package}.{name}" for package in PUBLIC if _has(package, name)), path)
    return path


def current_config(config: Any, method: str = "") -> Any:
    """Returns a config, or a part of one, with former class paths and hyperparameters replaced by current ones.

    Args:
        config: Any part of a YAML file.
        method: Class path of the model, if the config has only hyperparameters of it.
    """
    if isinstance(config, list):
        return [current_config(value) for value in config]
    if isinstance(config, str):
        return current_path(config)
    if not isinstance(config, Mapping):
        return config
    current = {key: current_config(value, method if key == "model" else "") for key, value in config.items()}
    path = current.get("class_path", method)
    if isinstance(path, str) and isinstance(current.get("init_args"), Mapping):
        current["init_args"] = _current_names(path, current["init_args"])
    return current


def current_file(path: Path, method: str = "") -> str:
    """Returns the path of a YAML file, or of a copy in which former names are replaced by current ones.

    Args:
        path: The file.
        method: Class path of the model, if the file has only hyperparameters of it.
    """
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    current = current_config(config, method)
    if current == config:
        return str(path)
    with NamedTemporaryFile("w", suffix=".yaml", delete=False, encoding="utf-8") as file:
        yaml.safe_dump(current, file, sort_keys=False)
    atexit.register(Path(file.name).unlink, missing_ok=True)
    return file.name


def current_overrides(overrides: Sequence[str], method: str) -> list[str]:
    """Returns arguments of the command line with former names replaced by current ones, also in files that they name.

    Args:
        overrides: The arguments, ``["--model.clip", "0.01"]``.
        method: Class path of the recipe's model.
    """
    found: list[str] = []
    option = ""
    for word, following in zip(overrides, [*overrides, ""][1:], strict=True):
        if not word.startswith("--"):
            found.append(_current_value(option, word, method))
            continue
        option, equals, value = word.partition("=")
        if option in ("--model", "--model.class_path"):  # another method than the recipe's, with names of its own
            method = value if equals else following
        for prefix in ("--model.init_args.", "--model."):
            if option.startswith(prefix) and "." not in (name := option.removeprefix(prefix)):
                option = prefix + next(iter(_current_names(method, {name: None})))
                break
        found.append(current_path(option) + equals + (_current_value(option, value, method) if equals else ""))
    return found


def _current_value(option: str, value: str, method: str) -> str:
    if option == "--config" and Path(value).is_file():
        return current_file(Path(value), method)
    if not value.startswith(("{", "[")):
        return current_path(value)
    try:
        config = yaml.safe_load(value)
    except yaml.YAMLError:  # LightningCLI reports it
        return value
    current = current_config({"model": config} if option == "--model" else config, method)
    current = current["model"] if option == "--model" else current
    return value if current == config else json.dumps(current)


def _has(module: str, name: str) -> bool:
    try:
        return hasattr(import_module(module), name)
    except ModuleNotFoundError:
        return False


def _current_names(class_path: str, values: Mapping[str, Any]) -> dict[str, Any]:
    from lightning_modules import METHODS

    package, _, name = class_path.rpartition(".")  # LightningCLI takes a class by its name alone, too
    method = METHODS.get(name) if not package or package.startswith("lightning_modules") else None
    return dict(values) if method is None else method.current_names(values)
