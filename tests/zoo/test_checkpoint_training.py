"""Training of many checkpoints: their order, what is skipped or resumed, failures, and what is said."""

import json
import shutil
import threading
from pathlib import Path

import pytest

import zoo.checkpoint_training as training
from zoo.checkpoint_training import (
    FAILED,
    SKIPPED,
    TRAINED,
    CommandFailed,
    Maker,
    commands,
    is_done,
    main,
    progress,
    train_checkpoints,
)
from zoo.paths import checkpoints_dir
from zoo.recipe import dependencies
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
    assert said(name, new) == [f"zoo resume {name} {quiet}", *measuring]
    assert said(name, Path("other"))[0].startswith("zoo train"), "that run makes another checkpoint"
    Origin(name, name, ("--model.lr", "1"), "new").write(run)
    assert said(name, new)[0].startswith("zoo train"), "that run has other settings"

    copied(name, here / "new", SPEED)
    assert said(name, new) == measuring


def test_a_failed_command_is_reported_by_its_last_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "commands", lambda name, target: iter([["platform"], ["json.tool", "none.json"]]))
    with pytest.raises(CommandFailed, match=r"none\.json"):
        Maker(threads=1)("a", here / "a")
    log = (here / "runs/a.log").read_text()
    assert log.startswith("$ python -m platform\n")
    assert "$ python -m json.tool none.json\n" in log


def test_progress_is_the_part_of_the_batches_that_were_logged(here: Path) -> None:
    assert progress("sngan.fashion_mnist") == 0
    run = here / "runs/sngan.fashion_mnist"
    run.mkdir(parents=True)
    (run / "metrics.csv").write_text("step,train/generator\n")
    assert progress("sngan.fashion_mnist") == 0
    (run / "metrics.csv").write_text("step,train/generator\n49,0.5\n5999,0.3\n")
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
