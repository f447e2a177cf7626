"""``python -m zoo study``: runs studies, lists them, records their results and tells which of these are stale."""

import math
import sys
import textwrap
from argparse import Namespace
from collections.abc import Callable
from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError, ZooError
from zoo.listing import columns
from zoo.messages import one_line
from zoo.paths import check_out, command

if TYPE_CHECKING:
    from zoo.studies.study import Outcome, Study
    from zoo.studies.study_results import Sources

FIGURES = Path("runs") / "studies"
WIDTH = 100


def add_study_command(add: Callable[..., Any]) -> None:
    """Adds the command; ``add`` takes its name and help, and returns its parser."""
    parser = add(
        "study",
        "test a claim of the text by an experiment",
        epilog="  study --list            the claims, and which hold\n"
        "  study entropy --quick   a run of seconds, which shows how it works and decides nothing\n"
        "  study entropy           the whole experiment: about ten minutes on two cores, or less",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="name of a study")
    parser.add_argument("--list", action="store_true", help="list the studies and their recorded results")
    parser.add_argument("--all", action="store_true", help="run all studies")
    parser.add_argument(
        "--quick", action="store_true", help="cut the experiment short: no result, but a run of seconds"
    )
    parser.add_argument("--write", action="store_true", help="record the result in zoo/studies/results")
    parser.add_argument("--stale", action="store_true", help="list results whose study or checkpoints have changed")
    parser.add_argument("--out", type=expanduser, metavar="FOLDER", help=f"folder of the figures (default: {FIGURES})")


def study(arguments: Namespace) -> int:
    """Runs, lists or checks studies; returns 1 if results are stale, or one of several studies failed."""
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
    return _run(studies, quick=arguments.quick, write=arguments.write, out=Path(arguments.out or FIGURES))


def _run(studies: "list[Study]", *, quick: bool, write: bool, out: Path) -> int:
    """Runs studies one after the other; of several, one that fails does not stop the others. Returns 1 if one did."""
    from zoo.studies import study_results

    # Before any work is done, which may take hours: what is committed now is what is run.
    commits = [study_results.commit_of_rule(study) if write else "" for study in studies]
    sources = [study_results.sources_of(study) if write else None for study in studies]
    for study in studies:
        for ending in ("png", "json") if write else ("png",):
            folder, advice = (study_results.RESULTS, "") if write else (out, " Choose another, with --out.")
            check_out(folder / f"{study.name}.{ending}", advice)
    failed = []
    for study, commit, of in zip(studies, commits, sources, strict=True):
        try:
            _run_one(study, quick, out, (commit, of) if of is not None else None)
        except Exception as error:
            if len(studies) == 1:
                raise
            print(f"error: {study.name}: {one_line(error)}\n", file=sys.stderr)
            failed.append(study.name)
    if failed:
        print(f"error: {len(failed)} of {len(studies)} studies failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run_one(study: "Study", quick: bool, out: Path, recorded_as: "tuple[str, Sources] | None") -> None:
    from lightning_modules.parts.files import replace_file
    from zoo.studies.study_figures import png
    from zoo.studies.study_results import RESULTS, write_result
    from zoo.studies.study_runs import run_study

    print(_introduction(study), flush=True)
    outcome, minutes = run_study(study, quick)
    print(_report(outcome, quick))
    if recorded_as is None:
        path = out / f"{study.name}.png"
        replace_file(path, png(outcome.figure))
    else:
        commit, sources = recorded_as
        path = write_result(study, outcome, commit, minutes, RESULTS, sources)
    print(f"Wrote {path}\n", flush=True)


def _introduction(study: "Study") -> str:
    return "\n".join([f"{study.name}, {study.place}", _wrapped("Claim", study.claim), _wrapped("Rule", study.rule)])


def _report(outcome: "Outcome", quick: bool) -> str:
    rows = [(name, f"{value:.5g}", _error(error)) for name, (value, error) in outcome.numbers.items()]
    verdict = "The claim holds." if outcome.holds else "The claim does not hold."
    if quick:
        verdict = "A quick run decides nothing; run it without --quick for a result."
    return "\n".join([columns(rows), _wrapped("Seen", outcome.seen), verdict])


def _error(error: float) -> str:
    return "" if error == 0 else "one run" if math.isnan(error) else f"+- {error:.2g}"


def _wrapped(heading: str, text: str) -> str:
    return textwrap.fill(f"{heading}: {text}", WIDTH, subsequent_indent="  ", break_long_words=False)


def _listed() -> int:
    from zoo.studies.study_registry import MODULES, study_of

    rows = [("NAME", "PLACE", "RESULT", "CLAIM")]
    for study in map(study_of, MODULES):
        claim = textwrap.shorten(study.claim, 90, placeholder=" ...")
        rows.append((study.name, study.place, _found(study.name), claim))
    print(columns(rows))
    return 0


def _found(name: str) -> str:
    from zoo.studies.study_results import read_result

    try:
        result = read_result(name)
    except ZooError:
        return "damaged"
    return "not recorded" if result is None else "holds" if result["holds"] else "does not hold"


def _stale() -> int:
    from zoo.studies.study_registry import MODULES
    from zoo.studies.study_results import GONE, stale_results

    found = list(stale_results())
    if without := [name for name in MODULES if _found(name) == "not recorded"]:
        print(f"Without a recorded result: {', '.join(without)}.")
    if not found:
        print("No recorded result is stale.")
        return 0
    print(columns([*found]))
    if there := [name for name, reason in found if reason != GONE]:
        print(f"{command('study', there[0], '--write')} records the result again.")
    if len(there) < len(found):
        print("Of a study that there is not any more, remove the files in zoo/studies/results.")
    return 1
