"""Freed memory stays in the process of a command, and is used again without new pages."""

import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zoo.comparing.pool_workers import worker_pool

PROGRAM = """
from tests.zoo.test_freed_memory import new_pages
from zoo.freed_memory import keep_freed_memory

print(keep_freed_memory(), new_pages())
"""
needs_glibc = pytest.mark.skipif("glibc" not in " ".join(platform.libc_ver()), reason="only glibc has these options")


def new_pages() -> int:
    """Returns how many pages eight blocks need, of 16 384 pages each, after another one was freed."""
    for attempt in range(9):
        block = b"x" * 2**26
        if attempt == 0:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def run(**variables: str) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    settings: Any = {"env": kept | variables, "cwd": Path(__file__).parents[2], "capture_output": True, "text": True}
    return subprocess.run([sys.executable, "-c", PROGRAM], check=True, **settings).stdout.split()


@needs_glibc
def test_freed_blocks_are_used_again() -> None:
    done, pages = run()
    assert (done, int(pages) < 1000) == ("True", True)


@needs_glibc
def test_processes_of_a_comparison_use_them_again_too() -> None:
    with worker_pool(1) as pool:
        assert pool.submit(new_pages).result(60) < 1000


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_variables_of_the_user_count(name: str) -> None:
    done, pages = run(**{name: "glibc.malloc.check=0" if name == "GLIBC_TUNABLES" else "100000"})
    assert (done, int(pages) > 16_000) == ("False", True)
