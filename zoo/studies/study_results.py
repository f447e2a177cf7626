"""Recorded results of studies: one JSON file and one figure each, written only from committed code.

A result names the commit that held the rule, the digest of the study's file and those of all checkpoints that it used.
If one of these has changed, the result is stale: it is not what the study would find now.
"""

import json
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lightning_modules.parts.files import file_sha256, replace_file
from zoo.cards import card
from zoo.errors import UnknownNameError, ZooError
from zoo.json_values import not_plain
from zoo.paths import PACKAGE, command
from zoo.record import library_versions
from zoo.studies.study import Outcome, Study
from zoo.studies.study_figures import png
from zoo.studies.study_registry import MODULES, study_of

FORMAT = 1
RESULTS = PACKAGE / "studies" / "results"
FIELDS = ("format", "study", "holds", "numbers", "seen", "figure", "study_sha256", "checkpoints")


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
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = [field for field in FIELDS if field not in found]
    except (ValueError, TypeError) as error:
        raise ZooError(f"{path} is damaged: {command('study', name, '--write')} records the result again.") from error
    if missing:
        raise ZooError(f"{path} lacks {missing[0]}: {command('study', name, '--write')} records the result again.")
    return found


def write_result(study: Study, outcome: Outcome, commit: str, minutes: float, folder: Path = RESULTS) -> Path:
    """Writes the figure and the result of a study; each file is complete or as it was before.

    Args:
        study: The study.
        outcome: What it has found.
        commit: The commit that held the rule.
        minutes: How long it took.
        folder: Folder of the results.

    Returns:
        The file of the result.

    Raises:
        ZooError: If a number is NaN or infinite.
    """
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
        "seeds": list(outcome.seeds),
        "commit": commit,
        "study_sha256": file_sha256(study.file),
        "checkpoints": {name: card(name).sha256 for name in study.checkpoints},
        "minutes": round(minutes, 1),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "versions": library_versions(),
    }
    if reason := not_plain(content):
        raise ZooError(f"The result of {study.name} cannot be recorded: {reason}")
    # The figure first, so that no result names one that is missing.
    replace_file(folder / f"{study.name}.png", png(outcome.figure))
    replace_file(result_file(study.name, folder), (json.dumps(content, indent=1) + "\n").encode())
    return result_file(study.name, folder)


def stale_results(folder: Path = RESULTS) -> Iterator[tuple[str, str]]:
    """Yields the name of each result that is not what its study would find now, with the reason."""
    for path in sorted(folder.glob("*.json")):
        name = path.stem
        if name not in MODULES:
            yield name, "there is no such study any more"
            continue
        study, result = study_of(name), read_result(name, folder)
        assert result is not None
        if result["study_sha256"] != file_sha256(study.file):
            yield name, f"{study.file.name} has changed"
        if not (folder / result["figure"]).is_file():
            yield name, f"its figure {result['figure']} is missing"
        if set(result["checkpoints"]) != set(study.checkpoints):
            yield name, "it used other checkpoints than the study names"
        for checkpoint, digest in result["checkpoints"].items():
            if _digest(checkpoint) != digest:
                yield name, f"the checkpoint {checkpoint} has changed"


def _digest(checkpoint: str) -> str | None:
    try:
        return card(checkpoint).sha256
    except UnknownNameError:
        return None


def commit_of_rule(study: Study) -> str:
    """Returns the last commit that changed a study's file.

    Raises:
        ZooError: If the zoo is not in a git checkout, or has changes that are not committed, the results aside.
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
    return commit


def _git(root: Path, *words: str) -> str | None:
    """Returns what git prints about a folder, or ``None`` if it fails or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip("\n") if done.returncode == 0 else None
