"""Start-up time of `python -m zoo list`, warm: a command that only lists must not wait for torch."""

import subprocess
import sys

from common import interleaved, row


def main() -> None:
    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    seconds = interleaved({"list": lambda: run("-m", "zoo", "list"), "bare": lambda: run("-c", "pass")}, rounds=9)
    measured = f"{seconds['list']:.2f} s (a bare interpreter takes {seconds['bare']:.2f} s)"
    row("start-up of `python -m zoo list`", "< 1.5 s", measured, seconds["list"] < 1.5)


if __name__ == "__main__":
    main()
