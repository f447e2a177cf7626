"""Results of a comparison, one JSON file: which runs there are, which are missing, how old they are."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from lightning_modules.parts.files import replace_file
from zoo.comparing.comparison import Block, Comparison
from zoo.errors import ZooError
from zoo.paths import PACKAGE

FORMAT = 1
"""Version of the file."""
REAL = "real data"
"""Name of the row of real data."""


class Key(NamedTuple):
    """Which run of a comparison."""

    block: str
    entry: str
    seed: int


def results_file(comparison: str) -> Path:
    """Returns the file of the results that come with the zoo."""
    return PACKAGE / "comparisons" / f"{comparison}.json"


class Results:
    """The results of a comparison.

    Args:
        path: The file; it need not exist.

    Raises:
        ZooError: If the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs = self.read()

    def read(self) -> dict[Key, dict[str, Any]]:
        """Returns the runs of the file, or none if it does not exist; raises ``ZooError`` for a damaged one."""
        if not self.path.exists():
            return {}
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            runs = {checked_key(run): run for run in found["runs"]}
            made_by = found["format"]
        except OSError as error:
            raise ZooError(f"{self.path} cannot be read ({error.strerror}): name another file.") from error
        except (ValueError, TypeError, KeyError) as error:
            raise ZooError(
                f"{self.path} is damaged, or no results of a comparison. Remove it to begin anew."
            ) from error
        if made_by != FORMAT:
            raise ZooError(f"{self.path} has format {made_by}, this version reads {FORMAT}: use another version.")
        return runs

    def add(self, run: dict[str, Any]) -> None:
        """Adds a run, in place of an earlier one, and writes the file, with what others have added to it since."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            self.runs |= self.read()
            self.runs[Key(run["block"], run["entry"], run["seed"])] = json.loads(json.dumps(run))  # no tuples
            rows = [self.runs[key] for key in sorted(self.runs)]
            replace_file(self.path, (json.dumps({"format": FORMAT, "runs": rows}, indent=1) + "\n").encode())

    def of(self, block: Block, entry: str) -> list[dict[str, Any]]:
        """Returns the runs of an entry, in the order of their seeds, if they were made with its present settings."""
        seeds = (0,) if entry == REAL else block.seeds
        found = [self.runs.get(Key(block.name, entry, seed)) for seed in seeds]
        return [
            run
            for run in found
            if run is not None and (entry == REAL or are_settings(run["settings"], settings_of(block, entry)))
        ]

    def missing(self, comparison: Comparison) -> Iterator[Key]:
        """Yields the runs that have not been made, or were made with other settings; all first seeds come first."""
        for block in comparison.blocks:
            if not self.of(block, REAL):
                yield Key(block.name, REAL, 0)
        for number in range(max(len(block.seeds) for block in comparison.blocks)):
            for block in comparison.blocks:
                for entry in block.entries:
                    for seed in block.seeds[number : number + 1]:
                        if seed not in [run["seed"] for run in self.of(block, entry.name)]:
                            yield Key(block.name, entry.name, seed)

    def shown(self, comparison: Comparison) -> list[dict[str, Any]]:
        """Returns the runs of all entries that were made with their present settings."""
        names = [(block, name) for block in comparison.blocks for name in (REAL, *[e.name for e in block.entries])]
        return [run for block, name in names for run in self.of(block, name)]

    def age(self, comparison: Comparison) -> tuple[str, str] | None:
        """Returns the dates of the oldest and the newest of the runs that are shown, or ``None`` if there is none."""
        dates = sorted(run["date"] for run in self.shown(comparison))
        return (dates[0], dates[-1]) if dates else None

    def outdated(self, comparison: Comparison) -> int:
        """Returns the number of runs in the file that are not shown: of other settings, or of no present entry."""
        return len(self.runs) - len(self.shown(comparison))


def checked_key(run: Any) -> Key:
    """Returns which run of a comparison a run in a file is.

    Raises:
        KeyError: If it lacks something that a table or a further run needs.
        TypeError: If something in it is of another kind.
    """
    key, values, settings = Key(run["block"], run["entry"], run["seed"]), run["values"], run["settings"]
    fits = (
        all(isinstance(text, str) for text in (key.block, key.entry, run["date"]))
        and type(key.seed) is int
        and isinstance(values, dict)
        and all(type(value) in (int, float) for value in values.values())
        and isinstance(settings, dict)
        and isinstance(settings.get("hyperparameters", {}), dict)
    )
    if not fits:
        raise TypeError(f"{key} is no run of a comparison.")
    return key


def are_settings(recorded: Any, present: Any) -> bool:
    """Returns whether a run was made with the present settings; parts that were added since, and left out, are none."""
    known = recorded.get("hyperparameters", {})
    added = {key for key, value in present["hyperparameters"].items() if value is None and key not in known}
    kept = {key: value for key, value in present["hyperparameters"].items() if key not in added}
    return bool(recorded == {**present, "hyperparameters": kept})


@cache
def settings_of(block: Block, entry: str) -> Any:
    """Returns the present settings of an entry's runs, as they are in the file."""
    return json.loads(json.dumps(block.build(block.entry(entry), block.datamodule())[2]))
