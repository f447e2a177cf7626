"""Checks of hyperparameters and arguments, which name the value that is wrong."""

import math
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

TEMPERATURES = 1e-6, 1e4
"""Lowest and highest temperature of samplers: beyond them quotients of logits overflow, and samples become NaN."""


def check_positive(**values: float) -> None:
    """Raises ValueError for the first of the named numbers that is not positive and finite."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name}={value} must be positive and finite.")


def check_counts(**values: int) -> None:
    """Raises ValueError for the first of the named numbers that is below 1, or no whole number."""
    for name, value in values.items():
        if not math.isfinite(value) or value < 1 or value != int(value):
            raise ValueError(f"{name}={value} must be a whole number of at least 1.")


def check_has_effect(part: str, value: object, settings: Mapping[str, tuple[object, object]]) -> None:
    """Raises ValueError for a number that is not positive, and for settings of a part that is left out.

    Args:
        part: Name of the part.
        value: Its value; ``None``, or empty, if it is left out.
        settings: Name of each of its settings to the value given and the default.
    """
    if isinstance(value, (int, float)):
        check_positive(**{part: value})
    for name, (given, default) in settings.items():
        if not value and given != default:
            raise ValueError(f"{name}={given} has no effect without {part}; give {part}, or leave {name} out.")


def as_count(name: str, value: Any, least: int = 1, hint: str = "") -> int:
    """Returns anything that is a whole number (also of numpy, or a tensor without dimensions) as an ``int``.

    Args:
        name: Name of the argument, for the message.
        value: The argument; booleans and floats are refused, also whole ones.
        least: The smallest value that is allowed.
        hint: What the message says after the number.

    Raises:
        ValueError: If it is not a whole number, or below ``least``.
    """
    number = None
    if not isinstance(value, bool) and not (isinstance(value, Tensor) and (value.ndim or value.dtype == torch.bool)):
        try:
            number = operator.index(value)
        except TypeError:
            number = None
    if number is None or number < least:
        what = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ValueError(f"{name}={value!r} must be {what}{hint}.")
    return number


def as_temperature(value: Any) -> float:
    """Returns the temperature of a sampler as a ``float``.

    Raises:
        ValueError: If it is not a number within ``TEMPERATURES``.
    """
    low, high = TEMPERATURES
    number = math.nan
    if not isinstance(value, (bool, str)):
        try:
            number = float(value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            number = math.nan
    if not low <= number <= high:
        shown = number if math.isfinite(number) and not isinstance(value, bool) else value
        raise ValueError(
            f"temperature={shown} must be a positive number in [{low:g}, {high:g}]: 1 samples from the model itself, "
            "0.01 gives nearly the most likely values."
        )
    return number


def as_share(name: str, value: Any) -> float:
    """Returns a share as a ``float``.

    Raises:
        ValueError: If it is not a number in (0, 1].
    """
    try:
        number = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        number = math.nan
    if not 0 < number <= 1:
        raise ValueError(f"{name}={value} must lie in (0, 1].")
    return number


def check_finite_samples(samples: Tensor, name: str) -> None:
    """Raises ValueError if samples (N, ...), ``name`` in the plural, hold NaN or infinite values."""
    if broken := int((~torch.isfinite(samples)).flatten(1).any(1).sum()):
        raise ValueError(
            f"{broken} of {len(samples)} {name} are NaN or infinite. The model has probably diverged: go back to its "
            "last good checkpoint."
        )


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Returns the names of the floating-point tensors that hold NaN or infinite values."""
    return [name for name, x in tensors.items() if x.is_floating_point() and not torch.isfinite(x).all()]


def check_no_labels(labels: Tensor | None, method: str) -> None:
    """Raises ValueError if labels are given to a method that has no classes."""
    if labels is not None:
        raise ValueError(f"labels were given to an unconditional model; {method} has no classes.")
