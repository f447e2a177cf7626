"""Bounds of the numbers in a config that is not trusted, checked before anything is built from them.

A constructor may size a list or count a loop by a number before it makes its first tensor: ``[hidden] * depth`` with a
depth of 500 000 000 takes 4 GB. Below ``LARGEST`` such a list is small and such a loop short, and the tensors that
follow are counted while they are made.
"""

from collections.abc import Mapping
from typing import Any

from zoo.errors import ZooError

LARGEST = 2**21
"""Largest number that a network is built from: more than any width in use, and than the characters of Unicode."""
LONGEST = 2**16
"""Number of entries of the longest list."""
COUNTS_BATCHES = ("decay_steps", "warmup_steps", "kl_warmup_steps")
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
