"""What recipes need not say: the logger and its name, the extractor of metrics in training, no model summary.

Each is added only where a recipe leaves it out, before LightningCLI reads it; so the command line still overrides it,
and a config that has it, such as the ``config.yaml`` of a run, stays as it is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.features import EXTRACTORS
from zoo.recipe import MEASURED_BY_EXTRACTOR


def with_defaults(config: Any, name: str, overrides: Sequence[str] = ()) -> Any:
    """Returns a recipe's content, complete.

    Args:
        config: Content of the recipe; anything but a mapping is returned as it is.
        name: Name of the run, which its logger gets.
        overrides: Arguments of the command line; ``--extractor`` replaces the recipe's own.
    """
    if not isinstance(config, Mapping) or not isinstance(trainer := config.get("trainer") or {}, Mapping):
        return config
    tracking = {"class_path": "lightning_modules.runtime.tracking.Tracking", "init_args": {"name": name}}
    completed = {"logger": tracking, "enable_model_summary": False, **trainer}
    extractor = _extractor(overrides, config.get("extractor"))
    if extractor is not None and isinstance(callbacks := completed.get("callbacks"), list):
        completed["callbacks"] = [_measured_by(extractor, callback) for callback in callbacks]
    return {**config, "trainer": completed}


def _extractor(overrides: Sequence[str], default: Any) -> str | None:
    chosen = default
    for word, following in zip(overrides, [*overrides, ""][1:], strict=True):
        option, equals, value = word.partition("=")
        if option == "--extractor":
            chosen = value if equals else following
    return None if chosen in (None, "null", "None") else str(chosen)


def _measured_by(extractor: str, callback: Any) -> Any:
    if not isinstance(callback, Mapping) or str(callback.get("class_path")).rpartition(".")[2] not in (
        MEASURED_BY_EXTRACTOR
    ):
        return callback
    loader = "zoo.load_extractor" if extractor in EXTRACTORS else "zoo.load_classifier"
    loaded = {"class_path": loader, "init_args": {"name": extractor}}
    return {**callback, "init_args": {"extractor": loaded, **(callback.get("init_args") or {})}}
