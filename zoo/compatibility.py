"""Configs of former versions: maps former names to current ones, so that old configs still run."""

from collections.abc import Mapping, Sequence
from typing import Any

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
"""Maps former class paths to current ones."""


def current_config(config: Any) -> Any:
    """Returns a config, or a part of one, with former class paths and hyperparameters replaced by current ones."""
    if isinstance(config, list):
        return [current_config(value) for value in config]
    if not isinstance(config, Mapping):
        return config
    current = {key: current_config(value) for key, value in config.items()}
    path = current.get("class_path")
    if isinstance(path, str):
        current["class_path"] = CLASS_PATHS.get(path, path)
        if isinstance(current.get("init_args"), Mapping):
            current["init_args"] = _current_names(path, current["init_args"])
    return current


def current_overrides(overrides: Sequence[str], class_path: str) -> list[str]:
    """Returns arguments of the command line with former class paths and hyperparameters, ``--model.clip``, replaced."""
    found = []
    for word, following in zip(overrides, [*overrides, ""][1:], strict=True):
        option, equals, value = word.partition("=")
        if option in ("--model", "--model.class_path"):  # another method than the recipe's, with names of its own
            class_path = value if equals else following
        for prefix in ("--model.init_args.", "--model."):
            if option.startswith(prefix) and "." not in (name := option.removeprefix(prefix)):
                option = prefix + next(iter(_current_names(class_path, {name: None})))
                break
        found.append(CLASS_PATHS.get(option, option) + equals + CLASS_PATHS.get(value, value))
    return found


def _current_names(class_path: str, values: Mapping[str, Any]) -> dict[str, Any]:
    from lightning_modules import METHODS

    package, _, name = class_path.rpartition(".")  # LightningCLI takes a class by its name alone, too
    method = METHODS.get(name) if not package or package.startswith("lightning_modules") else None
    return dict(values) if method is None else method.current_names(values)
