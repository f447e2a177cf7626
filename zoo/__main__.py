"""The command line of the zoo: ``python -m zoo``, or ``generative-zoo`` after installation.

Only commands that compute import torch.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from zoo.arguments import build_parser, unknown_options
from zoo.errors import UsageError
from zoo.escaping import printable
from zoo.messages import one_line

WITH_OVERRIDES = ("train", "resume")  # commands that pass what they do not know to LightningCLI


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0, 1 for a failure, or 128 + the signal's number after an interruption: 130 for Ctrl-C, 143 for SIGTERM. Bad
        usage ends the program with 2.
    """
    parser = build_parser()
    arguments, overrides = parser.parse_known_args(argv)
    arguments.words = list(sys.argv[1:] if argv is None else argv)
    if arguments.command in WITH_OVERRIDES:
        arguments.overrides = overrides
    elif overrides:
        parser.error(unknown_options(parser, arguments.command, overrides))
    formatted = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"warning: {printable(str(message))}\n"
    try:
        code: int | None = arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        _discard_output()
    except Exception as error:  # any other error is reported in one line
        if arguments.debug:
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        if isinstance(error, OSError):
            _discard_output()  # what cannot be written now would be tried again at the end
        if isinstance(error, (UsageError, argparse.ArgumentError)):
            sys.exit(2)
        return 1
    else:
        return code or 0
    finally:
        warnings.formatwarning = formatted
    return 0


def _discard_output() -> None:
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # not a file
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)


if __name__ == "__main__":
    sys.exit(main())
