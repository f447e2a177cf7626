"""What a datamodule says of its data, in one small frozen record."""

from collections.abc import Mapping
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
        shape: Shape of one example: (C, H, W) for images, (2,) for points, (T,) for tokens.
        value_range: Lowest and highest value of an example; ``None`` where there is no bound.
        num_classes: Number of classes, or ``None`` where labels mean nothing (they are then 0).
        class_names: One name a class, or empty.
        class_counts: Training examples of each class, or empty; a conditional model draws labels by it.
        preprocessing: What was done to the public data, ``"binarized"``, ``"resized-64"``; part of
            the name under which real statistics are cached. Empty for none.
        vocabulary: The symbols of token sequences, in order of their index.
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

    def to_json(self) -> dict[str, Any]:
        """Returns JSON-plain values; tuples become lists."""
        return {key: _listed(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "DataSpec":
        """Rebuilds a spec written by ``to_json``.

        Raises:
            ValueError: If ``values`` has a field that a spec does not have, or lacks one it needs.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"A data spec has no field {', '.join(unknown)}; it has {', '.join(sorted(known))}.")
        if missing := sorted({"name", "kind", "shape"} - set(values)):
            raise ValueError(f"The data spec lacks {', '.join(missing)}.")
        return cls(**{key: _tupled(value) for key, value in values.items()})


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, (list, tuple)) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, (list, tuple)) else value
