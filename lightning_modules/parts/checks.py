"""Checks of hyperparameters and arguments, which name the value that is wrong."""

import math

from torch import Tensor


def check_positive(**values: float) -> None:
    """Raises ValueError for the first of the named numbers that is not positive and finite."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name}={value} must be positive.")


def check_counts(**values: int) -> None:
    """Raises ValueError for the first of the named numbers that is below 1."""
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")


def check_no_labels(labels: Tensor | None, method: str) -> None:
    """Raises ValueError if labels are given to a method that has no classes."""
    if labels is not None:
        raise ValueError(f"labels were given to an unconditional model; {method} has no classes.")
