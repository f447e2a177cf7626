"""Freed memory stays in the process of a command, and is used again without new pages."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from zoo.freed_memory import keep_freed_memory

print(keep_freed_memory())
for attempt in range(9):
    block = b"x" * 2**26
    if attempt == 0:
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
"""


def run(**variables: str) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    program = [sys.executable, "-c", PROGRAM]
    return subprocess.run(program, env=kept | variables, check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.skipif(not os.confstr("CS_GNU_LIBC_VERSION"), reason="only glibc has these options")
def test_freed_blocks_are_used_again() -> None:
    done, faults = run()
    assert (done, int(faults) < 1000) == ("True", True)  # a block has 16 384 pages


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_variables_of_the_user_count(name: str) -> None:
    done, faults = run(**{name: "glibc.malloc.check=0" if name == "GLIBC_TUNABLES" else "100000"})
    assert (done, int(faults) > 16_000) == ("False", True)
