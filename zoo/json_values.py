"""Plain JSON values: what a config may hold, and how one is quoted in a message."""

import json
import math
import sys
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 16
MAX_DIGITS = 400  # a float has at most 309 before the point


def parsed(content: bytes) -> Any:
    """Returns the value that a UTF-8 JSON file holds.

    Raises:
        ValueError: If it is not UTF-8 or not JSON, or holds NaN or an infinity.
        RecursionError: If it is nested too deeply for the parser.
    """
    return json.loads(content.decode("utf-8"), parse_constant=_refuse_constant, parse_int=_whole_number)


def not_plain(value: Any, where: str = "", depth: int = 0) -> str | None:
    """Returns why a value is not a plain JSON value, or ``None`` if it is one (tuples count as lists)."""
    shown = where if len(where) <= 80 else where[:77] + "..."
    if depth > MAX_DEPTH:
        return f"{shown} is nested deeper than {MAX_DEPTH} levels."
    if value is None or type(value) is bool:
        return None
    if type(value) is str:
        return f"{shown} holds half of a surrogate pair, which is not text." if _is_broken(value) else None
    if type(value) is float:
        return None if math.isfinite(value) else f"{shown} is {value}, which is not a JSON number or is too large."
    if type(value) is int:
        return f"{shown} is too large a number." if abs(value) > sys.float_info.max else None
    if isinstance(value, Mapping):
        if bad := [key for key in value if type(key) is not str]:
            return f"{shown} has the key {bad[0]!r}, which is not a string."
        if bad := [key for key in value if _is_broken(key)]:
            return f"{shown or 'It'} has the key {shortened(bad[0])}, half of a surrogate pair, which is not text."
        deeper = [(f"{where}.{key}" if where else key, child) for key, child in value.items() if not _is_usual(child)]
    elif type(value) in (list, tuple):
        deeper = [(f"{where}[{index}]", child) for index, child in enumerate(value) if not _is_usual(child)]
    else:
        return f"{shown} is a {type(value).__name__}, which is not a JSON value."
    return next((reason for key, child in deeper if (reason := not_plain(child, key, depth + 1))), None)


def _is_usual(value: Any) -> bool:
    """Returns whether a value is plain at a glance, as nearly all of a card are."""
    kind = type(value)
    return (kind is float and math.isfinite(value)) or (kind is str and value.isascii()) or value is None


def shortened(value: Any) -> str:
    """Returns the repr of a value, at most 80 characters of it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _is_broken(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text)


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def _whole_number(digits: str) -> int | float:
    # The float of a number of so many digits is infinite, which is refused by its name.
    return int(digits) if len(digits) < MAX_DIGITS else float(digits)
