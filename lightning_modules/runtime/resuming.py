"""Hyperparameters on resume: those that fit the weights of the checkpoint are used, others are refused."""

import inspect
import json
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer

METHOD = "method"
"""Key of a checkpoint under which the name of the module's class is stored."""
CLI_KEYS = ("_class_path", "_instantiator")
"""What LightningCLI adds to hyperparameters for itself; these name code."""
Changes = dict[str, tuple[Any, Any]]
"""Name of a hyperparameter to its value in the checkpoint and its value now."""


def is_resuming(trainer: Trainer | None) -> bool:
    """Returns whether a checkpoint that is read now is continued, rather than loaded or measured."""
    return trainer is not None and trainer.state.fn == "fit"


def changed_hyperparameters(module: LightningModule, checkpoint: Mapping[str, Any]) -> Changes:
    """Compares the hyperparameters of a checkpoint with those of the module, as JSON values.

    A hyperparameter that the checkpoint does not have, because it was added later, had its default value.

    Args:
        module: A module that saved its hyperparameters; one that did not has none to compare.
        checkpoint: What Lightning wrote, with the current names of hyperparameters.
    """
    former = checkpoint.get("hyper_parameters", {})
    if not former or not module.hparams:
        return {}
    parameters = inspect.signature(type(module)).parameters
    defaults = {key: p.default for key, p in parameters.items() if p.default is not inspect.Parameter.empty}
    former = defaults | dict(former)
    pairs = {key: (former[key], value) for key, value in module.hparams.items() if key in former}
    return {key: pair for key, pair in pairs.items() if key not in CLI_KEYS and _json(pair[0]) != _json(pair[1])}


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=repr))  # tuples become lists
