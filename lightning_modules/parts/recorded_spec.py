"""A data spec read back from a checkpoint, for a module that has to do without its data."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any


class RecordedSpec(SimpleNamespace):
    """The fields of a data spec as attributes; it matches the ``DataSpec`` protocol by structure.

    Methods cannot import the datamodules' own record: arrows between the packages point the other way.
    """

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "RecordedSpec":
        """Takes what ``DataSpec.to_json`` wrote; lists become tuples."""
        return cls(**{key: _tupled(value) for key, value in values.items()})

    def to_json(self) -> dict[str, Any]:
        """Returns JSON-plain values; tuples become lists."""
        return {key: _listed(value) for key, value in vars(self).items()}


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, (list, tuple)) else value


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, (list, tuple)) else value
