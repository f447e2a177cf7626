"""Bounds of the numbers in a config that is not trusted, checked before anything is built from them.

A constructor may size a list or count a loop by a number before it makes its first tensor: ``[hidden] * depth`` with a
depth of 500 000 000 takes 4 GB. Below ``LARGEST`` such a list is small and such a loop short, and the tensors that
follow are counted while they are made.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from zoo.errors import ZooError

LARGEST = 2**21
"""Largest number that a network is built from: more than any width in use, and than the characters of Unicode."""
LONGEST = 2**16
"""Number of entries of the longest list."""
COUNTS_BATCHES = ("decay_steps", "warmup_steps", "kl_warmup_steps", "growth_steps")
"""Hyperparameters that are compared with the number of batches, and size nothing."""
LARGEST_COUNT = 2**53


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
        if problem := _problem(value, name, LARGEST_COUNT if name in COUNTS_BATCHES else LARGEST):
            raise ZooError(f"{owner} is not built with {problem}.")


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
        return isinstance(value, Mapping)
    if hint in (bool, str, type(None)):
        return isinstance(value, hint)
    if hint in (int, float):
        return isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
    return True  # what no JSON value can be is found by the constructor


def _named(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_named(part) for part in get_args(hint)))
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, get_args(hint)))}"
    if get_origin(hint) is not None:
        inner = [_named(part) for part in get_args(hint)[:1]]
        return f"a list, each entry {inner[0]}" if inner else "a list"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
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
