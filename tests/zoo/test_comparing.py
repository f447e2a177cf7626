"""Comparisons: the budget, what is missing, resuming, and the tables."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_modules import METHODS
from lightning_modules.base import GenerativeModule
from lightning_modules.runtime.interruption import Interrupted
from lightning_modules.runtime.optimization import NonFiniteLoss
from tests.zoo.running import ROOT
from zoo.__main__ import main
from zoo.comparing import comparison_runs
from zoo.comparing.comparison import Block, Comparison, batches_for
from zoo.comparing.comparison_runs import NEWEST, train
from zoo.comparing.comparison_table import markdown, report
from zoo.comparing.pool_workers import LEFT_ALONE, worker_pool
from zoo.comparing.registry import COMPARISONS
from zoo.comparing.results import REAL, Key, Results, are_settings, results_file
from zoo.errors import UnknownNameError, ZooError
from zoo.paths import command

BLOCKS = [block for comparison in COMPARISONS.values() for block in comparison.blocks]


def tiny(updates: int = 4, entries: int = 2) -> Block:
    """The ring with a few steps, methods and seeds."""
    block = COMPARISONS["modes"].block("ring8")
    return replace(block, updates=updates, entries=block.entries[-entries:], seeds=(0, 1))


def made(block: Block, entry: str, seed: int, **values: float) -> dict[str, Any]:
    """A result as a run would have left it."""
    settings = {} if entry == REAL else block.build(block.entry(entry), block.datamodule())[2]
    return {
        "block": block.name,
        "entry": entry,
        "seed": seed,
        "values": values,
        "settings": json.loads(json.dumps(settings)),
        "date": "2026-01-01",
    }


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_every_entry_is_built_for_the_same_number_of_generator_steps(block: Block) -> None:
    assert len({entry.name for entry in block.entries}) == len(block.entries)
    data = block.datamodule()
    for entry in block.entries:
        module, batches, settings = block.build(entry, data)
        count = getattr(module, "generator_updates", lambda number: number)
        assert count(batches) == block.updates
        assert count(batches - 1) == block.updates - 1
        assert settings["hyperparameters"].keys() >= {*block.shared, *entry.hyperparameters, "lr"}


def test_every_gan_is_compared() -> None:
    from lightning_modules import FAMILIES

    methods = {method.__name__ for method in FAMILIES["adversarial"]} - {"ComposedGAN", "CaptionGAN"}
    compared = {entry.method for block in COMPARISONS["gans"].blocks for entry in block.entries}
    assert compared == methods


def test_batches_are_counted_by_the_schedule() -> None:
    assert batches_for(METHODS["WGANGP"](shape=[2], architecture="mlp", critic_steps=5), 7) == 35
    assert batches_for(object(), 7) == 7


def test_a_run_that_was_stopped_ends_with_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison_runs, "SAVE_EVERY", 3)
    block = tiny(entries=1)
    whole = train(block, block.entries[0].name, 1, tmp_path / "whole")

    class Stopped(Exception):
        pass

    def stop(module: GenerativeModule) -> dict[str, float]:
        raise Stopped

    with pytest.raises(Stopped):
        train(replace(block, measure=stop), block.entries[0].name, 1, tmp_path / "parts")
    assert len(list(tmp_path.glob(f"parts/*/{NEWEST}"))) == 1
    resumed = train(block, block.entries[0].name, 1, tmp_path / "parts")
    del whole["values"]["minutes"], resumed["values"]["minutes"]
    assert resumed == whole
    longer = train(replace(block, updates=5), block.entries[0].name, 1, tmp_path / "parts")
    assert longer["values"]["images"] == 256 * 5, "other settings begin anew"
    assert len(list(tmp_path.glob(f"parts/*/{NEWEST}"))) == 2
    assert resumed["values"]["images"] == 256 * 4 * resumed["values"]["critic_steps"]


def test_missing_runs_are_those_without_results_of_the_present_settings(tmp_path: Path) -> None:
    block = tiny()
    comparison = Comparison("small", "Small", (block,))
    results = Results(tmp_path / "small.json")
    first, second = (entry.name for entry in block.entries)
    assert list(results.missing(comparison)) == [
        Key("ring8", REAL, 0),
        *[Key("ring8", name, seed) for seed in (0, 1) for name in (first, second)],
    ]
    for entry, seed in ((REAL, 0), (first, 0), (first, 1), (second, 0)):
        results.add(made(block, entry, seed, **{"modes-2500": 8 - seed}))
    again = Results(tmp_path / "small.json")
    assert list(again.missing(comparison)) == [Key("ring8", second, 1)]
    longer = Comparison("small", "Small", (replace(block, updates=5),))
    assert len(list(again.missing(longer))) == 4
    assert (again.outdated(comparison), again.outdated(longer)) == (0, 3)


def test_the_age_is_that_of_the_runs_that_are_shown(tmp_path: Path) -> None:
    block = tiny()
    comparison = Comparison("small", "Small", (block,))
    results = Results(tmp_path / "small.json")
    first, second = (entry.name for entry in block.entries)
    results.add(made(block, first, 0) | {"date": "2026-02-03"})
    results.add(made(replace(block, updates=5), second, 0) | {"date": "2019-01-01"})
    results.add(made(block, first, 1) | {"entry": "removed", "date": "2018-01-01"})
    text = report(comparison, results)
    assert "Measured on 2026-02-03" in text
    assert "Not shown: 2 runs of the file" in text


def test_the_table_has_the_mean_and_the_range(tmp_path: Path) -> None:
    block = tiny()
    comparison = Comparison("small", "Small", (block,))
    results = Results(tmp_path / "small.json")
    first, second = (entry.name for entry in block.entries)
    results.add(made(block, first, 0, **{"modes-2500": 8, "kl-2500": 0.5, "images": 1e6}))
    results.add(made(block, first, 1, **{"modes-2500": 8, "kl-2500": 0.25, "images": 1e6}))
    results.add(made(block, second, 0, **{"modes-2500": 3}))
    text = report(comparison, results)
    assert "0.375 (0.250 to 0.500)" in text
    assert f"{second} (1 of 2 seeds)" in text
    assert f"2 runs are missing: python -m zoo compare small --train --out {results.path} makes them." in text
    assert "Measured on 2026-01-01" in text
    assert f"| {first} | 8 |  | 0.375 (0.250 to 0.500) |  | 1e6 |  |" in markdown(block, results)


def test_training_makes_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = tiny(entries=1)
    comparison = Comparison("small", "Small", (block,))
    monkeypatch.setattr(comparison_runs, "comparison_of", lambda name: comparison)
    monkeypatch.setattr(comparison_runs, "worker_pool", InThisProcess)
    results, said = Results(tmp_path / "small.json"), []
    with pytest.raises(UnknownNameError, match="only='wgann' is no method or block of small.*There are .*ring8"):
        comparison_runs.train_missing(comparison, results, tmp_path / "runs", only=["wgann"], say=said.append)
    comparison_runs.train_missing(comparison, results, tmp_path / "runs", say=said.append)
    assert list(results.missing(comparison)) == []
    assert len(said) == 4
    (run, _) = results.of(block, block.entries[0].name)
    alone = train(block, block.entries[0].name, 0, tmp_path / "alone")
    assert run["values"] | {"minutes": 0} == alone["values"] | {"minutes": 0}


def test_a_run_that_fails_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = tiny()
    comparison = Comparison("small", "Small", (block,))
    first, second = (entry.name for entry in block.entries)

    def make(name: str, block_name: str, entry: str, seed: int, runs: str) -> dict[str, Any]:
        if entry == first:
            raise NonFiniteLoss("Training stopped at batch 3.")
        return made(block, entry, seed, **{"modes-2500": 8.0})

    monkeypatch.setattr(comparison_runs, "make", make)
    monkeypatch.setattr(comparison_runs, "worker_pool", InThisProcess)
    results = Results(tmp_path / "small.json")
    with pytest.raises(ZooError, match=f"2 of 5 runs failed, the first of them ring8/{first}/. .Training stopped"):
        comparison_runs.train_missing(comparison, results, tmp_path / "runs", say=lambda line: None)
    assert [key.entry for key in results.missing(comparison)] == [first, first]


def test_a_signal_keeps_the_runs_that_are_ready_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    block = COMPARISONS["modes"].block("ring8")
    first = block.entries[0].name

    def make(name: str, block_name: str, entry: str, seed: int, runs: str) -> dict[str, Any]:
        if seed == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return made(block, entry, seed, **{"modes-2500": 8.0})

    monkeypatch.setattr(comparison_runs, "make", make)
    monkeypatch.setattr(comparison_runs, "worker_pool", InThisProcess)
    out = tmp_path / "modes.json"
    only = ["compare", "modes", "--train", "--only", f"ring8/{first}", "--out", str(out)]
    assert main(only) == 128 + signal.SIGTERM
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"Interrupted. To go on: {command(*only)}"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_between_two_runs_keeps_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block, said = tiny(), []
    comparison = Comparison("small", "Small", (block,))

    def make(name: str, block_name: str, entry: str, seed: int, runs: str) -> dict[str, Any]:
        return made(block, entry, seed, **{"modes-2500": 8.0})

    def interrupted(futures: list[Future[Any]]) -> Iterator[Future[Any]]:
        wait(futures)
        yield futures[0]
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(comparison_runs, "make", make)
    monkeypatch.setattr(comparison_runs, "worker_pool", InThisProcess)
    monkeypatch.setattr(comparison_runs, "as_completed", interrupted)
    results = Results(tmp_path / "small.json")
    with pytest.raises(Interrupted):
        comparison_runs.train_missing(comparison, results, tmp_path / "runs", say=said.append)
    assert list(Results(tmp_path / "small.json").missing(comparison)) == []


WORKER = """
import sys, threading
from multiprocessing.connection import Connection
from zoo.comparing.pool_workers import end_with
end_with(Connection(int(sys.argv[1])))
print("works", flush=True)
threading.Event().wait()
"""


def test_a_worker_ends_with_its_parent() -> None:
    """Whose end of the connection is closed when it dies."""
    watched, held = Pipe(duplex=False)
    number = watched.fileno()
    arguments = [sys.executable, "-c", WORKER, str(number)]
    with subprocess.Popen(arguments, pass_fds=[number], stdout=subprocess.PIPE, text=True, cwd=ROOT) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "works\n"
        assert worker.poll() is None
        held.close()
        assert worker.wait() == LEFT_ALONE
    watched.close()


def test_an_error_ends_the_pool() -> None:
    with pytest.raises(Interrupted), worker_pool(1) as pool:  # noqa: PT012
        endless = pool.submit(time.sleep, 1e6)
        raise Interrupted(signal.SIGTERM)
    assert isinstance(endless.exception(), BrokenProcessPool | CancelledError)


def test_two_trainings_add_to_one_file(tmp_path: Path) -> None:
    block = tiny()
    names = [entry.name for entry in block.entries]
    both = [Results(tmp_path / "deep" / "small.json") for _ in names]
    for results, name in zip(both, names, strict=True):
        results.add(made(block, name, 0))
    assert [key.entry for key in Results(tmp_path / "deep" / "small.json").runs] == sorted(names)
    assert list(both[1].runs) == list(Results(tmp_path / "deep" / "small.json").runs)


class InThisProcess:
    """Stands for the pool of processes, whose children could not see what a test has replaced."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self.pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Any:
        return self.pool

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown()


WHOLE = {"block": "grid25", "entry": "ali", "seed": 0, "values": {"modes-2500": 1.0}, "settings": {}, "date": "2026"}


@pytest.mark.parametrize(
    "runs",
    [
        *([{key: value for key, value in WHOLE.items() if key != left_out}] for left_out in WHOLE),
        *([{**WHOLE, key: None}] for key in WHOLE),
        [{**WHOLE, "seed": "0"}],
        [{**WHOLE, "values": {"modes-2500": "many"}}],
        [{**WHOLE, "settings": {"hyperparameters": None}}],
        [WHOLE, "ali"],
        None,
    ],
)
def test_damaged_results_are_refused(runs: Any, tmp_path: Path) -> None:
    (tmp_path / "small.json").write_text(json.dumps({"format": 1, "runs": [WHOLE]}))
    assert len(Results(tmp_path / "small.json").runs) == 1
    (tmp_path / "small.json").write_text(json.dumps({"format": 1, "runs": runs}))
    with pytest.raises(ZooError, match="is damaged, or no results of a comparison"):
        Results(tmp_path / "small.json")


def test_results_of_another_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "later.json").write_text(json.dumps({"format": 99, "runs": [WHOLE]}))
    with pytest.raises(ZooError, match="has format 99, this version reads 1"):
        Results(tmp_path / "later.json")


@pytest.mark.usefixtures("fashion_mnist")
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_runs_of_two_seeds_see_other_batches(block: Block) -> None:
    first, same, other = (next(iter(block.datamodule(seed=seed).train_dataloader())).x for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_file_of_ones_own_is_named_by_what_makes_its_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "own.json"
    assert main(["compare", "modes", "--out", str(out)]) == 1
    assert f"{out} does not exist; with --train the runs are made" in capsys.readouterr().err
    out.write_text(json.dumps({"format": 1, "runs": [WHOLE]}))
    assert main(["compare", "modes", "--out", str(out)]) == 0
    assert f"python -m zoo compare modes --train --out {out} makes them" in capsys.readouterr().out
    assert main(["compare", "modes", "--out", str(tmp_path)]) == 1
    assert f"{tmp_path} cannot be read (Is a directory): name another file." in capsys.readouterr().err


@pytest.mark.parametrize("name", COMPARISONS)
def test_the_command_prints_the_results_that_come_with_the_zoo(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", name]) == 0
    printed = capsys.readouterr().out
    assert COMPARISONS[name].title in printed
    assert "real data" in printed
    assert results_file(name).is_file()


def test_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "gan"]) == 1
    assert "There is no comparison 'gan'. Did you mean gans?" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["compare", "gans", "--only", "wgan"])
    assert "--only has no effect without --train" in capsys.readouterr().err


def test_results_outlive_a_hyperparameter_that_was_added_and_is_left_out() -> None:
    recorded = {"method": "WGAN", "hyperparameters": {"lr": 0.1, "decay_steps": None}, "updates": 5}
    for added, same in (({}, True), ({"num_words": None}, True), ({"num_words": 3}, False), ({"lr": 0.2}, False)):
        present = {**recorded, "hyperparameters": {**recorded["hyperparameters"], **added}}  # type: ignore[dict-item]
        assert are_settings(recorded, present) is same
    assert not are_settings(recorded, {**recorded, "updates": 6})
    without = {**recorded, "hyperparameters": {"lr": 0.1}}
    assert not are_settings(recorded, without)
