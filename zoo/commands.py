"""What each command of ``python -m zoo`` does with its parsed arguments. The heavy imports are inside."""

import re
import shlex
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from zoo.cards import Card, card, names
from zoo.errors import ZooError
from zoo.paths import checkpoint_names, recipe_names, recipe_path

HEADINGS = (
    "fid",
    "accuracy",
    "modes",
    "bits_per_dim",
    "nats_per_step",
    "nll",
)  # a list shows one number: the first of these that was measured
COUNT = "10k"  # samples that published FIDs are of; numbers of other counts cannot be compared with them


def list_(arguments: Namespace) -> None:
    """Prints a line for each checkpoint, and for each recipe without one."""
    rows = [_listed(name) for name in names(arguments.pattern)]
    without = [name for name in recipe_names() if name not in checkpoint_names()]
    rows += [_listed_recipe(name) for name in without if fnmatch(name, arguments.pattern)]
    if not rows:
        raise ZooError(f"Nothing in the zoo matches {arguments.pattern!r}.")
    print(_columns([("NAME", "METHOD", "DATA", "MEASURED"), *sorted(rows)]))


def show(arguments: Namespace) -> None:
    """Prints the facts about one checkpoint."""
    shown = card(arguments.name)
    rows = [
        ("name", shown.name),
        ("method", shown.method),
        ("data", shown.data or "not recorded"),
        ("parameters", f"{shown.parameters:,} " + _pairs({key: f"{n:,}" for key, n in shown.networks.items()})),
        ("weights", "last step, average (default)" if shown.averaged else "last step"),
        ("recipe", "none" if shown.recipe is None else shlex.join([shown.recipe, *shown.overrides])),
        ("batches", "not recorded" if shown.batches is None else f"{shown.batches:,}"),
        ("hyperparameters", _pairs(shown.hyperparameters)),
        ("versions", _pairs(shown.versions)),
        ("sha256", shown.sha256),
        ("path", str(shown.path)),
        *((name, f"{value:.4g}") for name, value in shown.metrics.items()),
    ]
    print(_columns(rows))
    if shown.notes:
        print(f"\n{shown.notes}")


def train(arguments: Namespace) -> None:
    """Trains a recipe, with LightningCLI's overrides."""
    recipe = recipe_path(arguments.recipe)
    from zoo.cli import train

    saved = train(recipe, arguments.overrides, None if arguments.save_to is None else Path(arguments.save_to))
    if saved is not None:
        print(f"Saved {saved.path}: zoo.load({str(saved.path)!r}) or python -m zoo sample {saved.path}")


def sample(arguments: Namespace) -> None:
    """Draws samples, or goes on from a beginning, and writes what came out; text is printed, too."""
    shown = card(arguments.name)
    from zoo.drawing import shown_as
    from zoo.exhibits import BETWEEN_TEXTS
    from zoo.loading import load
    from zoo.sampling import drawn, targets, write

    module = load(arguments.name, weights=arguments.weights)
    paths = targets(shown, shown_as(module), arguments.out, _file_name(shown))
    settings = {name: getattr(arguments, name) for name in ("length", "temperature", "top_k", "top_p")}
    exhibit = drawn(
        shown,
        module,
        num=arguments.num,
        seed=arguments.seed,
        labels=arguments.labels,
        prefix=arguments.prefix,
        prime=arguments.prime,
        settings={name: value for name, value in settings.items() if value is not None},
        data_dir=arguments.data_dir,
    )
    if exhibit.texts:
        print(_printable(BETWEEN_TEXTS.join(exhibit.texts)))
    for path in paths:
        write(exhibit, path)
        print(f"Wrote {path}")


def draw(arguments: Namespace) -> None:
    """Draws a view of what a checkpoint has learnt and writes a picture."""
    shown = card(arguments.name)
    import torch

    from lightning_modules.parts.pictures import save_png
    from zoo.loading import load
    from zoo.views import Request, check_view

    module = load(arguments.name)
    view = check_view(module, shown.name, arguments.view)
    request = Request(module, arguments.num or view.num, torch.Generator().manual_seed(arguments.seed))
    if view.gather is not None:
        request = view.gather(request, shown, arguments.data_dir)
    picture = view.draw(request)
    out = Path(arguments.out or f"{_file_name(shown)}.{arguments.view}.png")
    save_png(picture, out)
    print(f"Wrote {out}")


def evaluate(arguments: Namespace) -> None:
    """Measures a checkpoint, and with ``--write`` keeps the numbers in its card."""
    shown = card(arguments.name)
    from zoo.evaluation import evaluate

    metrics = evaluate(
        shown,
        num_samples=arguments.num_samples,
        judge=arguments.judge,
        data_dir=arguments.data_dir,
        seed=arguments.seed,
        device=arguments.device,
        likelihood=not arguments.samples_only,
    )
    print(_columns([(name, f"{value:.5g}", _meaning(name)) for name, value in metrics.items()]))
    if arguments.write:
        from zoo.saving import update_metrics

        update_metrics(shown.path, metrics)
        print(f"Wrote {shown.path / 'config.json'} and README.md")


def export(arguments: Namespace) -> None:
    """Turns a Lightning checkpoint into a checkpoint of the zoo."""
    from zoo.exporting import export

    saved = export(
        Path(arguments.ckpt),
        Path(arguments.out),
        name=arguments.name,
        method=arguments.method,
        recipe=arguments.recipe,
    )
    print(f"Saved {saved.path} ({saved.method}{', with averaged weights' if saved.averaged else ''})")


def fine_tune(arguments: Namespace) -> None:
    """Goes on training a checkpoint on a folder of pictures."""
    shown = card(arguments.name)
    from zoo.fine_tuning import fine_tune

    saved = fine_tune(
        shown,
        arguments.data,
        Path(arguments.out or Path("runs") / "fine-tune" / _file_name(shown)),
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
    )
    if saved is not None:
        print(f"Saved {saved.path}: zoo.load({str(saved.path)!r}) or python -m zoo sample {saved.path}")


def _meaning(metric: str) -> str:
    """Says what a likelihood is: its unit, and whether it is exact, a bound or an estimate."""
    measure, *kind = metric.rpartition("/")[2].split("-")
    units = {
        "nll": "-log p, nats an example",
        "bits_per_dim": "-log2 p, bits a dimension",
        "nats_per_step": "-log p, nats a step",
        "bits_per_step": "-log2 p, bits a step",
    }
    if measure.startswith("js_"):
        return "Jensen-Shannon divergence, nats" + (", of real from real" if measure.endswith("_floor") else "")
    if measure not in units or not kind:
        return ""
    if found := re.fullmatch(r"exact(?:_(\w+))?", kind[0]):
        return f"{units[measure]}, exact" + (f" ({found[1].replace('_', ' ')})" if found[1] else "")
    if found := re.fullmatch(r"upper_bound_k(\d+)", kind[0]):
        return f"{units[measure]}, upper bound: log p is bounded below with k = {found[1]} samples"
    return f"{units[measure]}, estimate: see its standard error"


def _listed(name: str) -> tuple[str, ...]:
    try:
        found = card(name)
    except ZooError as error:
        return name, "damaged", "", str(error)
    heading = min(found.metrics, key=_rank, default=None)
    measured = "not measured" if heading is None else f"{heading} {found.metrics[heading]:.4g}"
    return name, found.method, found.data or "", measured


def _rank(metric: str) -> tuple[bool, bool, int, bool]:
    """Sorts names as ``test/fid-fashion_mnist-10k``: a heading first, then the test split, then 10k samples."""
    split, _, rest = metric.rpartition("/")
    measure, *protocol = rest.split("-")
    place = HEADINGS.index(measure) if measure in HEADINGS else len(HEADINGS)
    return place == len(HEADINGS), split != "test", place, protocol[-1:] != [COUNT]


def _listed_recipe(name: str) -> tuple[str, ...]:
    import yaml

    recipe = yaml.safe_load(recipe_path(name).read_text(encoding="utf-8"))
    method, data = (recipe[part]["class_path"].rpartition(".")[2] for part in ("model", "data"))
    return name, method, data, f"recipe only: python -m zoo train {name}"


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())


def _file_name(shown: Card) -> str:
    # The name may be a Hub id or come out of somebody's config: no part of it may become a folder.
    return re.sub(r"[^\w.-]", "_", shown.name).lstrip(".") or "checkpoint"


def _printable(text: str) -> str:
    """Returns a text without what would steer a terminal, or what it cannot show."""
    shown = "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)
    encoding = sys.stdout.encoding or "utf-8"
    return shown.encode(encoding, errors="replace").decode(encoding)
