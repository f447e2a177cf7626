"""Recorded results of studies: one JSON file and one figure each, written only from committed code.

A result names the commit that held the rule, and the digests of the study's file, of what the study shares with others
in this folder, of all checkpoints that it used, and of its figure. If one of these has changed, the result is stale: it
is not what the study would find now. Digests are those of before the run: what changes in the meantime is noticed too.

NOTE: Changes of the library are not noticed. It changes daily, and studies that take an hour cannot be run as often.
"""

import ast
import json
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from lightning_modules.parts.files import file_sha256, replace_file
from zoo.cards import card
from zoo.errors import ZooError
from zoo.json_values import not_plain
from zoo.paths import PACKAGE, command
from zoo.record import library_versions
from zoo.studies.study import Outcome, Study
from zoo.studies.study_figures import png
from zoo.studies.study_registry import MODULES, study_of

FORMAT = 1
FOLDER = Path(__file__).parent
RESULTS = PACKAGE / "studies" / "results"
SHARED = "zoo.studies."
NOT_MEASURING = ("study", "study_figures")
"""Files that no number depends on: what a study is, and how it is drawn."""
GONE = "there is no such study any more"
FIELDS: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "study": str,
    "holds": bool,
    "numbers": dict,
    "seen": str,
    "figure": str,
    "study_sha256": str,
    "checkpoints": dict,
    "seeds": list,
    "commit": str,
    "minutes": (int, float),
    "date": str,
}
"""Fields that are read, and their types."""


class Sources(NamedTuple):
    """Digests of what an outcome depends on.

    Attributes:
        study: That of the study's file.
        shared: Those of the files that studies share, by name.
        checkpoints: Those of the checkpoints, by name.
    """

    study: str
    shared: dict[str, str]
    checkpoints: dict[str, str]


def sources_of(study: Study) -> Sources:
    """Returns the digests of what a study depends on, as it is now."""
    shared = {path.name: file_sha256(path) for path in shared_files(study.file)}
    return Sources(file_sha256(study.file), shared, {name: card(name).sha256 for name in study.checkpoints})


def result_file(name: str, folder: Path = RESULTS) -> Path:
    """Returns the file of a study's result."""
    return folder / f"{name}.json"


def read_result(name: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """Returns the recorded result of a study, or ``None`` if there is none.

    Raises:
        ZooError: If the file is damaged.
    """
    path = result_file(name, folder)
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if reason := _damage(found, name):
        raise ZooError(f"{path} {reason}: {command('study', name, '--write')} records the result again.")
    result: dict[str, Any] = found
    return result


def _damage(found: Any, name: str) -> str | None:
    """Returns what is wrong with the content of a result, or ``None``."""
    if not isinstance(found, dict):
        return "is damaged"
    for field, kinds in FIELDS.items():
        if field not in found:
            return f"lacks {field}"
        if not isinstance(found[field], kinds) or (isinstance(found[field], bool) and field != "holds"):
            return f"is damaged in {field}"
    if found["format"] != FORMAT:
        return f"has format {found['format']}, not {FORMAT}"
    if (found["study"], found["figure"]) != (name, f"{name}.png"):
        return f"is that of {found['study']}, with the figure {found['figure']}"
    for key, number in found["numbers"].items():
        if not isinstance(number, dict) or not {"value", "error"} <= number.keys():
            return f"is damaged in {key}"
        if not all(type(number[part]) in (int, float) for part in ("value", "error")):
            return f"is damaged in {key}"
    return None


def write_result(
    study: Study,
    outcome: Outcome,
    commit: str,
    minutes: float,
    folder: Path = RESULTS,
    sources: Sources | None = None,
) -> Path:
    """Writes the figure and the result of a study; each file is complete or as it was before.

    Args:
        study: The study.
        outcome: What it has found.
        commit: The commit that held the rule.
        minutes: How long it took.
        folder: Folder of the results.
        sources: Digests of before the run; by default those of now.

    Returns:
        The file of the result.

    Raises:
        ZooError: If a number is NaN or infinite.
    """
    sources = sources or sources_of(study)
    drawn = png(outcome.figure)
    content = {
        "format": FORMAT,
        "study": study.name,
        "place": study.place,
        "claim": study.claim,
        "rule": study.rule,
        "holds": bool(outcome.holds),
        "numbers": {name: {"value": value, "error": error} for name, (value, error) in outcome.numbers.items()},
        "seen": outcome.seen,
        "figure": f"{study.name}.png",
        "figure_sha256": sha256(drawn).hexdigest(),
        "seeds": list(outcome.seeds),
        "commit": commit,
        "study_sha256": sources.study,
        "shared_sha256": sources.shared,
        "checkpoints": sources.checkpoints,
        "minutes": round(minutes, 1),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "versions": library_versions(),
    }
    if reason := not_plain(content):
        raise ZooError(f"The result of {study.name} cannot be recorded: {reason}")
    # The figure first, so that no result names one that is missing. If the next line is never reached, the digest in
    # the former result tells that this figure is not its own.
    replace_file(folder / f"{study.name}.png", drawn)
    replace_file(result_file(study.name, folder), (json.dumps(content, indent=1) + "\n").encode())
    return result_file(study.name, folder)


def stale_results(folder: Path = RESULTS) -> Iterator[tuple[str, str]]:
    """Yields the name of each result that is not what its study would find now, with the reason."""
    for name in sorted({path.stem for kind in ("json", "png") for path in folder.glob(f"*.{kind}")}):
        if name not in MODULES:
            yield name, GONE
            continue
        try:
            result = read_result(name, folder)
        except ZooError:
            yield name, "it is damaged"
            continue
        if result is None:
            yield name, "its figure is here, but no result"
            continue
        yield from ((name, reason) for reason in changes(study_of(name), result, folder))


def changes(study: Study, result: dict[str, Any], folder: Path) -> Iterator[str]:
    """Yields what has changed since a result was recorded; results of before some digests were kept lack them."""
    if result["study_sha256"] != file_sha256(study.file):
        yield f"{study.file.name} has changed"
    now = {path.name: file_sha256(path) for path in shared_files(study.file)}
    for name, digest in result.get("shared_sha256", {}).items():
        if now.get(name) != digest:
            yield f"{name}, which it shares with others, has changed"
    figure = folder / result["figure"]
    if not figure.is_file():
        yield f"its figure {figure.name} is missing"
    elif result.get("figure_sha256", file_sha256(figure)) != file_sha256(figure):
        yield f"its figure {figure.name} is another"
    if set(result["checkpoints"]) != set(study.checkpoints):
        yield "it used other checkpoints than the study names"
    for checkpoint, digest in result["checkpoints"].items():
        if _digest(checkpoint) != digest:
            yield f"the checkpoint {checkpoint} has changed"


def shared_files(file: Path) -> list[Path]:
    """Returns the files of the studies' folder that a study is made of beside its own, the figures' aside."""
    found: dict[str, Path] = {}
    waiting = [file]
    while waiting:
        tree = ast.parse(waiting.pop().read_text(encoding="utf-8"))
        froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module is not None]
        imported = [f"{node.module}.{alias.name}" for node in froms for alias in node.names]
        for name in (module.split(".")[2] for module in imported if module.startswith(SHARED)):
            if name not in found and name not in NOT_MEASURING:
                found[name] = FOLDER / f"{name}.py"
                waiting.append(found[name])
    return [found[name] for name in sorted(found)]


def _digest(checkpoint: str) -> str | None:
    try:
        return card(checkpoint).sha256
    except ZooError:  # it is gone, or damaged
        return None


def commit_of_rule(study: Study) -> str:
    """Returns the last commit that changed a study's file.

    Raises:
        ZooError: If the zoo is not in a git checkout with its history, or has changes that are not committed, the
            results aside.
    """
    root = PACKAGE.parent
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root:
        raise ZooError(f"--write records the commit that held the rule, but {root} is not a git checkout of the zoo.")
    changed = _git(root, "status", "--porcelain", "--", ".", f":(exclude){RESULTS.relative_to(root).as_posix()}")
    if changed is None or changed:
        first = (changed or "").splitlines()[0][3:] if changed else "an unreadable state"
        raise ZooError(
            f"--write records a result of committed code only, but {first} has changes: commit them, then run it again."
        )
    commit = _git(root, "log", "-1", "--format=%H", "--", str(study.file))
    if not commit:
        raise ZooError(f"{study.file.name} is in no commit: commit the study, with its rule, before its result.")
    if _git(root, "rev-parse", "--is-shallow-repository") == "true":  # its first commit seems to have changed all files
        raise ZooError(
            "--write records the commit that held the rule, which a shallow clone does not know. Fetch it all."
        )
    return commit


def _git(root: Path, *words: str) -> str | None:
    """Returns what git prints about a folder, or ``None`` if it fails or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip("\n") if done.returncode == 0 else None
