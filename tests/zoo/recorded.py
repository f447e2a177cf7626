"""What a card records of the arguments that a recipe writes."""

from collections.abc import Mapping
from typing import Any

import zoo
from lightning_modules import METHODS
from zoo.cards import Card


def as_recorded(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments with every checkpoint that is loaded in them replaced by its method and hyperparameters."""
    return {key: _recorded(value) for key, value in arguments.items()}


def chosen_hyperparameters(card: Card, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a card records under the names of the arguments; an old card has some under former names."""
    hyperparameters = METHODS[card.method].current_names(card.hyperparameters)
    return {key: hyperparameters[key] for key in arguments}


def _recorded(value: Any) -> Any:
    if not (isinstance(value, Mapping) and value.get("class_path") == "zoo.load"):
        return value
    card = zoo.card(value["init_args"]["name"])
    return {"method": card.method, "hyperparameters": dict(card.hyperparameters)}
