"""Tables of the command line: what there is, the facts about one checkpoint. torch is not imported."""

import shlex
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

from zoo.cards import Card, card, names
from zoo.errors import ZooError
from zoo.escaping import printable
from zoo.paths import checkpoint_names, command, did_you_mean, recipe_names, recipe_path

HEADINGS = (
    "fid",
    "accuracy",
    "modes",
    "bits_per_dim",
    "nats_per_step",
    "nll",
)  # a list shows one value: the first of these that was measured
COUNT = "10k"  # number of samples of the FIDs to show; values for other numbers cannot be compared with them


def list_(arguments: Namespace) -> None:
    """Prints a line for each checkpoint, and for each recipe without one."""
    rows = [_listed(name) for name in names(arguments.pattern)]
    without = [name for name in recipe_names() if name not in checkpoint_names()]
    rows += [_listed_recipe(name) for name in without if fnmatch(name, arguments.pattern)]
    if not rows:
        hint = did_you_mean(arguments.pattern, [*checkpoint_names(), *recipe_names()])
        raise ZooError(f"Nothing in the zoo matches {arguments.pattern!r}.{hint}")
    print(columns([("NAME", "METHOD", "DATA", "MINUTES", "MEASURED"), *sorted(rows)]))


def show(arguments: Namespace) -> None:
    """Prints the facts about one checkpoint."""
    shown = card(arguments.name)
    planned = "" if shown.planned_batches is None else f" of {shown.planned_batches:,} planned"
    rows = [
        ("name", shown.name),
        ("method", shown.method),
        ("data", shown.data or "not recorded"),
        ("parameters", f"{shown.parameters:,} " + _pairs({key: f"{n:,}" for key, n in shown.networks.items()})),
        ("weights", _weights(shown)),
        ("recipe", "none" if shown.recipe is None else shlex.join([shown.recipe, *shown.overrides])),
        ("batches", "not recorded" if shown.batches is None else f"{shown.batches:,}{planned}"),
        ("minutes", f"{minutes_of(shown.training) or 'not recorded'} of training"),
        ("hyperparameters", _pairs(shown.hyperparameters)),
        ("versions", _pairs(shown.versions)),
        ("sha256", shown.sha256),
        ("path", str(shown.path)),
        *((name, f"{value:.4g}") for name, value in shown.metrics.items()),
    ]
    print(columns(rows))
    if shown.notes:
        print(f"\n{terminal(shown.notes, keep=chr(10))}")


def _weights(shown: Card) -> str:
    if shown.average_alone:
        return "average"
    if shown.averaged_only:
        return f"average; last step of all networks but {', '.join(shown.averaged_only)}"
    return "last step, average (default)" if shown.averaged else "last step"


def _listed(name: str) -> tuple[str, ...]:
    try:
        found = card(name)
    except ZooError as error:
        return name, "damaged", "", "", str(error)
    return name, found.method, found.data or "", minutes_of(found.training), measured(found)


def measured(shown: Card) -> str:
    """Returns the metric of a card that a list shows, with its name."""
    heading = min(shown.metrics, key=_rank, default=None)
    return "not measured" if heading is None else f"{heading} {shown.metrics[heading]:.4g}"


def minutes_of(training: Mapping[str, float]) -> str:
    """Returns how long the training took, which is what to expect of another on such a machine."""
    minutes = training.get("minutes")
    return "" if minutes is None else f"{minutes:.0f}" if minutes >= 1 else "< 1"


def _rank(metric: str) -> tuple[bool, bool, int, bool]:
    """Sorts names such as ``test/fid-fashion_mnist-10k``: a heading first, then the test split, then 10k samples."""
    split, _, rest = metric.rpartition("/")
    name, *protocol = rest.split("-")
    place = HEADINGS.index(name) if name in HEADINGS else len(HEADINGS)
    return place == len(HEADINGS), split != "test", place, COUNT not in protocol


def _listed_recipe(name: str) -> tuple[str, ...]:
    import yaml

    recipe = yaml.safe_load(recipe_path(name).read_text(encoding="utf-8"))
    method, data = (recipe[part]["class_path"].rpartition(".")[2] for part in ("model", "data"))
    return name, method, data, "", f"recipe only: {command('train', name)}"


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Returns the rows of a table as aligned lines."""
    rows = [tuple(map(terminal, row)) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())


def terminal(text: str, keep: str = "") -> str:
    """Returns a stranger's text as the terminal can show it, without characters that would control it."""
    encoding = sys.stdout.encoding or "utf-8"
    return printable(text, keep).encode(encoding, errors="backslashreplace").decode(encoding)
