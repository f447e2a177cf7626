"""Rows of settings in which every allowed pair of values occurs: most faults of combinations are those of two."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any

Factors = Mapping[str, Sequence[Any]]
Row = dict[str, int]
"""Name of a factor to the index of its level."""
Pair = frozenset[tuple[str, int]]
Allowed = Callable[[Mapping[str, int]], bool]
"""Whether settings, of some or of all factors, can be combined."""


def pairs_of(row: Mapping[str, int]) -> set[Pair]:
    """Returns all pairs of values that occur in a row."""
    return {frozenset(pair) for pair in combinations(row.items(), 2)}


def allowed_pairs(factors: Factors, allowed: Allowed) -> set[Pair]:
    """Returns all pairs of values of two factors that can be combined."""
    found: set[Pair] = set()
    for a, b in combinations(factors, 2):
        for i, j in product(range(len(factors[a])), range(len(factors[b]))):
            found |= {frozenset({(a, i), (b, j)})} if allowed({a: i, b: j}) else set()
    return found


def all_rows(factors: Factors, allowed: Allowed) -> Iterator[Row]:
    """Yields every row that can be combined."""
    for levels in product(*(range(len(values)) for values in factors.values())):
        row = dict(zip(factors, levels, strict=True))
        if allowed(row):
            yield row


def covering_rows(factors: Factors, allowed: Allowed) -> list[Row]:
    """Returns few rows in which every allowed pair occurs; the same ones every time, by greedy choice.

    Each row begins with a pair that is missing, and gets the level of each other factor with which most missing pairs
    are covered.
    """
    missing, rows = allowed_pairs(factors, allowed), []
    while missing:
        row: Row = dict(min(map(sorted, missing)))
        for name in sorted(factors, key=lambda name: -len(factors[name])):
            choices = [{**row, name: level} for level in range(len(factors[name]))] if name not in row else [row]
            row = max(filter(allowed, choices), key=lambda choice: len(pairs_of(choice) & missing))
        missing -= pairs_of(row)
        rows.append({name: row[name] for name in factors})  # in one order, whatever order the hashes have
    return rows
