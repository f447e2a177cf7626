"""What a card records of the arguments that a recipe writes."""

from collections.abc import Mapping
from typing import Any

import zoo


def as_recorded(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments with every checkpoint that is loaded in them replaced by its method and hyperparameters."""
    return {key: _recorded(value) for key, value in arguments.items()}


def _recorded(value: Any) -> Any:
    if not (isinstance(value, Mapping) and value.get("class_path") == "zoo.load"):
        return value
    card = zoo.card(value["init_args"]["name"])
    return {"method": card.method, "hyperparameters": dict(card.hyperparameters)}
