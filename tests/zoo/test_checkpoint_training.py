"""Training of many checkpoints: their order, what is skipped or resumed, failures, and what is said."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

import zoo.checkpoint_training as training
from zoo.checkpoint_commands import commands, is_done
from zoo.checkpoint_training import (
    FAILED,
    SKIPPED,
    TRAINED,
    CommandFailed,
    Maker,
    main,
    progress,
    train_checkpoints,
)
from zoo.errors import ZooError
from zoo.paths import checkpoints_dir, recipe_path
from zoo.recipe import dependencies, read_recipe
from zoo.runs import Origin

NAMES = ["classifier.fashion_mnist", "gaussian_mixture.fashion_mnist", "nce.fashion_mnist", "wgan_gp.ring8"]
SPEED = "test/seconds_per_sample-cpu-64"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def copied(name: str, folder: Path, *without: str) -> Path:
    """Copies the card of a checkpoint, without some of its metrics."""
    folder.mkdir(parents=True)
    config = json.loads((checkpoints_dir() / name / "config.json").read_text())
    config["metrics"] = {key: value for key, value in config["metrics"].items() if key not in without}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("jobs", [1, 3])
def test_recipes_are_made_after_those_that_they_need(jobs: int, capsys: pytest.CaptureFixture[str]) -> None:
    made: list[str] = []

    def make(name: str, target: Path) -> None:
        assert dependencies(name) & set(NAMES) <= set(made)
        assert target == Path("checkpoints", name)
        made.append(name)

    reports = train_checkpoints(NAMES, Path("checkpoints"), jobs, make)
    assert sorted(made) == sorted(report.name for report in reports) == sorted(NAMES)
    assert {report.state for report in reports} == {TRAINED}
    assert capsys.readouterr().out.count("trained in 0 minutes") == len(NAMES)


def test_two_are_made_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=20)

    def make(name: str, target: Path) -> None:
        both.wait()

    reports = train_checkpoints(["wgan_gp.ring8", "wgan_gp.grid25"], Path("x"), 2, make)
    assert {report.state for report in reports} == {TRAINED}


def test_what_fails_takes_along_only_what_needs_it(capsys: pytest.CaptureFixture[str]) -> None:
    def make(name: str, target: Path) -> None:
        if name.startswith("gaussian_mixture"):
            raise CommandFailed("error: the loss is not finite.")

    reports = {report.name: report for report in train_checkpoints(NAMES, Path("x"), 2, make)}
    states = {name: report.state for name, report in reports.items()}
    assert states == {NAMES[0]: TRAINED, NAMES[1]: FAILED, NAMES[2]: FAILED, NAMES[3]: TRAINED}
    said = capsys.readouterr().out
    assert f"{NAMES[1]} failed: error: the loss is not finite. (the whole output: runs/{NAMES[1]}.log)" in said
    assert f"{NAMES[2]} failed: it needs {NAMES[1]}" in said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ZooError("run.json is damaged"), "run.json is damaged"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ValueError("nobody thought of this"), "ValueError: nobody thought of this"),
    ],
)
def test_other_recipes_go_on_whatever_fails(error: Exception, said: str) -> None:
    def make(name: str, target: Path) -> None:
        if name == "wgan_gp.ring8":
            raise error

    reports = train_checkpoints(["wgan_gp.ring8", "wgan_gp.grid25"], Path("x"), 1, make)
    assert {report.name: (report.state, report.said) for report in reports} == {
        "wgan_gp.ring8": (FAILED, said),
        "wgan_gp.grid25": (TRAINED, ""),
    }


def test_only_what_is_measured_to_the_end_is_skipped(here: Path) -> None:
    assert not is_done(here / "sngan.fashion_mnist")
    assert is_done(copied("sngan.fashion_mnist", here / "whole"))
    assert not is_done(copied("sngan.fashion_mnist", here / "part", SPEED))
    assert is_done(copied("classifier.fashion_mnist", here / "classifier.fashion_mnist"))
    copied("wgan_gp.ring8", here / "checkpoints/wgan_gp.ring8")
    reports = train_checkpoints(["wgan_gp.ring8"], Path("checkpoints"), 1, lambda name, target: pytest.fail("trained"))
    assert [report.state for report in reports] == [SKIPPED]


def test_the_commands_are_those_that_are_left(here: Path) -> None:
    def said(name: str, target: Path) -> list[str]:
        return [" ".join(words) for words in commands(name, target)]

    new, name = Path("new"), "sngan.fashion_mnist"
    quiet = "--trainer.enable_progress_bar false"
    measuring = ["zoo evaluate new --num-samples 1000 --write", "zoo evaluate new --speed --write"]
    assert said(name, new) == [f"zoo train {name} --save-to new {quiet}", *measuring]
    assert said("wgan_gp.ring8", new)[1:] == measuring[1:]
    assert said("classifier.fashion_mnist", new)[1:] == ["zoo.ship_statistics new", measuring[1]]

    run = here / "runs" / name
    (run / "checkpoints").mkdir(parents=True)
    Origin(name, name, save_to="new").write(run)
    assert said(name, new)[0].startswith("zoo train"), "it was stopped before its first checkpoint"
    (run / "checkpoints" / "last.ckpt").touch()
    recipe = recipe_path(name).read_text()
    (run / "config.yaml").write_text(recipe.replace("seed_everything: 0", "seed_everything: 1"))
    assert said(name, new)[0].startswith("zoo train"), "the recipe was changed since"
    (run / "config.yaml").write_text(recipe)
    assert said(name, new) == [f"zoo resume {name} {quiet}", *measuring]
    assert said(name, Path("other"))[0].startswith("zoo train"), "that run makes another checkpoint"
    Origin(name, name, ("--model.lr", "1"), "new").write(run)
    assert said(name, new)[0].startswith("zoo train"), "that run has other settings"

    copied(name, here / "new", SPEED)
    assert said(name, new) == measuring
    assert f"zoo evaluate ./{name} --speed --write" in said(name, Path(name)), "not the zoo's own checkpoint"


def test_a_folder_is_not_taken_for_a_checkpoint_of_the_zoo() -> None:
    reports = train_checkpoints(["wgan_gp.ring8"], Path(), 1, lambda name, target: None)
    assert [report.state for report in reports] == [TRAINED]


def test_a_signal_is_passed_on_once_and_no_further_command_starts(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a command in a session of its own, which Ctrl-C in a terminal does not reach beside."""
    waits = ["timeit", "-n1", "-r1", "open('started', 'w').close(); import time; time.sleep(60)"]
    monkeypatch.setattr(training, "commands", lambda name, target, seeds: iter([waits, ["platform"]]))
    maker = Maker(threads=1)
    said: list[str] = []

    def make() -> None:
        for _ in range(2):
            with pytest.raises(CommandFailed) as error:
                maker("a", here / "a")
            said.append(str(error.value))

    thread = threading.Thread(target=make)
    thread.start()
    while not Path("started").exists() and thread.is_alive():
        time.sleep(0.01)
    (process,) = maker._running
    assert os.getsid(process.pid) == process.pid
    maker.stop(signal.SIGTERM)
    thread.join()
    assert process.returncode == -signal.SIGTERM
    assert said[1] == "it was interrupted"
    assert "platform" not in Path("runs/a.log").read_text()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_waits_for_the_commands(
    signum: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[str] = []

    def make(maker: Maker, name: str, target: Path) -> None:
        if maker.is_stopped:  # the pool may have taken the next one before it was told
            raise CommandFailed("it was interrupted")
        os.kill(os.getpid(), signum)
        while not maker.is_stopped:
            time.sleep(0.01)
        ended.append(name)
        raise CommandFailed("Interrupted.")

    monkeypatch.setattr(Maker, "__call__", make)
    monkeypatch.setattr(training, "POLL", 0.05)
    former = signal.getsignal(signum)
    assert main(["wgan_gp.ring8", "wgan_gp.grid25"]) == 128 + signum
    assert len(ended) == 1
    assert signal.getsignal(signum) is former
    assert "The same command goes on from here" in capsys.readouterr().err


def test_a_file_of_ones_own_is_no_recipe_of_the_zoo(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "my.yaml").touch()
    with pytest.raises(SystemExit) as stopped:
        main(["wgan_gp.ring8", "my.yaml"])
    assert stopped.value.code == 2
    assert "my.yaml is a file" in capsys.readouterr().err


def test_a_failed_command_is_reported_by_its_last_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        training, "commands", lambda name, target, seeds: iter([["platform"], ["json.tool", "none.json"]])
    )
    with pytest.raises(CommandFailed, match=r"none\.json"):
        Maker(threads=1)("a", here / "a")
    log = (here / "runs/a.log").read_text()
    assert log.startswith("$ python -m platform\n")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert Maker(threads=2).environment["OMP_NUM_THREADS"] == "3"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert Maker(threads=2).environment["OMP_NUM_THREADS"] == "2"
    assert "$ python -m json.tool none.json\n" in log


def test_what_a_failed_command_printed_need_not_be_utf_8(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "latin.py").write_text("import sys; sys.stdout.buffer.write(b'no folder /caf\\xe9'); sys.exit(1)")
    monkeypatch.setattr(training, "commands", lambda name, target, seeds: iter([["latin"]]))
    with pytest.raises(CommandFailed, match="no folder /caf\N{REPLACEMENT CHARACTER}"):
        Maker(threads=1)("a", here / "a")


def test_progress_is_the_part_of_the_batches_that_were_logged(here: Path) -> None:
    half = read_recipe("sngan.fashion_mnist")["trainer"]["max_steps"] // 2
    assert progress("sngan.fashion_mnist") == 0
    run = here / "runs/sngan.fashion_mnist"
    run.mkdir(parents=True)
    (run / "metrics.csv").write_text("step,train/generator\n")
    assert progress("sngan.fashion_mnist") == 0
    (run / "metrics.csv").write_text(f"step,train/generator\n49,0.5\n{half - 1},0.3\n")
    assert progress("sngan.fashion_mnist") == pytest.approx(0.5, abs=1e-3)


def test_the_summary_and_the_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def make(maker: Maker, name: str, target: Path) -> None:
        if "ring8" in name:
            raise CommandFailed("error: no")
        shutil.copytree(checkpoints_dir() / name, target)

    monkeypatch.setattr(Maker, "__call__", make)
    assert main(["wgan_gp.ring8", "classifier.fashion_mnist", "--jobs", "2"]) == 1
    *_, first, second = capsys.readouterr().out.splitlines()
    assert first.split()[:3] == ["classifier.fashion_mnist", "trained", "0"]
    assert "accuracy 0.9" in first
    assert second.split()[:2] == ["wgan_gp.ring8", "failed"]
    assert main(["classifier.fashion_mnist"]) == 0
    assert "was there" in capsys.readouterr().out
    for words, pattern in ((["vea.fashion_mnist"], "vae.fashion_mnist"), (["--jobs", "0"], "--jobs 0")):
        with pytest.raises(SystemExit):
            main(words)
        assert pattern in capsys.readouterr().err
