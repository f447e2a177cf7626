"""The entries of a checkpoint and their types: a file with others is refused before any of them is used.

A file may be intact, and yet another program, or a hand, has written something else under a name that Lightning or a
module reads. What reads it would fail with an error of its own that names neither the file nor the entry.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

Check = Callable[[Any], bool]
VERSION = re.compile(r"\d+(\.\d+)*((a|b|rc|\.?post|\.?dev)\d*)*(\+[\w.]+)?")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_version(value: Any) -> bool:
    return isinstance(value, str) and VERSION.fullmatch(value) is not None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_named(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _is_optimizer_state(value: Any) -> bool:
    if not isinstance(value, Mapping) or not isinstance(value.get("state"), Mapping):
        return False
    groups = value.get("param_groups")
    return isinstance(groups, list) and all(_is_mapping(group) for group in groups)


def _listed(each: Check) -> Check:
    return lambda value: isinstance(value, (list, tuple)) and all(each(item) for item in value)


def _optional(own: Check) -> Check:
    return lambda value: value is None or own(value)


ENTRIES: dict[str, tuple[str, Check]] = {
    "epoch": ("a whole number from 0", _is_count),
    "global_step": ("a whole number from 0", _is_count),
    "pytorch-lightning_version": ("a version, such as '2.6.6'", _is_version),
    "state_dict": ("a mapping of names to tensors", _is_named),
    "loops": ("a mapping of names to mappings", _is_named),
    "callbacks": ("a mapping of names to mappings", _is_named),
    "optimizer_states": ("a list of states of optimizers", _listed(_is_optimizer_state)),
    "lr_schedulers": ("a list of mappings", _listed(_is_mapping)),
    "hparams_name": ("a string, or None", _optional(_is_text)),
    "hyper_parameters": ("a mapping of names to values", _is_named),
    "datamodule_hparams_name": ("a string, or None", _optional(_is_text)),
    "datamodule_hyper_parameters": ("a mapping of names to values", _is_named),
    "MixedPrecision": ("a mapping", _is_mapping),
    "method": ("a string", _is_text),
    "precision": ("a string", _is_text),
    "optimizer_settings": ("a list of mappings, or None", _optional(_listed(_is_mapping))),
    "changes": ("a list of strings", _listed(_is_text)),
    "losses": ("a mapping of names to tensors", _is_named),
    "training_loader": ("a mapping of names to whole numbers", _is_named),
    "data_spec": ("a mapping of fields to values, or None", _optional(_is_mapping)),
    "rank_states": ("a list of mappings", _listed(_is_mapping)),
    "run_id": ("a string, or None", _optional(_is_text)),
}
"""Name of an entry to what it must be, in words, and a check of it."""
TENSORS, MAPPINGS = ("state_dict", "losses"), ("loops", "callbacks")
"""Entries whose values are tensors, and those whose values are mappings."""
CALLBACKS: dict[str, tuple[str, str, Check]] = {
    "EMA": ("averages", "a mapping of names to tensors", _is_named),
    "RandomStates": ("processes", "a list of mappings", _listed(_is_mapping)),
}
"""Callbacks of this library: an entry of their state, what it must be, and a check of it."""


def wrong_entry(checkpoint: Mapping[str, Any], *others: str) -> str | None:
    """Returns what is wrong with the first entry that has another type than is written under its name, or ``None``.

    Args:
        checkpoint: The content of the file.
        *others: Names of further entries that are mappings, such as that of a datamodule.

    Returns:
        An end of a sentence whose subject is the file: "its entry 'changes' must be a list of strings, but is None".
    """
    for name, (wanted, fits) in {**ENTRIES, **dict.fromkeys(others, ("a mapping", _is_mapping))}.items():
        if name in checkpoint and not fits(checkpoint[name]):
            return _wrong(repr(name), wanted, checkpoint[name])
    for name in TENSORS:
        if problem := _not_a_tensor(name, checkpoint.get(name, {})):
            return problem
    for name in MAPPINGS:
        for inside, value in checkpoint.get(name, {}).items():
            if not _is_mapping(value):
                return _wrong(f"{inside!r} in {name}", "a mapping", value)
    for callback, (entry, wanted, fits) in CALLBACKS.items():
        if callback not in checkpoint.get("callbacks", {}):
            continue
        own = checkpoint["callbacks"][callback].get(entry)
        if not fits(own):
            return _wrong(f"{entry!r} of the callback {callback}", wanted, own)
        if callback == "EMA" and (problem := _not_a_tensor("averages", own)):
            return problem
    return None


def _not_a_tensor(where: str, values: Mapping[str, Any]) -> str | None:
    for name, value in values.items():
        if not isinstance(value, Tensor) and not name.endswith("_extra_state"):  # what a module keeps besides tensors
            return _wrong(f"{name!r} in {where}", "a tensor", value)
    return None


def _wrong(entry: str, wanted: str, value: Any) -> str:
    return f"its entry {entry} must be {wanted}, but is {_described(value)}"


def _described(value: Any) -> str:
    name = type(value).__name__
    if value is None:
        return "None"
    if isinstance(value, (bool, int, float, str)):
        return f"the {name} {value!r:.40}"
    if not isinstance(value, (Mapping, list, tuple)) or not value:
        return f"of type {name}" if not isinstance(value, (Mapping, list, tuple)) else f"an empty {name}"
    if isinstance(value, Mapping) and not _is_named(value):
        return f"a {name} whose keys are not all strings"
    inside = value.values() if isinstance(value, Mapping) else value
    return f"a {name} of {' and '.join(sorted({type(item).__name__ for item in inside}))}"
