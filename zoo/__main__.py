"""The command line of the zoo: ``python -m zoo``, or ``generative-zoo`` after installation.

Only commands that compute import torch.
"""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from zoo.freed_memory import keep_freed_memory

WITH_OVERRIDES = ("train", "resume")  # commands that pass what they do not know to LightningCLI
INTERRUPTED = 128 + signal.SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0, 1 for a failure, or 128 + the signal's number after an interruption: 130 for Ctrl-C, 143 for SIGTERM. Bad
        usage ends the program with 2.
    """
    if argv is None:  # a program of its own; a caller's process is left alone
        keep_freed_memory()
    formatted = warnings.formatwarning
    with _noting_interruptions() as received:
        try:
            return _run(argv, received)
        except KeyboardInterrupt:
            return _say_interrupted()
        except Exception:
            if received:  # of which an import that was stopped in the middle has made another error
                return _say_interrupted()
            raise
        finally:
            warnings.formatwarning = formatted


def _run(argv: Sequence[str] | None, received: list[int]) -> int:
    # Imported here, where an interruption is expected.
    import argparse

    from zoo.arguments import build_parser, unknown_options
    from zoo.errors import NotFiniteWeights, UsageError
    from zoo.escaping import printable
    from zoo.messages import one_line

    parser = build_parser()
    arguments, overrides = parser.parse_known_args(argv)
    arguments.words = list(sys.argv[1:] if argv is None else argv)
    if arguments.command in WITH_OVERRIDES:
        arguments.overrides = overrides
    elif overrides:
        parser.error(unknown_options(parser, arguments.command, overrides))
    warnings.formatwarning = lambda message, *_, **__: f"warning: {printable(str(message))}\n"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", NotFiniteWeights)  # samples and metrics of such a model mean nothing
            code: int | None = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        _discard_output()
        return 0
    except Exception as error:  # any other error is reported in one line
        if arguments.debug or received:
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        if isinstance(error, OSError):
            _discard_output()  # what cannot be written now would be tried again at the end
        if isinstance(error, (UsageError, argparse.ArgumentError)):
            sys.exit(2)
        return 1
    return code or 0


@contextmanager
def _noting_interruptions() -> Iterator[list[int]]:
    """Notes Ctrl-C in the block, which raises ``KeyboardInterrupt`` as ever."""
    received: list[int] = []

    def note(signum: int, frame: object) -> None:
        received.append(signum)
        raise KeyboardInterrupt

    former = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or former is not signal.default_int_handler:
        yield received  # where a shell or another program has said what Ctrl-C does, it stays so
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, former)


def _say_interrupted() -> int:
    print("Interrupted.", file=sys.stderr)
    return INTERRUPTED


def _discard_output() -> None:
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # not a file
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)


if __name__ == "__main__":
    sys.exit(main())
