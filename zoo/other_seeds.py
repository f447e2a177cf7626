"""Metrics of further runs of a recipe with other seeds, beside those of its checkpoint; their weights are not kept."""

import inspect
from collections.abc import Sequence
from typing import Any

from lightning_modules import METHODS
from zoo.cards import Card
from zoo.data_record import json_like
from zoo.errors import ZooError
from zoo.json_values import shortened
from zoo.recipe import read_recipe

OPTION = "--seed_everything"


def seed_of(card: Card) -> int:
    """Returns the seed that a checkpoint was trained with: its recipe's, or that of the arguments of its training.

    Raises:
        ZooError: If the checkpoint is not of a recipe, or of one whose seed differs from run to run.
    """
    if card.recipe is None:
        raise ZooError(f"{card.name} was not trained by a recipe, so that its seed is not known.")
    _, found = without_seed(card.overrides)
    seed = read_recipe(card.recipe).get("seed_everything") if found is None else found
    if not str(seed).isdecimal():
        raise ZooError(f"The seed of {card.name} is {seed!r}, which is no whole number.")
    return int(str(seed))


def without_seed(overrides: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    """Returns the arguments of a training without that of the seed, and the seed, if one was given."""
    kept: list[str] = []
    seed, words = None, iter(overrides)
    for word in words:
        option, equals, value = word.partition("=")
        if option == OPTION:
            seed = value if equals else next(words, "")
        else:
            kept.append(word)
    return tuple(kept), seed


def check_other_seed(card: Card, run: Card) -> int:
    """Returns the seed of a run that differs from a checkpoint by its seed alone.

    Raises:
        ZooError: If they differ by something else, which the message names, or have the same seed.
    """
    if card.method != run.method:
        raise ZooError(f"{run.path} is no run of {card.name} with another seed: it is a {run.method}.")
    own, other = settings_of(card), settings_of(run)
    for name in [name for name in own if name in other]:
        if own[name] != other[name]:
            raise ZooError(
                f"{run.path} is no run of {card.name} with another seed: {name} is {shortened(other[name])} in place "
                f"of {shortened(own[name])}."
            )
    seed = seed_of(run)
    if seed == seed_of(card):
        raise ZooError(f"{run.path} has the seed {seed} of {card.name} itself.")
    return seed


def settings_of(card: Card) -> dict[str, Any]:
    """Returns by name all that two runs of different seeds have in common, as far as the card says it."""
    known = {"planned_batches": card.planned_batches, "precision": card.precision}  # former versions wrote neither
    return {
        "recipe": card.recipe,
        "data": card.data,
        "arguments": list(without_seed(card.overrides)[0]),
        **{name: value for name, value in known.items() if value is not None},
        **arguments_of(card),
    }


def arguments_of(card: Card) -> dict[str, Any]:
    """Returns the hyperparameters with those that the method has got since, which then have their defaults."""
    if (method := METHODS.get(card.method)) is None:
        raise ZooError(f"{card.path} is of the method {shortened(card.method)}, which is unknown.")
    parameters = inspect.signature(method).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    return json_like({**defaults, **method.current_names(card.hyperparameters)})
