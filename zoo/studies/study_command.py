"""``python -m zoo study``: runs studies, lists them, records their results and tells which of these are stale."""

import math
import textwrap
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError
from zoo.listing import columns
from zoo.paths import check_out, command

if TYPE_CHECKING:
    from zoo.studies.study import Outcome, Study

FIGURES = Path("runs") / "studies"
WIDTH = 100


def add_study_command(add: Callable[..., Any]) -> None:
    """Adds the command; ``add`` takes its name and help, and returns its parser."""
    parser = add(
        "study",
        "test a claim of the text by an experiment",
        epilog="  study --list            the claims, and which hold\n"
        "  study entropy --quick   a run of seconds, which shows how it works and decides nothing\n"
        "  study entropy           the whole experiment: at most ten minutes on two cores",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="name of a study")
    parser.add_argument("--list", action="store_true", help="list the studies and their recorded results")
    parser.add_argument("--all", action="store_true", help="run all studies")
    parser.add_argument(
        "--quick", action="store_true", help="cut the experiment short: no result, but a run of seconds"
    )
    parser.add_argument("--write", action="store_true", help="record the result in zoo/studies/results")
    parser.add_argument("--stale", action="store_true", help="list results whose study or checkpoints have changed")
    parser.add_argument("--out", metavar="FOLDER", help=f"folder of the figures (default: {FIGURES})")


def study(arguments: Namespace) -> int:
    """Runs, lists or checks studies; returns 1 if results are stale."""
    chosen = [f"--{flag}" for flag in ("list", "all", "stale") if getattr(arguments, flag)]
    chosen += [] if arguments.name is None else [arguments.name]
    if len(chosen) != 1:
        given = f"not {' and '.join(chosen)} together" if chosen else "and none was given"
        raise UsageError(f"Name one study, or give one of --all, --list and --stale, {given}.")
    if chosen[0] in ("--list", "--stale"):
        if unused := [flag for flag in ("quick", "write", "out") if getattr(arguments, flag)]:
            raise UsageError(f"--{unused[0]} has no effect with {chosen[0]}.")
        return _stale() if arguments.stale else _listed()
    if arguments.write and arguments.quick:
        raise UsageError("--write records the result of a whole run: leave out --quick.")
    if arguments.write and arguments.out is not None:
        raise UsageError("--write puts the figure beside the result: leave out --out.")
    from zoo.studies.study_registry import MODULES, study_of

    studies = [study_of(name) for name in (MODULES if arguments.all else [arguments.name])]
    _run(studies, quick=arguments.quick, write=arguments.write, out=Path(arguments.out or FIGURES))
    return 0


def _run(studies: "list[Study]", *, quick: bool, write: bool, out: Path) -> None:
    from lightning_modules.parts.files import replace_file
    from zoo.studies.study_figures import png
    from zoo.studies.study_results import commit_of_rule, write_result
    from zoo.studies.study_runs import run_study

    commits = [commit_of_rule(study) if write else "" for study in studies]  # before any work is done
    for study in studies:
        check_out(out / f"{study.name}.png")
    for study, commit in zip(studies, commits, strict=True):
        print(_introduction(study), flush=True)
        outcome, minutes = run_study(study, quick)
        print(_report(outcome, quick))
        if write:
            path = write_result(study, outcome, commit, minutes)
        else:
            path = out / f"{study.name}.png"
            replace_file(path, png(outcome.figure))
        print(f"Wrote {path}\n")


def _introduction(study: "Study") -> str:
    return "\n".join([f"{study.name}, {study.place}", _wrapped("Claim", study.claim), _wrapped("Rule", study.rule)])


def _report(outcome: "Outcome", quick: bool) -> str:
    rows = [(name, f"{value:.5g}", _error(error)) for name, (value, error) in outcome.numbers.items()]
    verdict = "The claim holds." if outcome.holds else "The claim does not hold."
    if quick:
        verdict = "A quick run decides nothing; run it without --quick for a result."
    return "\n".join([columns(rows), _wrapped("Seen", outcome.seen), verdict])


def _error(error: float) -> str:
    return "exact" if error == 0 else "one run" if math.isnan(error) else f"+- {error:.2g}"


def _wrapped(heading: str, text: str) -> str:
    return textwrap.fill(f"{heading}: {text}", WIDTH, subsequent_indent="  ", break_long_words=False)


def _listed() -> int:
    from zoo.studies.study_registry import MODULES, study_of
    from zoo.studies.study_results import read_result

    rows = [("NAME", "PLACE", "RESULT", "CLAIM")]
    for study in map(study_of, MODULES):
        result = read_result(study.name)
        found = "not recorded" if result is None else "holds" if result["holds"] else "does not hold"
        rows.append((study.name, study.place, found, textwrap.shorten(study.claim, 90, placeholder=" ...")))
    print(columns(rows))
    return 0


def _stale() -> int:
    from zoo.studies.study_results import stale_results

    found = list(stale_results())
    if not found:
        print("No recorded result is stale.")
        return 0
    print(columns([*found]))
    names = list(dict.fromkeys(name for name, _ in found))
    print(f"{command('study', names[0], '--write')} records the result again.")
    return 1
