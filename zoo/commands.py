"""The commands of ``python -m zoo``, with parsed arguments. Slow imports are inside the functions."""

import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from zoo.cards import Card, card
from zoo.counterfactual_table import meaning
from zoo.errors import UsageError, ZooError
from zoo.listing import columns
from zoo.paths import check_out, command, recipe_names, recipe_path


def train(arguments: Namespace) -> int:
    """Trains a recipe, with LightningCLI's overrides, or prints its help."""
    if arguments.recipe is None:
        if not arguments.help:
            raise UsageError("Name a recipe: python -m zoo train RECIPE. `python -m zoo list` has them.")
        from zoo.arguments import build_parser

        build_parser().subcommand("train").print_help()
        return 0
    recipe = recipe_path(arguments.recipe)
    if arguments.help:
        from zoo.train_options import recipe_help

        print(recipe_help(recipe, arguments.overrides))
        return 0
    from zoo.cli import train

    return _trained(lambda: train(recipe, arguments.overrides, _folder(arguments.save_to)))


def resume(arguments: Namespace) -> int:
    """Continues the newest run of a recipe."""
    from zoo.cli import resume

    return _trained(lambda: resume(arguments.name, arguments.overrides, _folder(arguments.save_to)))


def sample(arguments: Namespace) -> None:
    """Samples, or continues a prefix, and writes the result; text is also printed."""
    if arguments.data_dir is not None and arguments.prime is None:
        raise UsageError("--data-dir is where the data for --prime are; without --prime no data are read.")
    _check_data_dir(arguments.data_dir)
    shown = card(arguments.name)
    from lightning_modules.rendering.modules import rendered_as
    from lightning_modules.rendering.renderers import BETWEEN_TEXTS
    from zoo.loading import load
    from zoo.sample_command import sampled, targets, write

    module = load(arguments.name, weights=arguments.weights)
    paths = targets(shown, rendered_as(module), arguments.out, _file_name(shown))
    for path in paths:
        check_out(path)
    names = ("length", "temperature", "steps", "guidance", "top_k", "top_p")
    settings = {name: getattr(arguments, name) for name in names}
    rendering = sampled(
        shown,
        module,
        num=arguments.num,
        seed=arguments.seed,
        labels=arguments.labels,
        captions=arguments.caption or (),
        prefix=arguments.prefix,
        prime=arguments.prime,
        settings={name: value for name, value in settings.items() if value is not None},
        data_dir=arguments.data_dir,
    )
    for path in paths:  # before anything is printed: the reader of a pipe may close it
        write(rendering, path)
    if rendering.texts:
        print(_printable(BETWEEN_TEXTS.join(rendering.texts)))
    for path in paths:
        print(f"Wrote {path}")


def draw(arguments: Namespace) -> None:
    """Renders a view of a checkpoint, as PNG or GIF file."""
    _check_data_dir(arguments.data_dir)
    shown = card(arguments.name)
    out = Path(arguments.out or f"{_file_name(shown)}.{arguments.view}.png")
    check_out(out)
    import torch

    from zoo.loading import load
    from zoo.views import Request, check_view, write_view

    module = load(arguments.name)
    view = check_view(module, shown.name, arguments.view)
    if view.gather is None and arguments.data_dir is not None:
        raise UsageError(f"The view {arguments.view} needs no data: leave out --data-dir.")
    if not view.counted and arguments.num is not None:
        raise UsageError(f"The view {arguments.view} is one image: leave out --num.")
    if not view.compares and arguments.extractor is not None:
        raise UsageError(f"The view {arguments.view} compares no features: leave out --extractor.")
    source = torch.Generator().manual_seed(arguments.seed)
    request = Request(module, arguments.num or view.num, source, extractor_name=arguments.extractor)
    if view.gather is not None:
        request = view.gather(request, shown, arguments.data_dir)
    write_view(view, request, out)
    print(f"Wrote {out}")


def evaluate(arguments: Namespace) -> None:
    """Measures a checkpoint, and with ``--write`` adds the metrics to its card."""
    _check_data_dir(arguments.data_dir)
    shown = card(arguments.name)
    run = shown if arguments.other_seed is None else card(Path(arguments.other_seed))
    seed = None
    if run is not shown:
        from zoo.other_seeds import check_other_seed

        seed = check_other_seed(shown, run)
    if arguments.write:
        from zoo.checkpoint_folder import check_update

        check_update(shown.path)
    from zoo.evaluation import evaluate

    metrics = evaluate(
        run,
        num_samples=arguments.num_samples,
        extractor=arguments.extractor,
        data_dir=arguments.data_dir,
        seed=arguments.seed,
        device=arguments.device,
        samples_only=arguments.samples_only,
        speed=arguments.speed,
        refuse_unused=True,
    )
    if not metrics:
        without = " without its data: leave out --samples-only" if arguments.samples_only else ""
        raise ZooError(f"Nothing can be measured of {run.name}{without}.")
    if arguments.write:
        from zoo.saving import update_metrics

        update_metrics(shown.path, metrics if seed is None else {**run.metrics, **metrics}, seed)
    rows: list[tuple[str, ...]] = [(name, f"{value:.5g}", _meaning(name)) for name, value in metrics.items()]
    if seed is not None:
        own = [f"{shown.metrics[name]:.5g}" if name in shown.metrics else "" for name in metrics]
        rows = [(name, value, beside, said) for (name, value, said), beside in zip(rows, own, strict=True)]
        rows.insert(0, ("METRIC", f"SEED {seed}", "CHECKPOINT", ""))
    print(columns(rows))
    if arguments.write:
        print(f"Wrote {shown.path / 'config.json'} and README.md")


def export(arguments: Namespace) -> None:
    """Converts a Lightning checkpoint to a checkpoint of the zoo."""
    if arguments.recipe is not None and arguments.recipe not in recipe_names():
        recipe_path(arguments.recipe)  # says which there are
        raise UsageError(f"--recipe {arguments.recipe} is a file; a card names recipes of the zoo only.")
    from zoo.exporting import export

    saved = export(
        Path(arguments.ckpt),
        Path(arguments.out),
        name=arguments.name,
        method=arguments.method,
        recipe=arguments.recipe,
        averaged_only=arguments.averaged_only,
    )
    only = f" alone of {', '.join(saved.averaged_only)}" if saved.averaged_only else ""
    print(f"Saved {saved.path} ({saved.method}{f', with averaged weights{only}' if saved.averaged else ''})")


def fine_tune(arguments: Namespace) -> int:
    """Continues the training of a checkpoint on a folder of images."""
    shown = card(arguments.name)
    from zoo.fine_tuning import fine_tune

    return _trained(
        lambda: fine_tune(
            shown,
            arguments.data,
            Path(arguments.out or Path("runs") / "fine-tune" / _file_name(shown)),
            steps=arguments.steps,
            batch_size=arguments.batch_size,
            seed=arguments.seed,
            hold_out=arguments.hold_out,
            resume=arguments.resume,
        ),
        again=command(*dict.fromkeys([*arguments.words, "--resume"])),
    )


def compare(arguments: Namespace) -> int:
    """Prints the tables of a comparison; with ``--train``, makes the missing runs before."""
    given = [name for name in ("only", "jobs") if getattr(arguments, name)]
    if given and not arguments.train:
        raise UsageError(f"--{given[0]} has no effect without --train.")
    from zoo.comparing.family_table import NAME, family_report

    if arguments.name == NAME:
        if arguments.train or arguments.out:
            raise UsageError(f"{NAME} reads the cards of the checkpoints: it takes neither --train nor --out.")
        print(family_report())
        return 0
    from zoo.comparing.comparison_table import report
    from zoo.comparing.registry import comparison_of
    from zoo.comparing.results import Results, results_file

    comparison = comparison_of(arguments.name)
    out = Path(arguments.out) if arguments.out else results_file(comparison.name)
    if not arguments.train and not out.exists():
        raise ZooError(f"{out} does not exist; with --train the runs are made, and their results written to it.")
    results = Results(out)
    if arguments.train:
        check_out(out)
        from lightning_modules.runtime.interruption import Interrupted
        from zoo.comparing.comparison_runs import train_missing

        try:
            train_missing(comparison, results, Path(arguments.runs), only=arguments.only, jobs=arguments.jobs)
        except Interrupted as stop:
            stop.command = command(*arguments.words)  # what is missing then is trained, from its newest checkpoints
            print(stop.report(), file=sys.stderr)
            return stop.exit_code
    print(report(comparison, results))
    return 0


def fetch(arguments: Namespace) -> None:
    """Fetches the weights of pretrained feature networks, or lists them."""
    from zoo.features import fetch

    fetch(arguments)


def _trained(training: Callable[[], Card | None], again: str | None = None) -> int:
    """Runs a training and says what was saved; returns the exit code. ``again`` resumes it, if it does not say how."""
    from lightning_modules.runtime.interruption import Interrupted

    try:
        saved = training()
    except Interrupted as stop:
        if stop.checkpoint is not None:
            stop.command = stop.command or again
        if os.environ.get("LOCAL_RANK", "0") == "0":  # of several processes, one says it
            print(stop.report(), file=sys.stderr)
        elif stop.checkpoint is not None:
            return 0  # for any other code Lightning kills the first process, maybe before it has said it
        return stop.exit_code
    if saved is not None:
        print(f"Saved {saved.path}: zoo.load({str(saved.path)!r}) or {command('sample', saved.path)}")
    return 0


def _folder(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def _check_data_dir(data_dir: str | None) -> None:
    """Raises ``UsageError`` for data that do not exist; they would be looked for elsewhere."""
    if data_dir is not None and not Path(data_dir).expanduser().exists():
        raise UsageError(f"--data-dir {data_dir} does not exist. Without --data-dir the data are searched.")


FRAME_ERRORS = {
    "frame_mse": "squared errors summed over a frame in [0, 1]",
    "frame_psnr": "peak signal-to-noise ratio, dB",
    "frame_ssim": "structural similarity, at most 1",
}


def _meaning(metric: str) -> str:
    """Returns the unit of a likelihood, and whether it is exact, a bound or an estimate."""
    if counterfactual := meaning(metric):
        return counterfactual
    name, *kind = metric.rpartition("/")[2].split("-")
    units = {
        "nll": "-log p, nats per example",
        "bits_per_dim": "-log2 p, bits per dimension",
        "nats_per_step": "-log p, nats per step",
        "bits_per_step": "-log2 p, bits per step",
    }
    if name.startswith("js_"):
        return "Jensen-Shannon divergence, nats" + (", of real from real" if name.endswith("_floor") else "")
    for beginning, error in FRAME_ERRORS.items():
        if name.startswith(beginning):
            return error
    if name == "log_condition_number":
        return "of J^T J, J = dG/dz, nats: a mean over codes"
    if name not in units or not kind:
        return ""
    if found := re.fullmatch(r"exact(?:_(\w+))?", kind[0]):
        return f"{units[name]}, exact" + (f" ({found[1].replace('_', ' ')})" if found[1] else "")
    if found := re.fullmatch(r"upper_bound_k(\d+)", kind[0]):
        return f"{units[name]}, upper bound: log p is bounded below with k = {found[1]} samples"
    return f"{units[name]}, estimate: see its standard error"


def _file_name(shown: Card) -> str:
    # The name may be a Hub id or come from an untrusted config: no part of it may become a folder.
    return re.sub(r"[^\w.-]", "_", shown.name).lstrip(".") or "checkpoint"


def _printable(text: str) -> str:
    """Returns a text without characters that would control a terminal, or that it cannot show."""
    shown = "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)
    encoding = sys.stdout.encoding or "utf-8"
    return shown.encode(encoding, errors="replace").decode(encoding)
