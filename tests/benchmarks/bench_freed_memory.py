"""A step on the CPU in a process that keeps freed memory, as `python -m zoo` does, against one that returns it.

Both processes are timed in turn, a few steps each.
"""

import subprocess
import sys

from common import interleaved, row

PROGRAM = """
import sys, torch
from lightning_modules.networks.hourglass import Hourglass
from zoo.freed_memory import keep_freed_memory

if sys.argv[1] == "keeps":
    keep_freed_memory()
network = Hourglass(32, 64)
optimizer = torch.optim.Adam(network.parameters())
code = torch.rand(1, 32, 256, 256)
for line in sys.stdin:
    for _ in range(3):
        optimizer.zero_grad()
        network(code).square().mean().backward()
        optimizer.step()
    print("done", flush=True)
"""


def main() -> None:
    names = ("keeps", "returns")
    running = {
        name: subprocess.Popen(
            [sys.executable, "-c", PROGRAM, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in names
    }

    def steps(name: str) -> None:
        process = running[name]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"

    seconds = interleaved({name: lambda name=name: steps(name) for name in names}, rounds=5)  # type: ignore[misc]
    for process in running.values():
        process.communicate()
    kept, returned = (seconds[name] / 3 for name in names)
    measured = f"{kept / returned:.2f} ({kept:.3f} s / {returned:.3f} s)"
    row(
        "step that keeps freed memory / that returns it, hourglass of width 64, 256 px",
        "< 1",
        measured,
        kept < returned,
    )


if __name__ == "__main__":
    main()
