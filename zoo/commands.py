"""The commands of ``python -m zoo``, with parsed arguments. Slow imports are inside the functions."""

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
from zoo.escaping import printable
from zoo.paths import checkpoint_names, recipe_names, recipe_path

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
        raise ZooError(f"Nothing in the zoo matches {arguments.pattern!r}.")
    print(_columns([("NAME", "METHOD", "DATA", "MEASURED"), *sorted(rows)]))


def show(arguments: Namespace) -> None:
    """Prints the facts about one checkpoint."""
    shown = card(arguments.name)
    planned = "" if shown.planned_batches is None else f" of {shown.planned_batches:,} planned"
    rows = [
        ("name", shown.name),
        ("method", shown.method),
        ("data", shown.data or "not recorded"),
        ("parameters", f"{shown.parameters:,} " + _pairs({key: f"{n:,}" for key, n in shown.networks.items()})),
        ("weights", "last step, average (default)" if shown.averaged else "last step"),
        ("recipe", "none" if shown.recipe is None else shlex.join([shown.recipe, *shown.overrides])),
        ("batches", "not recorded" if shown.batches is None else f"{shown.batches:,}{planned}"),
        ("hyperparameters", _pairs(shown.hyperparameters)),
        ("versions", _pairs(shown.versions)),
        ("sha256", shown.sha256),
        ("path", str(shown.path)),
        *((name, f"{value:.4g}") for name, value in shown.metrics.items()),
    ]
    print(_columns(rows))
    if shown.notes:
        print(f"\n{_terminal(shown.notes, keep=chr(10))}")


def train(arguments: Namespace) -> None:
    """Trains a recipe, with LightningCLI's overrides."""
    recipe = recipe_path(arguments.recipe)
    from zoo.cli import train

    saved = train(recipe, arguments.overrides, None if arguments.save_to is None else Path(arguments.save_to))
    if saved is not None:
        print(f"Saved {saved.path}: zoo.load({str(saved.path)!r}) or python -m zoo sample {saved.path}")


def sample(arguments: Namespace) -> None:
    """Samples, or continues a prefix, and writes the result; text is also printed."""
    shown = card(arguments.name)
    from lightning_modules.rendering.modules import rendered_as
    from lightning_modules.rendering.renderers import BETWEEN_TEXTS
    from zoo.loading import load
    from zoo.sample_command import sampled, targets, write

    module = load(arguments.name, weights=arguments.weights)
    paths = targets(shown, rendered_as(module), arguments.out, _file_name(shown))
    settings = {name: getattr(arguments, name) for name in ("length", "temperature", "top_k", "top_p")}
    rendering = sampled(
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
    if rendering.texts:
        print(_printable(BETWEEN_TEXTS.join(rendering.texts)))
    for path in paths:
        write(rendering, path)
        print(f"Wrote {path}")


def draw(arguments: Namespace) -> None:
    """Renders a view of a checkpoint, as PNG or GIF file."""
    shown = card(arguments.name)
    import torch

    from zoo.loading import load
    from zoo.views import Request, check_view, write_view

    module = load(arguments.name)
    view = check_view(module, shown.name, arguments.view)
    request = Request(module, arguments.num or view.num, torch.Generator().manual_seed(arguments.seed))
    if view.gather is not None:
        request = view.gather(request, shown, arguments.data_dir)
    out = Path(arguments.out or f"{_file_name(shown)}.{arguments.view}.png")
    write_view(view, request, out)
    print(f"Wrote {out}")


def evaluate(arguments: Namespace) -> None:
    """Measures a checkpoint, and with ``--write`` adds the metrics to its card."""
    shown = card(arguments.name)
    from zoo.evaluation import evaluate

    metrics = evaluate(
        shown,
        num_samples=arguments.num_samples,
        extractor=arguments.extractor,
        data_dir=arguments.data_dir,
        seed=arguments.seed,
        device=arguments.device,
        samples_only=arguments.samples_only,
        speed=arguments.speed,
    )
    if not metrics:
        without = " without its data: leave out --samples-only" if arguments.samples_only else ""
        raise ZooError(f"Nothing can be measured of {shown.name}{without}.")
    print(_columns([(name, f"{value:.5g}", _meaning(name)) for name, value in metrics.items()]))
    if arguments.write:
        from zoo.saving import update_metrics

        update_metrics(shown.path, metrics)
        print(f"Wrote {shown.path / 'config.json'} and README.md")


def export(arguments: Namespace) -> None:
    """Converts a Lightning checkpoint to a checkpoint of the zoo."""
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
    """Continues the training of a checkpoint on a folder of images."""
    shown = card(arguments.name)
    from zoo.fine_tuning import fine_tune

    saved = fine_tune(
        shown,
        arguments.data,
        Path(arguments.out or Path("runs") / "fine-tune" / _file_name(shown)),
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        hold_out=arguments.hold_out,
    )
    if saved is not None:
        print(f"Saved {saved.path}: zoo.load({str(saved.path)!r}) or python -m zoo sample {saved.path}")


def _meaning(metric: str) -> str:
    """Returns the unit of a likelihood, and whether it is exact, a bound or an estimate."""
    name, *kind = metric.rpartition("/")[2].split("-")
    units = {
        "nll": "-log p, nats per example",
        "bits_per_dim": "-log2 p, bits per dimension",
        "nats_per_step": "-log p, nats per step",
        "bits_per_step": "-log2 p, bits per step",
    }
    if name.startswith("js_"):
        return "Jensen-Shannon divergence, nats" + (", of real from real" if name.endswith("_floor") else "")
    if name not in units or not kind:
        return ""
    if found := re.fullmatch(r"exact(?:_(\w+))?", kind[0]):
        return f"{units[name]}, exact" + (f" ({found[1].replace('_', ' ')})" if found[1] else "")
    if found := re.fullmatch(r"upper_bound_k(\d+)", kind[0]):
        return f"{units[name]}, upper bound: log p is bounded below with k = {found[1]} samples"
    return f"{units[name]}, estimate: see its standard error"


def _listed(name: str) -> tuple[str, ...]:
    try:
        found = card(name)
    except ZooError as error:
        return name, "damaged", "", str(error)
    heading = min(found.metrics, key=_rank, default=None)
    measured = "not measured" if heading is None else f"{heading} {found.metrics[heading]:.4g}"
    return name, found.method, found.data or "", measured


def _rank(metric: str) -> tuple[bool, bool, int, bool]:
    """Sorts names such as ``test/fid-fashion_mnist-10k``: a heading first, then the test split, then 10k samples."""
    split, _, rest = metric.rpartition("/")
    name, *protocol = rest.split("-")
    place = HEADINGS.index(name) if name in HEADINGS else len(HEADINGS)
    return place == len(HEADINGS), split != "test", place, protocol[-1:] != [COUNT]


def _listed_recipe(name: str) -> tuple[str, ...]:
    import yaml

    recipe = yaml.safe_load(recipe_path(name).read_text(encoding="utf-8"))
    method, data = (recipe[part]["class_path"].rpartition(".")[2] for part in ("model", "data"))
    return name, method, data, f"recipe only: python -m zoo train {name}"


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    rows = [tuple(map(_terminal, row)) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())


def _file_name(shown: Card) -> str:
    # The name may be a Hub id or come from an untrusted config: no part of it may become a folder.
    return re.sub(r"[^\w.-]", "_", shown.name).lstrip(".") or "checkpoint"


def _terminal(text: str, keep: str = "") -> str:
    """Returns a stranger's text as the terminal can show it, without characters that would control it."""
    encoding = sys.stdout.encoding or "utf-8"
    return printable(text, keep).encode(encoding, errors="backslashreplace").decode(encoding)


def _printable(text: str) -> str:
    """Returns a text without characters that would control a terminal, or that it cannot show."""
    shown = "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)
    encoding = sys.stdout.encoding or "utf-8"
    return shown.encode(encoding, errors="replace").decode(encoding)
