"""Schedules as functions of the number of batches alone: they have no state to save and restore."""

import math
from dataclasses import dataclass
from typing import Protocol


class Schedule(Protocol):
    """A value as a function of the batch; learning rates are multiplied by it."""

    @property
    def end(self) -> int | None:
        """The number of batches after which the value is always 0, or ``None``."""
        ...

    def __call__(self, step: int) -> float:
        """Returns the value in the batch after ``step`` others."""
        ...


def check_shape(shape: str) -> None:
    """Raises ValueError unless ``shape`` is ``"linear"`` or ``"cosine"``."""
    if shape not in ("linear", "cosine"):
        raise ValueError(f"shape={shape!r} is not one of linear, cosine.")


@dataclass(frozen=True)
class Constant:
    """The same value in every batch."""

    value: float = 1.0
    end: None = None

    def __call__(self, step: int) -> float:
        """Returns the value."""
        return self.value


@dataclass(frozen=True)
class WarmupAndDecay:
    """A factor that rises linearly to 1 over ``warmup`` batches and falls to 0 at ``end``, if that is given.

    Args:
        warmup: Number of batches of the rise; 0 for none.
        end: The batch in which the factor is 0, or ``None`` to keep it at 1.
        shape: ``"linear"`` or ``"cosine"``.

    Raises:
        ValueError: If the shape is unknown, or the end is not after the warm-up.
    """

    warmup: int = 0
    end: int | None = None
    shape: str = "linear"

    def __post_init__(self) -> None:
        check_shape(self.shape)
        if self.end is not None and self.end <= self.warmup:
            raise ValueError(f"end={self.end} must come after warmup={self.warmup}.")

    def __call__(self, step: int) -> float:
        """Returns the factor in the batch after ``step`` others."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.end is None:
            return 1.0
        progress = min((step - self.warmup) / (self.end - self.warmup), 1.0)
        return 1 - progress if self.shape == "linear" else 0.5 * (1 + math.cos(math.pi * progress))


def linear_decay(total: int | None) -> Schedule:
    """Returns the factor 1 - step / total, not below 0; 1 where total is ``None``.

    Raises:
        ValueError: If ``total`` is not positive.
    """
    if total is not None and (total < 1 or total % 1):
        raise ValueError(f"decay_steps={total} must be a positive whole number of batches, or null for no decay.")
    return Constant() if total is None else WarmupAndDecay(end=total)


def warmup_and_cosine(warmup: int, total: int | None) -> Schedule:
    """Returns a factor that rises linearly over ``warmup`` batches and falls as a cosine to 0 at ``total``.

    Raises:
        ValueError: Unless 0 <= warmup < total.
    """
    if warmup < 0 or warmup % 1 or (total is not None and (total <= warmup or total % 1)):
        raise ValueError(
            f"warmup_steps={warmup} must be a whole number of at least 0 and less than decay_steps={total}."
        )
    return Constant() if (warmup, total) == (0, None) else WarmupAndDecay(warmup, total, "cosine")


@dataclass(frozen=True)
class Interpolation:
    """A value that changes from ``start`` to ``stop`` over the batches ``begin`` to ``begin + steps``, then stays.

    Args:
        start: Value up to ``begin``.
        stop: Value from ``begin + steps`` on.
        steps: Number of batches in between, at least 1.
        begin: First batch of the change.
        shape: ``"linear"``, ``"cosine"``, or ``"exponential"``, a constant ratio of each value to the one before.

    Raises:
        ValueError: If a number is out of range, or the shape unknown.
    """

    start: float
    stop: float
    steps: int
    begin: int = 0
    shape: str = "linear"
    end: None = None

    def __post_init__(self) -> None:
        if self.steps < 1 or self.begin < 0:
            raise ValueError(f"steps={self.steps} must be at least 1 and begin={self.begin} at least 0.")
        if self.shape != "exponential":
            check_shape(self.shape)
        elif not (self.start > 0 and self.stop > 0):
            raise ValueError(f"start={self.start} and stop={self.stop} of an exponential schedule must be positive.")

    def __call__(self, step: int) -> float:
        """Returns the value in the batch after ``step`` others."""
        progress = min(max((step - self.begin) / self.steps, 0.0), 1.0)
        if self.shape == "cosine":
            progress = 0.5 * (1 - math.cos(math.pi * progress))
        if self.shape == "exponential":
            return self.start * (self.stop / self.start) ** progress
        return self.start + progress * (self.stop - self.start)


def changing(start: float, stop: float, steps: int | None, *, name: str, shape: str = "linear") -> Schedule:
    """Returns a value that changes from ``start`` to ``stop`` over ``steps`` batches, or stays for ``None``.

    Args:
        start: Value in the first batch.
        stop: Value after ``steps`` batches.
        steps: Number of batches, or ``None``.
        name: Name of the hyperparameter that ``steps`` is, for the message.
        shape: As in ``Interpolation``.

    Raises:
        ValueError: If ``steps`` is not positive.
    """
    if steps is not None and (steps < 1 or steps % 1):
        raise ValueError(f"{name}={steps} must be a positive whole number of batches, or null for a value that stays.")
    return Constant(start) if steps is None else Interpolation(start, stop, steps, shape=shape)
