"""The logarithm of a normaliser, as every model with an energy returns it."""

import math
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class LogPartition:
    """log Z of a density exp(-E(x)) / Z: what ``log_partition`` of every model with an energy returns.

    Attributes:
        log_partition: log Z, in nats.
        standard_error: Its standard error, in nats: 0 where it is exact, ``nan`` where the error is not known.
        source: ``"enumeration"``, ``"grid"`` (a sum over a fine grid in the plane), ``"ais"`` (annealed importance
            sampling, low in expectation), ``"learned"`` (a parameter of the model) or ``"given"`` (by the caller).
    """

    log_partition: float
    standard_error: float
    source: str

    @property
    def is_exact(self) -> bool:
        """Whether the standard error is 0."""
        return self.standard_error == 0


class KeptNormalizer:
    """A normaliser that was found for some weights, which is forgotten as soon as these have changed.

    It keeps a copy of the weights: numbers of versions do not tell of every change.
    """

    def __init__(self) -> None:
        self.value: LogPartition | None = None
        self.weights: list[Tensor] = []

    def keep(self, value: LogPartition, network: nn.Module) -> None:
        """Keeps the normaliser of the present weights."""
        self.value, self.weights = value, [tensor.detach().clone() for tensor in network.parameters()]

    def of(self, network: nn.Module) -> LogPartition | None:
        """Returns the normaliser, if there is one and it is of the present weights, else ``None``."""
        if self.value is not None and not same_values(self.weights, list(network.parameters())):
            self.value, self.weights = None, []
        return self.value


def same_values(kept: list[Tensor], present: list[nn.Parameter]) -> bool:
    """Whether two lists of tensors are equal in number, place, type and every value."""
    return len(kept) == len(present) and all(
        one.device == other.device and one.dtype == other.dtype and one.equal(other)
        for one, other in zip(kept, present, strict=True)
    )


def as_log_partition(value: object) -> LogPartition:
    """Returns a number, in nats, or an estimate as a ``LogPartition``.

    Raises:
        ValueError: If it is no finite number.
    """
    if isinstance(value, LogPartition):
        found = value
    else:
        try:  # also of numpy, or a tensor with one number
            number = math.nan if isinstance(value, (bool, str)) else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, RuntimeError):
            number = math.nan
        found = LogPartition(number, math.nan, "given")
    if not math.isfinite(found.log_partition):
        raise ValueError(f"log_partition={value!r} must be a finite number, in nats, or what log_partition() returns.")
    return found
