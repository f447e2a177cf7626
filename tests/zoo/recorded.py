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


CHAINS = {"fid": (0.2, 0), "inception_score": (0.1, 0), "precision": (0, 0.1), "recall": (0, 0.1), "kid": (0.3, 0)}
TOLERANCES: dict[str, tuple[float, float]] = {
    "fid": (2e-3, 0),
    "inception_score": (1e-3, 0),
    "inception_score_std": (0.02, 0),
    "kid": (5e-3, 1e-4),
    "kid_std": (0.02, 1e-4),
    "precision": (0, 5e-3),
    "recall": (0, 5e-3),
    "class_accuracy": (0, 5e-3),
    "kl": (0, 2e-3),
    "ess": (0.01, 0),
    "langevin_acceptance": (0, 0.05),
    "noise_acceptance": (0, 0.05),
    "hidden_frechet": (0.1, 0),
}
"""How far metrics of equal seeds may lie apart on two machines, relatively and absolutely, by their name."""
COUNTED = (0, 0.02)
"""Shares of hundreds of captions: a few lie so near to the border that the last bits decide."""
EXACT = (1e-4, 1e-6)
SAMPLED = (0.05, 2e-4)
"""Metrics of sampled sequences: a coin that falls otherwise makes another sequence."""


def tolerance_of(card: Card, key: str) -> tuple[float, float]:
    """Returns how far a number may lie from the recorded one, relatively and absolutely.

    Products differ in the last bits. A long Markov chain makes other samples of that (one coin that falls otherwise is
    enough), so only the distribution of an energy's samples is the same: two machines differed by 4 % in an RBM's FID
    of 1 000.
    """
    name, *protocol = key.rpartition("/")[2].split("-")
    chains = METHODS[card.method].__module__.startswith("lightning_modules.energy.")
    family = name.removesuffix("_of_means").removesuffix("_over_real")
    if chains and (card.data_spec or {}).get("kind") == "image" and protocol and "fashion_mnist" in protocol[0]:
        return CHAINS.get(family, (0.5, 0.1))
    if name.startswith(("ais_", "energy_")) or (chains and name.startswith(("nll", "bits"))):
        return 2e-3, 2e-3
    if name.startswith("counterfactual_"):
        return COUNTED
    if family in TOLERANCES:
        return TOLERANCES[family]
    sampled = name.startswith(("js_", "hidden_", "copied_", "frame_")) or name.endswith("_distance") or name in RATES
    exact = "floor" in name or name.endswith("_of_last_frame")
    return SAMPLED if sampled and not exact else EXACT


RATES = ("notes_per_frame", "silent_frames", "repeated_frames", "pitch_range")


def disagreements(card: Card, measured: Mapping[str, float]) -> dict[str, tuple[float, float | None]]:
    """Returns what was measured now and what the card says, wherever that is missing or lies too far away."""
    found: dict[str, tuple[float, float | None]] = {}
    for key, value in measured.items():
        recorded = card.metrics.get(key)
        relative, absolute = tolerance_of(card, key)
        if recorded is None or not abs(value - recorded) <= max(relative * abs(recorded), absolute):
            found[key] = (value, recorded)
    return found


def forgotten(card: Card, measured: Mapping[str, float]) -> list[str]:
    """Returns recorded metrics of tests that are measured no more; those of 1 000 samples are measured apart."""
    recorded = [key for key in card.metrics if key.startswith("test/") and "/seconds_per_sample-" not in key]
    return [key for key in recorded if key not in measured and not key.removesuffix("-all").endswith("-1k")]
