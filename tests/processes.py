"""Functions in processes of their own, forked from one that has imported everything: a start costs no import."""

import io
import os
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["lightning_modules.callbacks", "datamodules.images.image_base"])


def started(
    function: Callable[..., Any], *arguments: Any, environment: Mapping[str, str] | None = None, **settings: Any
) -> tuple[Any, Connection]:
    """Calls a function of a module in a new process; returns it, and where its result arrives."""
    receive, send = CONTEXT.Pipe(duplex=False)
    place = {"OMP_NUM_THREADS": "1", **(environment or {})}
    process = CONTEXT.Process(target=call, args=(send, os.getcwd(), place, function, arguments, settings), daemon=False)
    process.start()
    send.close()
    return process, receive


def call(
    send: Connection,
    folder: str,
    environment: Mapping[str, str],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    settings: dict[str, Any],
) -> None:
    """What a process does: calls the function and sends what it returns, or the traceback of its error."""
    os.chdir(folder)
    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        result, error = function(*arguments, **settings), None
    except BaseException:
        result, error = None, traceback.format_exc()
    content = io.BytesIO()
    torch.save((result, error), content)
    send.send_bytes(content.getvalue())


def result_of(process: Any, receive: Connection) -> Any:
    """Returns what a process sends, however long it takes; only the limit of the whole test ends it.

    Raises:
        AssertionError: If it has failed or died.
    """
    try:
        result, error = torch.load(io.BytesIO(receive.recv_bytes()), weights_only=False)
    except EOFError:
        process.join()
        raise AssertionError(f"the process died with exit code {process.exitcode}") from None
    assert error is None, error
    return result


def on_two(function: Callable[..., Any], *arguments: Any, **settings: Any) -> list[Any]:
    """Returns what a function returns on each of two processes, which Lightning takes for the two of ``devices=2``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "NODE_RANK": "0"}
    pair = [
        started(function, *arguments, environment={**common, "LOCAL_RANK": str(rank)}, **settings) for rank in (0, 1)
    ]
    try:
        return [result_of(process, receive) for process, receive in pair]
    finally:
        for process, _ in pair:
            process.kill()
            process.join()


def output_of(function: Callable[..., int], *arguments: Any, folder: str) -> tuple[int, str, str]:
    """Calls a function in a process of its own, and returns its exit code and what it has written to each stream."""
    with tempfile.TemporaryDirectory() as place:
        process, receive = started(redirected, function, arguments, folder, place, environment=dict(os.environ))
        code: int = result_of(process, receive)
        process.join()
        out, err = (Path(place, name).read_text(encoding="utf-8") for name in ("out", "err"))
    return code, out, err


def execute(programs: Sequence[tuple[str, str]]) -> int:
    """Runs programs, each with its name, as ``python`` would, one after the other."""
    for name, code in programs:
        print(name, flush=True)
        exec(compile(code, name, "exec"), {"__name__": "__main__"})
    return 0


def redirected(function: Callable[..., int], arguments: tuple[Any, ...], folder: str, place: str) -> int:
    """Calls a function with the streams of this process, and of those that it starts, written to files."""
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(Path(place, name), os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    with os.fdopen(1, "w", encoding="utf-8", closefd=False) as out, os.fdopen(2, "w", closefd=False) as err:
        sys.stdout, sys.stderr = out, err
        try:
            return function(*arguments)
        except SystemExit as error:
            return int(error.code or 0)
