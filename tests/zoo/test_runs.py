"""Runs of the command line: their folders, second runs, interruptions, and how they go on."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

import zoo
from lightning_modules import WGANGP
from tests.zoo.running import RECIPE, ROOT, fails, interrupted
from zoo.__main__ import main
from zoo.paths import recipe_names
from zoo.recipe import read_recipe

LAST = "checkpoints/last.ckpt"
QUICK = RECIPE.replace('save_top_k: -1, filename: "{step}"', "save_top_k: 0, save_last: true")
FAST = ["--trainer.limit_val_batches", "0"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.yaml").write_text(QUICK)
    monkeypatch.setenv("WANDB_MODE", "disabled")


def train(*arguments: str, code: int = 0) -> None:
    assert main(["train", *arguments, *FAST]) == code


def batches(run: str) -> int:
    return int(torch.load(Path(run, LAST), weights_only=True)["global_step"])


def names(folder: str | Path) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def steps(run: str) -> list[int]:
    with Path(run, "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


# Folders


def test_a_copied_recipe_has_a_folder_of_its_own() -> None:
    """Although the name of its logger is still that of the recipe it was copied from."""
    shutil.copy("tiny.yaml", "my.yaml")
    train("my.yaml")
    assert names("runs") == {"my"}
    assert names("runs/my") >= {"checkpoints", "metrics.csv", "config.yaml", "hyperparameters.json", "run.json", "zoo"}


@pytest.mark.parametrize("root", ["elsewhere", "deep/er/x", "./dotted/", "."])
def test_the_root_moves_everything(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if root == ".":
        Path("inside").mkdir()
        shutil.copy("tiny.yaml", "inside")
        monkeypatch.chdir("inside")
    train("tiny.yaml", "--trainer.default_root_dir", root)
    assert not Path("runs").exists()
    assert names(root) >= {"checkpoints", "metrics.csv", "config.yaml", "hyperparameters.json", "run.json", "zoo"}


def test_w_and_b_moves_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    train("tiny.yaml", "--trainer.default_root_dir", "elsewhere/x")
    assert [*Path("elsewhere/x/wandb").glob("offline-run-*")]
    assert names(".") == {"tiny.yaml", "elsewhere"}


def test_a_name_on_the_command_line_moves_everything_too() -> None:
    train("tiny.yaml", "--trainer.logger.init_args.name", "chosen")
    assert names("runs") == {"chosen"}
    assert names("runs/chosen") >= {"checkpoints", "metrics.csv", "zoo"}


@pytest.mark.parametrize("logger", [[], ["--trainer.logger", "false"]])
def test_a_second_training_keeps_the_first(logger: list[str], caplog: pytest.LogCaptureFixture) -> None:
    train("tiny.yaml", *logger)
    first = zoo.card("runs/tiny/zoo").sha256
    before = names("runs/tiny")
    train("tiny.yaml", "--trainer.max_steps", "2", *logger)
    assert any("runs/tiny/earlier-1" in message for message in caplog.messages)
    assert zoo.card("runs/tiny/earlier-1/zoo").sha256 == first
    assert names("runs/tiny/earlier-1") == before
    assert zoo.card("runs/tiny/zoo").batches == batches("runs/tiny") == 2
    assert names("runs/tiny/checkpoints") == {"last.ckpt"}


def test_a_replaced_checkpoint_is_announced(capfd: pytest.CaptureFixture[str]) -> None:
    train("tiny.yaml", "--save-to", "mine")
    assert "mine will be replaced" not in capfd.readouterr().err
    train("tiny.yaml", "--save-to", "mine")
    assert "mine will be replaced" in capfd.readouterr().err


# Resuming


@pytest.mark.parametrize("by_name", [True, False])
def test_the_readmes_line_and_resume_continue_the_newest_run_exactly(by_name: bool) -> None:
    chosen = ["--model.lr", "1e-3", "--trainer.max_steps", "6"]
    train("tiny.yaml", *chosen, "--trainer.default_root_dir", "whole")
    train("tiny.yaml", "--trainer.max_steps", "8")
    train("tiny.yaml", *chosen, "--trainer.max_steps", "4")
    shutil.rmtree("runs/tiny/zoo")
    if by_name:
        assert main(["resume", "tiny", "--trainer.max_steps", "6"]) == 0
    else:
        train("tiny.yaml", *chosen, "--ckpt_path", f"runs/tiny/{LAST}")
    card, whole = zoo.card("runs/tiny/zoo"), zoo.card("whole/zoo")
    assert (card.sha256, card.name, card.batches) == (whole.sha256, "tiny", 6)
    assert steps("runs/tiny") == steps("whole")
    assert not [*Path("runs").rglob("last-v*")]
    assert not Path("runs/tiny/earlier-2").exists()


def test_the_card_of_a_resumed_run_says_how_the_recipe_was_overridden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo.cli, "recipes_dir", lambda: tmp_path)
    zoo.cli.train(tmp_path / "tiny.yaml", ["--model.width=3", *FAST], Path("chosen"))
    zoo.cli.resume("tiny", ["--trainer.max_steps", "6"])
    card = zoo.card("chosen")
    assert card.recipe == "tiny"
    assert card.overrides == ("--model.width=3", *FAST, "--trainer.max_steps", "6")
    assert not Path("runs/tiny/zoo").exists()


def test_a_run_that_was_moved_is_resumed_where_it_is() -> None:
    train("tiny.yaml")
    shutil.move("runs/tiny", "moved")
    assert main(["resume", "moved", "--trainer.max_steps", "6"]) == 0
    assert batches("moved") == zoo.card("moved/zoo").batches == 6
    assert not Path("runs/tiny").exists()


def test_a_damaged_checkpoint_is_passed_over(capfd: pytest.CaptureFixture[str]) -> None:
    Path("tiny.yaml").write_text(RECIPE)
    train("tiny.yaml")
    newest = Path("runs/tiny/checkpoints/step=4.ckpt")
    newest.write_bytes(newest.read_bytes()[:-1000] + bytes(1000))
    os.utime(newest)
    assert main(["resume", "tiny", "--trainer.max_steps", "5"]) == 0
    output = capfd.readouterr().out
    assert "step=4.ckpt is damaged" in output
    assert "from runs/tiny/checkpoints/step=2.ckpt" in output


def test_what_cannot_be_resumed_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'tiny'" in fails(["resume", "tiny"], capsys)
    train("tiny.yaml")
    capsys.readouterr()
    assert main(["resume", "tiny"]) == 1
    error = capsys.readouterr().err
    assert "runs/tiny had finished" in error
    assert "--trainer.max_steps" in error
    assert "Did you mean tiny" in fails(["resume", "tinny"], capsys)
    Path("runs/tiny", LAST).unlink()
    assert "runs/tiny/checkpoints" in fails(["resume", "tiny"], capsys)
    Path("runs/tiny/run.json").write_text("{")
    assert "runs/tiny/run.json" in fails(["resume", "tiny"], capsys)


def test_a_checkpoint_that_is_not_there_is_said_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    train("tiny.yaml")
    capsys.readouterr()
    error = fails(["train", "tiny.yaml", "--ckpt_path", "runs/tiny/last.ckpt"], capsys)
    assert "runs/tiny/last.ckpt" in error
    assert f"runs/tiny/{LAST}" in error


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_writes_the_file_that_it_is_resumed_from(recipe: str) -> None:
    saving = [callback.get("init_args", {}) for callback in read_recipe(recipe)["trainer"]["callbacks"]]
    assert any(settings.get("save_last") is True for settings in saving)


# Interruptions


def interrupt(monkeypatch: pytest.MonkeyPatch, signum: int, at: int, times: int = 1) -> None:
    """Sends a signal to this process in the training step after so many batches, as a user does at some moment."""
    original = WGANGP.training_step

    def training_step(self: WGANGP, *batch: Any) -> Any:
        if self.trainer.global_step == at:
            for _ in range(times):
                signal.raise_signal(signum)
        return original(self, *batch)

    monkeypatch.setattr(WGANGP, "training_step", training_step)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_go_on(
    signum: int, code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    train("tiny.yaml", "--trainer.default_root_dir", "whole")
    with monkeypatch.context() as patch:
        interrupt(patch, signum, at=2)
        train("tiny.yaml", code=code)
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("Interrupted")]
    assert f"runs/tiny/{LAST}" in line
    assert line.endswith("python -m zoo resume tiny")
    assert batches("runs/tiny") == 3
    assert not Path("runs/tiny/zoo").exists()
    assert main(line.partition("python -m zoo ")[2].split()) == 0
    assert zoo.card("runs/tiny/zoo").sha256 == zoo.card("whole/zoo").sha256


def test_a_second_signal_saves_nothing(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    interrupt(monkeypatch, signal.SIGINT, at=1, times=2)
    train("tiny.yaml", code=130)
    assert "Interrupted. Nothing was saved." in capfd.readouterr().err
    assert not Path("runs/tiny", LAST).exists()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_fine_tuning_is_resumed(
    signum: int, code: int, trained: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("images").mkdir()
    for index in range(8):
        Image.new("RGB", (30, 30), (index * 30, 0, 90)).save(f"images/{index}.png")
    arguments = ["fine-tune", str(trained / "runs/tiny/zoo"), "--data", "images", "--steps", "6", "--batch-size", "2"]
    assert main([*arguments, "--out", "whole"]) == 0
    arguments += ["--out", "tuned"]
    with monkeypatch.context() as patch:
        interrupt(patch, signum, at=3)
        assert main(arguments) == code
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("Interrupted")]
    assert "tuned-run/checkpoints/last.ckpt" in line
    command = line.partition("python -m zoo ")[2].split()
    assert command == [*arguments, "--resume"]
    assert not Path("tuned").exists()
    assert main(command) == 0
    assert zoo.card("tuned").sha256 == zoo.card("whole").sha256


def test_fine_tuning_is_not_resumed_on_other_images(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, green in (("images", 0), ("others", 200)):
        Path(folder).mkdir()
        for index in range(8):
            Image.new("RGB", (30, 30), (index * 30, green, 90)).save(f"{folder}/{index}.png")
    arguments = ["fine-tune", str(trained / "runs/tiny/zoo"), "--batch-size", "2", "--out", "tuned"]
    assert main([*arguments, "--data", "images", "--steps", "2"]) == 0
    again = [*arguments, "--steps", "4", "--resume"]
    others, seed = "data in others are not those that this run was trained on", "with another value of seed:"
    for other, said in ((["--data", "others"], others), (["--data", "images", "--seed", "1"], seed)):
        assert main([*again, *other]) == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert said in line
    assert main([*again, "--data", "images"]) == 0
    assert zoo.card("tuned").batches == 4


def test_fine_tuning_holds_out_less_than_all_images(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("images").mkdir()
    Image.new("RGB", (30, 30)).save("images/0.png")
    assert "0.9" in fails(
        ["fine-tune", str(trained / "runs/tiny/zoo"), "--data", "images", "--hold-out", "0.9", "--out", "tuned"], capsys
    )


def test_fine_tuning_without_a_run_cannot_be_resumed(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fine-tune", str(trained / "runs/tiny/zoo"), "--data", "images", "--out", "tuned", "--resume"]
    assert "tuned-run" in fails(arguments, capsys)


def signalled(signum: int, *arguments: str, all_processes: bool = False) -> tuple[int, str]:
    """Sends a signal to a training once it has a checkpoint; returns its exit code and what it says."""
    process = subprocess.Popen(
        [sys.executable, "-m", "zoo", "train", "tiny.yaml", "--trainer.max_steps", "1000000", *FAST, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        while not Path("runs/tiny", LAST).is_file():
            assert process.poll() is None, "it ended by itself"
            time.sleep(0.05)
        (os.killpg if all_processes else os.kill)(process.pid, signum)
        _, error = process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert "Traceback" not in error
    return process.returncode, error


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "all_processes"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_two_processes_save_and_say_how_to_go_on(signum: int, all_processes: bool) -> None:
    """As a terminal sends Ctrl-C to all of them, and as ``kill`` sends a signal to the first."""
    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    code, error = signalled(signum, *two, all_processes=all_processes)
    assert code == 128 + signum, error
    (line,) = [line for line in error.splitlines() if line.startswith("Interrupted")]
    assert f"{LAST} after {batches('runs/tiny'):,} batches." in line
    assert line.endswith("python -m zoo resume tiny")


def test_a_process_that_is_sent_ctrl_c_ends_with_130(tmp_path: Path) -> None:
    """It waits for what happens: the first checkpoint, the end of the process."""
    words = ["train", "tiny.yaml", "--trainer.max_steps", "1000000", *FAST]
    code, error = interrupted(words, tmp_path, once=Path("runs/tiny", LAST))
    assert code == 130, error
    assert any(line.startswith("Interrupted") for line in error.splitlines())
    assert not (tmp_path / "runs/tiny/zoo").exists()
    config = yaml.safe_load(Path("runs/tiny/config.yaml").read_text())
    assert config["trainer"]["max_steps"] == 1_000_000
    assert json.loads(Path("runs/tiny/run.json").read_text())["name"] == "tiny"


def test_a_fast_dev_run_writes_and_moves_nothing() -> None:
    train("tiny.yaml")
    before = names("runs/tiny")
    for logger in ([], ["--trainer.logger", "false"]):
        train("tiny.yaml", "--trainer.fast_dev_run", "true", *logger)
        assert names("runs/tiny") == before
    assert names("runs/tiny/checkpoints") == {"last.ckpt"}


@pytest.mark.parametrize("entry", ["precision", "loops", "hyper_parameters", "changes", "run_id"])
def test_a_checkpoint_with_other_entries_is_refused_in_one_line(
    entry: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "runs/tiny", "runs/tiny")
    content = torch.load(trained / "runs/tiny/checkpoints/step=2.ckpt", weights_only=True)
    for path in Path("runs/tiny/checkpoints").iterdir():
        path.unlink()
    torch.save({**content, entry: [{}]}, "runs/tiny/checkpoints/last.ckpt")
    for command in (["train", "tiny.yaml", "--ckpt_path", "runs/tiny/checkpoints/last.ckpt"], ["resume", "tiny"]):
        line = fails([*command, "--trainer.max_steps", "6"], capsys)
        assert f"last.ckpt was not written by Lightning, or was changed: its entry '{entry}' must be" in line
