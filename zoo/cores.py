"""How many cores there are to compute on."""

import os


def num_cores() -> int:
    """Returns the number of cores that this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
