"""Runs a study, so that its outcome depends on its code and seeds alone."""

import time

import torch

from zoo.studies.study import Outcome, Study


def run_study(study: Study, quick: bool = False) -> tuple[Outcome, float]:
    """Runs an experiment; afterwards the global random state is what it was.

    Args:
        study: The study.
        quick: Whether the experiment is cut short to seconds.

    Returns:
        What it has found, and the minutes that it took.
    """
    start = time.monotonic()
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        outcome = study.experiment(quick)
    return outcome, (time.monotonic() - start) / 60
