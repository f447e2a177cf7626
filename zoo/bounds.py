"""Bounds of the numbers in a config that is not trusted, checked before anything is built from them.

A constructor may size a list or count a loop by a number before it makes its first tensor: ``[hidden] * depth`` with a
depth of 500 000 000 takes 4 GB. Below ``LARGEST`` such a list is small and such a loop short, and the tensors that
follow are counted while they are made.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from datamodules.spec import LARGEST_COUNT
from zoo.errors import ZooError

LARGEST = 2**21
"""Largest number that a network is built from: more than any width in use, and than the characters of Unicode."""
LONGEST = 2**16
"""Number of entries of the longest list."""
LOOPS = {"steps": 10**4, "cd_steps": 10**4, "sample_steps": 10**5}
"""Hyperparameters that a sampler loops by, and the largest loop: a sample must not take hours."""
COUNTS_BATCHES = (
    "decay_steps",
    "warmup_steps",
    "kl_warmup_steps",
    "noise_steps",
    "gamma_steps",
    "growth_steps",
    "schedule_steps",
)
"""Hyperparameters that are compared with the number of batches, and size nothing."""


def check_bounds(owner: str, values: Mapping[str, Any]) -> None:
    """Refuses numbers and lists that are larger than those of any network.

    Args:
        owner: Whose values they are, for the message.
        values: Arguments by name, plain JSON values.

    Raises:
        ZooError: If a whole number is beyond ``LARGEST``, another number or a count of batches beyond
            ``LARGEST_COUNT``, or a list has more than ``LONGEST`` entries; the message names it.
    """
    for name, value in values.items():
        if problem := _problem(value, name, LARGEST_COUNT if name in COUNTS_BATCHES else LOOPS.get(name, LARGEST)):
            raise ZooError(f"{owner} is not built with {problem}.")


def check_counts(source: object, config: Mapping[str, Any]) -> None:
    """Refuses numbers that describe a training or its result, and cannot be what they say.

    Metrics are not counts: a likelihood may have either sign and any size.

    Args:
        source: The file that they are in, for the message.
        config: The content of a ``config.json``; its types are those of a card.

    Raises:
        ZooError: If the batches, planned or of a row of the curve, the parameters of a network or a cost of the
            training is below 0 or above ``LARGEST_COUNT``, or what is counted is no whole number; the message names it.
    """
    counts = {key: config[key] for key in ("batches", "planned_batches") if config[key] is not None}
    counts |= {f"networks.{key}": value for key, value in config["networks"].items()}
    counts |= {f"curve[{i}].batches": row["batches"] for i, row in enumerate(config["curve"]) if "batches" in row}
    costs = {f"training.{key}": value for key, value in config["training"].items()}
    for name, value in (counts | costs).items():
        whole = float if name in costs else int
        if type(value) not in (int, whole) or not 0 <= value <= LARGEST_COUNT:
            wanted = "a number" if name in costs else "a whole number"
            raise ZooError(f"{source}: {name[:80]!r} is {_short(value)}: it must be {wanted} in 0..{LARGEST_COUNT}.")


def check_types(owner: str, function: Callable[..., Any], values: Mapping[str, Any]) -> None:
    """Refuses values whose types are not those that a constructor is annotated with.

    Args:
        owner: Whose values they are, for the message.
        function: The constructor, ``SNGAN.__init__``.
        values: Arguments by name, plain JSON values.

    Raises:
        ZooError: Naming the first value of another type.
    """
    hints = get_type_hints(function)
    for name, value in values.items():
        if name in hints and not _fits(value, hints[name]):
            raise ZooError(f"{owner} is not built with {name[:80]}={_short(value)}: it must be {_named(hints[name])}.")


def check_arguments(function: Callable[..., Any], **values: Any) -> None:
    """Refuses arguments of a public function whose types are not those that it is annotated with.

    Args:
        function: The function.
        values: Its arguments, by name.

    Raises:
        ZooError: Naming the first value of another type.
    """
    hints = get_type_hints(function)
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise ZooError(f"zoo.{function.__name__}: {name}={_short(value)} must be {_named(hints[name])}.")


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        inner = get_args(hint)[:1]
        return isinstance(value, (list, tuple)) and all(_fits(item, part) for part in inner for item in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        inner = get_args(hint)[1:]
        return isinstance(value, Mapping) and all(_fits(item, part) for part in inner for item in value.values())
    if origin is type:
        return isinstance(value, type) and issubclass(value, get_args(hint)[0])
    if hint in (bool, str, type(None)):
        return isinstance(value, hint)
    if hint in (int, float):
        return isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
    return not isinstance(hint, type) or hint in (Any, tuple) or isinstance(value, hint)


def _named(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_named(part) for part in get_args(hint)))
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, get_args(hint)))}"
    if get_origin(hint) is type:
        return f"a class of {get_args(hint)[0].__name__}s"
    if isinstance(get_origin(hint), type) and issubclass(get_origin(hint), Mapping):
        named = _named(get_args(hint)[1]) if get_args(hint) else "anything"
        return "values by name" + ("" if named == "anything" else f", each {named}")
    if get_origin(hint) is not None:
        inner = [_named(part) for part in get_args(hint)[:1]]
        return f"a list, each entry {inner[0]}" if inner else "a list"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a path"}
    names |= {type(None): "null", Any: "anything"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _problem(value: Any, name: str, largest: int) -> str | None:
    if isinstance(value, (int, float)):
        most = largest if isinstance(value, int) else LARGEST_COUNT
        return f"{name[:80]}={value}: its size may be {most} at most" if abs(value) > most else None
    if isinstance(value, (list, tuple, Mapping)):
        if len(value) > LONGEST:
            return f"{name[:80]}, which has {len(value)} entries: {LONGEST} are possible at most"
        children: Any = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, child in children:
            within = f"{name}.{key}" if isinstance(value, Mapping) else f"{name}[{key}]"
            if problem := _problem(child, within, LARGEST_COUNT if key in COUNTS_BATCHES else largest):
                return problem
    return None
