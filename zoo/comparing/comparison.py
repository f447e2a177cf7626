"""What a comparison is: methods that are trained on the same data, with the same networks and the same budget.

The budget is a number of steps of the generator, so a method with several critic steps sees more images; the tables
state both. The samples that are measured come from averaged weights.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from datamodules.datamodule import ZooDataModule
from lightning_modules import METHODS
from lightning_modules.base import GenerativeModule

Values = dict[str, float]


class Column(NamedTuple):
    """A column of the table of a block.

    Attributes:
        key: Name of the value in a run's results.
        heading: Its heading.
        form: Format of a number, ``".2f"``.
    """

    key: str
    heading: str
    form: str


COSTS = (
    Column("critic_steps", "critic steps", ".0f"),
    Column("images", "images", ".2g"),
    Column("minutes", "minutes", ".0f"),
)
"""What a method has cost, beside what it has reached."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A method of a comparison, with what it does not share with the others.

    Attributes:
        name: Row of the table.
        method: Name of the class.
        hyperparameters: Hyperparameters of its own.
        lengths: Hyperparameters that are numbers of batches, as fractions of the run's length.
    """

    name: str
    method: str
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    lengths: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Block:
    """Methods on one data set.

    Attributes:
        name: Name in the results.
        title: Heading of the table.
        datamodule: Builds the data, by ``seed``.
        shared: Hyperparameters of all entries.
        entries: The methods.
        seeds: Seeds of the runs of each.
        updates: Steps of the generator of each run.
        half_life_images: Half-life of the averaged weights.
        measure: Measures a trained module.
        real: Measures real data in place of samples: the row that no method can be better than.
        columns: Columns of the table, before those of the costs.
        lengths: As in ``Entry``, for all entries that take them.
    """

    name: str
    title: str
    datamodule: Callable[..., ZooDataModule]
    shared: Mapping[str, Any]
    entries: tuple[Entry, ...]
    seeds: tuple[int, ...]
    updates: int
    half_life_images: int
    measure: Callable[[GenerativeModule], Values]
    real: Callable[[], Values]
    columns: tuple[Column, ...]
    lengths: Mapping[str, float] = field(default_factory=dict)

    def entry(self, name: str) -> Entry:
        """Returns the entry of a name."""
        return next(entry for entry in self.entries if entry.name == name)

    def build(self, entry: Entry, data: ZooDataModule) -> tuple[GenerativeModule, int, dict[str, Any]]:
        """Builds a method for the budget.

        Returns:
            The module, the number of its batches, and all settings of the run, as JSON values.
        """
        method, given = METHODS[entry.method], {**self.shared, **entry.hyperparameters}
        taken = inspect.signature(method).parameters
        lengths = {name: fraction for name, fraction in self.lengths.items() if name in taken} | entry.lengths

        def of(batches: int) -> dict[str, Any]:
            return given | {name: max(1, round(fraction * batches)) for name, fraction in lengths.items()}

        batches = batches_for(method.for_data(data.spec, **of(self.updates)), self.updates)
        given = of(batches)
        module = method.for_data(data.spec, **given)
        assert isinstance(module, GenerativeModule)
        budget = {"updates": self.updates, "batch_size": data.batch_size, "half_life_images": self.half_life_images}
        # With the defaults, so that results are not taken for those of a method whose defaults have changed.
        return module, batches, {"method": entry.method, "hyperparameters": dict(module.hparams), **budget}


@dataclass(frozen=True)
class Comparison:
    """Blocks under one name."""

    name: str
    title: str
    blocks: tuple[Block, ...]

    def block(self, name: str) -> Block:
        """Returns the block of a name."""
        return next(block for block in self.blocks if block.name == name)


def batches_for(module: Any, updates: int) -> int:
    """Returns after how many batches the generator has made ``updates`` steps, which are the batches by default."""
    count: Callable[[int], int] = getattr(module, "generator_updates", lambda batches: batches)
    low, high = updates, updates
    while count(high) < updates:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if count(middle) < updates else (low, middle)
    return low
