"""What a datamodule says of its data, in one small frozen record."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

KINDS = ("image", "points", "tokens", "piano_roll", "strokes", "video")


@dataclass(frozen=True)
class DataSpec:
    """The facts about a data set that a method needs in order to be built for it.

    It matches the ``DataSpec`` protocol of ``lightning_modules.parts.capabilities`` by structure,
    so that neither package imports the other, and it is plain enough to be written as JSON.

    Args:
        name: Name of the data set, ``"fashion_mnist"``.
        kind: One of ``KINDS``.
        shape: Shape of one example: (C, H, W) for images, (2,) for points, (T,) for tokens, (T, 88) for piano rolls,
            (T, 3) for strokes, (T, C, H, W) for video. Where examples differ in length, T is that of the longest.
        value_range: Lowest and highest value of an example; ``None`` where there is no bound.
        num_classes: Number of classes, or ``None`` where labels mean nothing (they are then 0).
        class_names: One name a class, or empty.
        class_counts: Training examples of each class, or empty; a conditional model draws labels by it.
        preprocessing: What was done to the public data, ``"binarized"``, ``"resized-64"``; part of
            the name under which real statistics are cached. Empty for none.
        vocabulary: The symbols of token sequences, in order of their index.
        entropy_rate: Entropy of the source in nats a step, where it is known: no model's loss lies below.
        scale: Units of the public data in one unit that is yielded, where data without bounds are scaled.
        modes: Centres of the mixture that synthetic points were drawn from, one tuple a mode.
        mode_scale: Standard deviation of each of these modes.

    Raises:
        ValueError: If a field contradicts another or lies outside its range.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    value_range: tuple[float, float] | None = None
    num_classes: int | None = None
    class_names: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()
    preprocessing: str = ""
    vocabulary: tuple[str, ...] = ()
    modes: tuple[tuple[float, ...], ...] = ()
    mode_scale: float | None = None
    entropy_rate: float | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r} is not one of {', '.join(KINDS)}.")
        if not self.shape or any(size < 1 for size in self.shape):
            raise ValueError(f"shape={self.shape} must be a non-empty tuple of positive sizes.")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"value_range={self.value_range} must rise from low to high.")
        for field in ("class_names", "class_counts"):
            values = getattr(self, field)
            if values and len(values) != self.num_classes:
                raise ValueError(f"{field} has {len(values)} entries for num_classes={self.num_classes}.")
        for field, least in (("entropy_rate", 0.0), ("scale", 5e-324)):
            value = getattr(self, field)
            if value is not None and not (math.isfinite(value) and value >= least):
                raise ValueError(f"{field}={value} must be a finite number {'above' if least else 'of at least'} 0.")
        if wrong := [mode for mode in self.modes if len(mode) != self.shape[0]]:
            raise ValueError(f"modes has the centre {wrong[0]}, where an example has shape={self.shape}.")

    def to_json(self) -> dict[str, Any]:
        """Returns JSON-plain values; tuples become lists."""
        return {key: _listed(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "DataSpec":
        """Rebuilds a spec written by ``to_json``.

        Raises:
            ValueError: If ``values`` is no mapping, has a field that a spec does not have, lacks one it needs, or
                has one of the wrong type.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"A data spec maps fields to values; it is no {type(values).__name__}.")
        known = {field.name for field in fields(cls)}
        if unknown := sorted(map(str, set(values) - known)):
            raise ValueError(f"A data spec has no field {', '.join(unknown)}; it has {', '.join(sorted(known))}.")
        if missing := sorted({"name", "kind", "shape"} - set(values)):
            raise ValueError(f"The data spec lacks {', '.join(missing)}.")
        for key, value in values.items():
            wanted, fits = _FORMS[key]
            if not fits(value):
                raise ValueError(f"{key} must be {wanted}, not {value!r:.80}.")
        return cls(**{key: _tupled(value) for key, value in values.items()})


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, (list, tuple)) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, (list, tuple)) else value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_optional(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _is_list(fits: Callable[[Any], bool], length: int | None = None) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, (list, tuple)) and length in (None, len(value)) and all(fits(item) for item in value)
    )


_FORMS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "name": ("a string", _is_text),
    "kind": ("a string", _is_text),
    "shape": ("a list of whole numbers", _is_list(_is_count)),
    "value_range": ("two numbers or null", _is_optional(_is_list(_is_number, length=2))),
    "num_classes": ("a whole number or null", _is_optional(_is_count)),
    "class_names": ("a list of strings", _is_list(_is_text)),
    "class_counts": ("a list of whole numbers", _is_list(_is_count)),
    "preprocessing": ("a string", _is_text),
    "vocabulary": ("a list of strings", _is_list(_is_text)),
    "modes": ("a list of lists of numbers", _is_list(_is_list(_is_number))),
    "mode_scale": ("a number or null", _is_optional(_is_number)),
    "entropy_rate": ("a number or null", _is_optional(_is_number)),
    "scale": ("a number or null", _is_optional(_is_number)),
}
"""What a field may hold in JSON, in words and as a test."""
