"""Timing in alternation: on a busy machine two things compare only if both felt the same noise."""

import statistics
import time
from collections.abc import Callable, Mapping


def interleaved(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Runs every contestant in turn, ``rounds`` times after one warm-up, and returns median seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def row(benchmark: str, goal: str, measured: str, met: bool) -> None:
    """Prints one row of the table that `make bench` makes."""
    print(f"| {benchmark} | {goal} | {measured} | {'yes' if met else 'NO'} |", flush=True)
