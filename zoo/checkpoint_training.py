"""Trains and measures checkpoints of the zoo, several side by side; ``make checkpoints`` runs it.

A recipe waits for those whose checkpoints it loads or is measured with. Whatever has a checkpoint with its metrics is
left as it is, and an interrupted run is resumed. Each recipe has processes of its own, which are the commands that a
person would type; what they print is in ``runs/NAME.log``.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from lightning_modules.runtime.interruption import SIGNALS, handled_by
from lightning_modules.runtime.run_folder import TABLE
from zoo.cards import card
from zoo.checkpoint_commands import commands, is_done
from zoo.cores import num_cores
from zoo.errors import ZooError
from zoo.listing import columns, measured
from zoo.paths import recipe_names, recipe_path
from zoo.recipe import dependencies, read_recipe, training_order
from zoo.runs import RUNS

SKIPPED, TRAINED, FAILED = "was there", "trained", "failed"
BAR = "{desc:<44} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
POLL = 2.0
"""Seconds between two looks at what the runs have written."""


@dataclass(frozen=True)
class Report:
    """What became of a recipe.

    Attributes:
        name: Its name.
        state: ``"was there"``, ``"trained"`` or ``"failed"``.
        minutes: How long this call took for it.
        said: Why it failed; else empty.
    """

    name: str
    state: str
    minutes: float = 0.0
    said: str = ""


class CommandFailed(Exception):
    """A command that ended with an error; its text is the last line that the command has printed."""


def train_checkpoints(
    names: Sequence[str],
    folder: Path,
    jobs: int,
    make: Callable[[str, Path], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
    seeds: int = 1,
) -> list[Report]:
    """Trains and measures recipes, each after those that it depends on, and says when one has ended.

    Args:
        names: Names of the recipes.
        folder: Folder of the checkpoints.
        jobs: Number of recipes that are trained at the same time.
        make: Makes the checkpoint of a recipe in a folder; by default a ``Maker`` of these seeds.
        stopped: Whether to start nothing more, and return when what runs has ended.
        seeds: Number of seeds of each; the weights of the first are kept, and the numbers of all.

    Returns:
        A report of each recipe, in the order in which they ended. One that fails, or needs one that failed, leaves the
        others as they are.
    """
    make = make or Maker(max(1, num_cores() // jobs), seeds)
    graph = TopologicalSorter({name: dependencies(name) & set(names) for name in names})
    graph.prepare()
    reports: list[Report] = []
    running: dict[Future[Report], tuple[str, tqdm[Any]]] = {}
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while graph.is_active() and not stopped():
                for name in graph.get_ready():
                    lost = sorted(dependencies(name) & {r.name for r in reports if r.state == FAILED})
                    if lost:
                        ended(reports, Report(name, FAILED, said=f"it needs {', '.join(lost)}"))
                        graph.done(name)
                    else:
                        bar = tqdm(total=1.0, desc=name, bar_format=BAR, leave=False, disable=None)
                        running[pool.submit(reported, make, name, folder / name, seeds)] = name, bar
                done = wait(running, POLL, FIRST_COMPLETED).done
                if stopped():
                    break
                for future in done:
                    name, bar = running.pop(future)
                    bar.close()
                    ended(reports, future.result())
                    graph.done(name)
                for name, bar in running.values():
                    bar.update(progress(name) - bar.n)
            pool.shutdown(cancel_futures=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return reports


def ended(reports: list[Report], report: Report) -> None:
    """Adds a report, and prints it in a line."""
    reports.append(report)
    took = f" in {report.minutes:.0f} minutes" if report.state == TRAINED else ""
    tqdm.write(f"{report.name} {report.state}{took}{report.said and ': ' + report.said}")


def reported(make: Callable[[str, Path], None], name: str, target: Path, seeds: int = 1) -> Report:
    """Makes the checkpoint of a recipe unless it is there with its metrics, and reports how that went."""
    start = time.monotonic()
    try:
        if is_done(target, seeds):
            return Report(name, SKIPPED)
        make(name, target)
    except CommandFailed as error:
        return Report(name, FAILED, (time.monotonic() - start) / 60, f"{error} (the whole output: {log_of(name)})")
    except (ZooError, OSError) as error:  # such as a run.json that is damaged, or a disk that is full
        return Report(name, FAILED, (time.monotonic() - start) / 60, str(error))
    except Exception as error:  # the others go on, and what was unforeseen stands in the summary
        return Report(name, FAILED, (time.monotonic() - start) / 60, f"{type(error).__name__}: {error}")
    return Report(name, TRAINED, (time.monotonic() - start) / 60)


class Maker:
    """Makes a checkpoint by the commands of the zoo.

    Args:
        threads: Number of threads of each process, unless ``OMP_NUM_THREADS`` says it.
        seeds: Number of seeds of each recipe.

    Attributes:
        is_stopped: Whether no further command is started.
    """

    def __init__(self, threads: int, seeds: int = 1) -> None:
        self.seeds = seeds
        self.environment: Mapping[str, str] = {"OMP_NUM_THREADS": str(threads), **os.environ}
        self.is_stopped = False
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.RLock()  # a second signal may come while the first is passed on

    def __call__(self, name: str, target: Path) -> None:
        """Trains and measures a recipe.

        Raises:
            CommandFailed: If one of the commands fails.
        """
        log_of(name).parent.mkdir(parents=True, exist_ok=True)
        with log_of(name).open("w", encoding="utf-8") as log:
            for words in commands(name, target, self.seeds):
                log.write(f"$ python -m {' '.join(words)}\n")
                log.flush()
                if self._run([sys.executable, "-m", *words], log):
                    # A library may print names of files in another encoding.
                    printed = log_of(name).read_text(encoding="utf-8", errors="replace")
                    raise CommandFailed(printed.rstrip().rpartition("\n")[2])

    def stop(self, signum: int) -> None:
        """Passes a signal on to the commands that run, and starts no further one."""
        with self._lock:
            self.is_stopped = True
            for process in self._running:
                process.send_signal(signum)

    def _run(self, words: Sequence[str], log: IO[str]) -> int:
        """Runs a command and returns its exit code."""
        with self._lock:
            if self.is_stopped:
                raise CommandFailed("it was interrupted")
            # In a session of its own: Ctrl-C in a terminal would reach it beside the signal that is passed on, and the
            # second of two signals stops a training without a checkpoint.
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )
            self._running.add(process)
        try:
            return process.wait()
        finally:
            with self._lock:
                self._running.discard(process)


def log_of(name: str) -> Path:
    """Returns the file of what the commands of a recipe print."""
    return RUNS / f"{name}.log"


def progress(name: str) -> float:
    """Returns which part of its training a run has written metrics of."""
    steps = read_recipe(name)["trainer"].get("max_steps")
    try:
        last = (RUNS / name / TABLE).read_text(encoding="utf-8").rstrip().rpartition("\n")[2]
        return min(1.0, int(last.partition(",")[0]) / steps) if steps else 0.0
    except (OSError, ValueError):  # nothing was written yet
        return 0.0


def main(words: Sequence[str] | None = None) -> int:
    """Trains what its arguments name, prints a summary, and returns 1 if something failed."""
    parser = argparse.ArgumentParser(prog="python -m zoo.checkpoint_training", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="RECIPE", help="recipes (default: all)")
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="recipes that are trained at the same time, of which the seconds per sample suffer (default: 1)",
    )
    parser.add_argument(
        "--seeds", type=int, default=1, help="seeds of each; the weights of the first are kept (default: 1)"
    )
    parser.add_argument("--folder", type=Path, default=Path("checkpoints"), help="folder of the checkpoints")
    arguments = parser.parse_args(words)
    for name in ("jobs", "seeds"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} {getattr(arguments, name)} must be at least 1.")
    try:
        for name in arguments.names:
            recipe_path(name)
    except ZooError as error:
        parser.error(str(error))
    if files := sorted({*arguments.names} - {*recipe_names()}):
        parser.error(f"{files[0]} is a file: `python -m zoo train` takes it; here are recipes of the zoo only.")
    folder: Path = arguments.folder.expanduser()
    maker = Maker(max(1, num_cores() // arguments.jobs), arguments.seeds)

    received: list[int] = []

    def stop(signum: int, frame: object) -> None:
        received.append(signum)  # an error raised here would come up anywhere
        maker.stop(signal.SIGTERM if signum == signal.SIGHUP else signum)  # a training saves a checkpoint on SIGTERM

    # Under nohup the closing of the terminal is ignored.
    closing = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL else []
    with handled_by(stop, [*SIGNALS, *closing]):
        order = training_order(arguments.names or None)
        reports = train_checkpoints(order, folder, arguments.jobs, maker, lambda: maker.is_stopped, arguments.seeds)
    if received:
        print("Interrupted. The same command goes on from here.", file=sys.stderr)
        return 128 + received[0]
    rows = sorted(row(report, folder / report.name) for report in reports)
    print("\n" + columns([("NAME", "STATE", "MINUTES", "MEASURED"), *rows]))
    return int(any(report.state == FAILED for report in reports))


def row(report: Report, target: Path) -> tuple[str, ...]:
    """Returns the line of the summary for a recipe."""
    minutes = "" if report.state == SKIPPED else f"{report.minutes:.0f}"
    return report.name, report.state, minutes, report.said or measured(card(target))


if __name__ == "__main__":
    sys.exit(main())
