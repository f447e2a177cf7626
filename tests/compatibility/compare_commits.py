"""Compares two commits over all checkpoints, bit for bit, on this machine: samples and log-probabilities.

    python tests/compatibility/compare_commits.py 34b937a            # with the files of this folder
    python tests/compatibility/compare_commits.py 34b937a 5c0ffee    # two commits with one another

Each commit is checked out into a ``git worktree`` of its own and asked by ``record_outputs.py`` of this commit.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
RECORD = Path(__file__).with_name("record_outputs.py")


@contextmanager
def tree_of(commit: str | None) -> Iterator[Path]:
    """Yields a folder that holds a commit; the present files for ``None``."""
    if commit is None:
        yield ROOT
        return
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--detach", tree, commit], cwd=ROOT, check=True, capture_output=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


def recorded(commit: str | None) -> dict[str, np.ndarray]:
    """Returns what all checkpoints of a commit compute."""
    with tree_of(commit) as tree, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outputs.npz"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree)}
        subprocess.run([sys.executable, RECORD, path], cwd=tree, env=environment, check=True, stdout=subprocess.DEVNULL)
        with np.load(path) as file:
            return dict(file)


def differences(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> list[str]:
    """Returns a line for each array that is missing or not equal bit for bit."""
    lines = [f"{key}: only in one of them" for key in sorted(set(before) ^ set(after))]
    for key in sorted(set(before) & set(after)):
        first, second = before[key], after[key]
        if first.dtype != second.dtype or first.shape != second.shape:
            lines.append(f"{key}: {first.dtype} {first.shape} and {second.dtype} {second.shape}")
        elif first.tobytes() != second.tobytes():
            distance = np.abs(first.astype(np.float64) - second.astype(np.float64)).max()
            lines.append(f"{key}: differs by up to {distance:.3g}")
    return lines


def main() -> int:
    """Prints what differs; returns 1 if anything does."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("before", help="a commit")
    parser.add_argument("after", nargs="?", help="another (default: the present files)")
    arguments = parser.parse_args()
    before, after = recorded(arguments.before), recorded(arguments.after)
    found = differences(before, after)
    print(*found, sep="\n", end="\n" if found else "")
    checkpoints = {key.partition("/")[0] for key in before}
    print(f"{len(before)} arrays of {len(checkpoints)} checkpoints compared bit for bit: {len(found)} differ.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
