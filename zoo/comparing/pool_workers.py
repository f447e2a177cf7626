"""A pool of processes that end with the process that started them, however it ends: nothing computes for nobody.

Only light modules are imported here, so that a process that is just starting ends as soon.
"""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection

from zoo.cores import num_cores
from zoo.freed_memory import keep_freed_memory

LEFT_ALONE = 1
"""Exit code of a process whose parent is gone."""


@contextmanager
def worker_pool(jobs: int | None) -> Iterator[ProcessPoolExecutor]:
    """Opens a pool of processes, by default one a core, which are ended at once if the block raises an error.

    Ctrl-C reaches all processes of a terminal; here the parent alone heeds it.
    """
    context = get_context("spawn")  # a forked process would share torch's threads with its parent
    watched, held = context.Pipe(duplex=False)
    with ProcessPoolExecutor(jobs or num_cores(), context, initializer=prepare, initargs=(watched,)) as pool:
        try:
            yield pool
        except BaseException:
            held.close()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            watched.close()
    held.close()


def prepare(parent: Connection) -> None:
    """Prepares this process for training, and for the end of its parent."""
    keep_freed_memory()
    end_with(parent)


def end_with(parent: Connection) -> None:
    """Ends this process, in the midst of whatever it does, when the other end of a connection is closed.

    The system closes it when the parent dies, whatever it dies of.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        try:
            parent.recv_bytes()
        except (EOFError, OSError):
            os._exit(LEFT_ALONE)

    threading.Thread(target=watch, daemon=True).start()
