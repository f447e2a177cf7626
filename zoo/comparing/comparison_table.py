"""The table of a comparison, as text for a terminal or in Markdown."""

from collections.abc import Sequence
from statistics import fmean

from zoo.comparing.comparison import COSTS, Block, Column, Comparison
from zoo.comparing.results import REAL, Results, results_file
from zoo.listing import columns
from zoo.paths import command


def report(comparison: Comparison, results: Results) -> str:
    """Returns the tables of all blocks, with what is missing and how old the numbers are."""
    parts = [comparison.title]
    for block in comparison.blocks:
        heading, *rows = rows_of(block, results)
        parts.append(f"{block.title}, {seeds_of(block)}\n" + columns([tuple(heading), *map(tuple, rows)]))
    missing, age = len(list(results.missing(comparison))), results.age(comparison)
    if age is not None:
        when = f"on {age[0]}" if age[0] == age[1] else f"from {age[0]} to {age[1]}"
        parts.append(f"Measured {when}; {results.path}")
    if outdated := results.outdated(comparison):
        parts.append(f"Not shown: {outdated} runs of the file that were made with other settings, or of other methods.")
    if missing:
        elsewhere = () if results.path == results_file(comparison.name) else ("--out", results.path)
        again = command("compare", comparison.name, "--train", *elsewhere)
        parts.append(f"{missing} runs are missing: {again} makes them.")
    return "\n\n".join(parts)


def markdown(block: Block, results: Results) -> str:
    """Returns the table of a block in Markdown, of the methods that have been measured; empty if there are none."""
    heading, real, *methods = rows_of(block, results)
    measured = [row for row in methods if any(row[1:])]
    lines = [heading, ["---"] * len(heading), real, *measured]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if measured else ""


def rows_of(block: Block, results: Results) -> list[list[str]]:
    """Returns the heading and one row for each entry: the mean over seeds, and the lowest and highest value."""
    shown = [*block.columns, *COSTS]
    rows = [["method", *[column.heading for column in shown]]]
    for name in (REAL, *[entry.name for entry in block.entries]):
        runs = results.of(block, name)
        marked = (
            "" if name == REAL or len(runs) in (0, len(block.seeds)) else f" ({len(runs)} of {len(block.seeds)} seeds)"
        )
        values = [run["values"] for run in runs]
        rows.append(
            [name + marked, *[cell(column, [v[column.key] for v in values if column.key in v]) for column in shown]]
        )
    return rows


def cell(column: Column, values: Sequence[float]) -> str:
    """Returns the mean of values, and their range if they differ as shown; empty without values."""
    if not values:
        return ""
    low, mean, high = (form(column, value) for value in (min(values), fmean(values), max(values)))
    return mean if low == high or column in COSTS else f"{mean} ({low} to {high})"


def form(column: Column, value: float) -> str:
    """Returns a number in the format of a column."""
    return f"{value:{column.form}}".replace("e+0", "e").replace("e+", "e")


def seeds_of(block: Block) -> str:
    """Returns how many seeds a value is the mean of."""
    return f"{len(block.seeds)} seeds: mean (lowest to highest)"
