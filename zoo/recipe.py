"""Dependencies between recipes: the checkpoints that they load, and an order in which they can be trained."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from zoo.paths import recipe_names, recipe_path

LOADERS = ("zoo.load", "zoo.load_classifier")
MEASURED_BY_EXTRACTOR = frozenset(
    ("ImageMetrics", "FrechetInceptionDistance", "InceptionScore", "KernelInceptionDistance", "PrecisionRecall")
)
"""Callbacks that measure with a recipe's extractor unless they name another."""
RESOLVED = ("precision",)
"""Settings of which a run holds what they came to on its machine, as ``auto`` of the precision."""


@cache
def read_recipe(name: str) -> Mapping[str, Any]:
    """Returns the content of a recipe of the zoo."""
    import yaml

    content: Mapping[str, Any] = yaml.safe_load(recipe_path(name).read_text(encoding="utf-8"))
    return content


def extractor_of(recipe: str) -> str | None:
    """Returns the checkpoint that a recipe names as its feature extractor, or ``None``."""
    extractor = read_recipe(recipe).get("extractor")
    return None if extractor is None else str(extractor)


def dependencies(recipe: str) -> set[str]:
    """Returns the checkpoints that must exist before a recipe is trained and measured."""
    needed = set(_loaded(read_recipe(recipe)))
    if (extractor := extractor_of(recipe)) is not None:
        needed.add(extractor)
    return needed - {recipe}


def training_order(names: Sequence[str] | None = None) -> list[str]:
    """Returns recipes, all by default, in an order in which each comes after those whose checkpoints it loads."""
    chosen = recipe_names() if names is None else list(names)
    graph = {name: sorted(dependencies(name) & set(chosen)) for name in chosen}
    return list(TopologicalSorter(graph).static_order())


def has_settings(config: Path, recipe: str, **changed: Any) -> bool:
    """Returns whether the ``config.yaml`` of a run has every setting of a recipe, which may have changed since.

    Args:
        config: The file.
        recipe: Name of the recipe.
        changed: Settings that the run has in place of those of the recipe, such as ``seed_everything``.
    """
    import yaml

    from zoo.compatibility import current_config

    try:
        found = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return _has(found, current_config(read_recipe(recipe)) | changed)


def _has(found: Any, wanted: Any) -> bool:
    """Returns whether a part of a config has all that a part of a recipe says."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            key in found and (key in RESOLVED or _has(*_comparable(key, found[key], value)))
            for key, value in wanted.items()
        )
    if isinstance(wanted, (list, tuple)):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(_has, found, wanted))
    try:
        return found == wanted or float(found) == float(wanted)  # YAML reads 1e-3 as a text
    except (TypeError, ValueError):
        return False


def _comparable(key: str, *values: Any) -> tuple[Any, ...]:
    """Returns values of a setting; of a class its name, because configs have its whole path."""
    return tuple(str(value).rpartition(".")[2] for value in values) if key == "class_path" else values


def _loaded(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if value.get("class_path") in LOADERS:
            yield value["init_args"]["name"]
        for child in value.values():
            yield from _loaded(child)
    elif isinstance(value, list):
        for child in value:
            yield from _loaded(child)
