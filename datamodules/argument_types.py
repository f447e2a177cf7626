"""Numbers, truth values, texts, lists and mappings as arguments of a constructor, told from what only resembles them.

Python would take 1.5 critic steps for a number to compare with, ``"false"`` for true, and a text for a list of letters.
NaN passes most comparisons, and a checkpoint could not hold it: its hyperparameters are JSON values.
"""

import inspect
import math
import operator
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from numbers import Real
from pathlib import PurePath
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from torch import Tensor


def check_argument_types(constructor: Callable[..., None], arguments: Sequence[Any], named: Mapping[str, Any]) -> None:
    """Refuses arguments that are annotated as one of these, and are none; all others are left to the constructor.

    Args:
        constructor: ``SNGAN.__init__``.
        arguments: Its arguments by position, without ``self``.
        named: Its arguments by name.

    Raises:
        ValueError: Naming the first of them, its value and what it must be.
    """
    try:
        given = inspect.signature(constructor).bind_partial(None, *arguments, **named).arguments
    except TypeError:  # as the call of the constructor says itself
        return
    hints = hints_of(constructor)
    for name, value in given.items():
        if problem := problem_with(value, hints.get(name, Any)):
            raise ValueError(f"{name}={value!r} must be {problem}.")


def signature_of(constructor: Callable[..., None]) -> inspect.Signature:
    """Returns the signature of a class with this constructor, which has no ``self``."""
    signature = inspect.signature(constructor)
    return signature.replace(parameters=[*signature.parameters.values()][1:])


@cache
def hints_of(constructor: Callable[..., None]) -> dict[str, Any]:
    """Returns the annotations of a constructor, or none where they name what is imported for type checking only."""
    try:
        return get_type_hints(constructor)
    except (NameError, TypeError):
        return {}


def problem_with(value: Any, hint: Any) -> str | None:
    """Returns what a value must be to be what it is annotated as, or ``None`` if it is that."""
    parts = set(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else {hint}
    optional = type(None) in parts
    parts -= {type(None)}
    if parts == {bool, int} and not (optional and value is None):
        return None if isinstance(value, (bool, np.bool_)) or is_whole(value) else "true, false or a whole number"
    if parts == {str, int} and not (optional and value is None):
        return None if isinstance(value, str) or is_whole(value) else "a name or a whole number"
    if len(parts) != 1 or (optional and value is None):
        return None
    (part,) = parts
    origin, inner = get_origin(part), get_args(part)
    ending = ", or null" if optional else ""
    if part is int and not is_whole(value):
        return f"a whole number{ending}"
    if part is float and not is_finite(value):
        return f"a finite number{ending}"
    if part is str and not isinstance(value, (str, PurePath)):
        return f"a text{ending}"
    if part is bool and not isinstance(value, (bool, np.bool_)):
        return f"true or false{ending}"
    if origin is Sequence and isinstance(value, (str, PurePath)):
        return f"a list, such as [{str(value)!r}]{ending}"
    if origin is Sequence and inner == (int,) and not (is_list(value) and all(map(is_whole, value))):
        return f"a list of whole numbers{ending}"
    if origin is Sequence and inner == (float,) and not (is_list(value) and all(map(is_finite, value))):
        return f"a list of finite numbers{ending}"
    if origin is Mapping and not isinstance(value, Mapping):
        return f"values by name, such as {{'name': 1.0}}{ending}"
    if origin is Mapping and inner[1] is float and not all(map(is_number, value.values())):
        return f"numbers by name{ending}"
    return None


def is_whole(value: Any) -> bool:
    """Returns whether a value is a whole number, also of numpy or a tensor; ``True`` and 2.0 are none."""
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, Tensor) and value.ndim > 0):
        return False
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def is_number(value: Any) -> bool:
    """Returns whether a value is a number; ``True`` is none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Returns whether a value is a finite number, also of numpy or a tensor; ``True`` and NaN are none."""
    if isinstance(value, Tensor):
        value = value.item() if value.ndim == 0 else None
    try:
        return is_number(value) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def is_list(value: Any) -> bool:
    """Returns whether a value has entries in an order."""
    return hasattr(value, "__iter__") and hasattr(value, "__len__")
