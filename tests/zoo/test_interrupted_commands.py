"""Ctrl-C at any moment of a command ends it with 130 and one line; what interrupts says nothing that is not asked."""

import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from tests.zoo.running import RECIPE, ROOT
from tests.zoo.test_runs import QUICK, interrupt
from zoo.__main__ import main

INTERRUPTED = """
import signal
signal.raise_signal(signal.SIGINT)
"""
INTERRUPTED_EXTENSION = """
import signal
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    raise ImportError("initialization failed")  # as an extension module makes of it
"""


@pytest.mark.parametrize("text", [INTERRUPTED, INTERRUPTED_EXTENSION])
@pytest.mark.parametrize("module", ["argparse", "yaml", "torch"])
def test_an_interrupted_import_ends_with_130_and_one_line(module: str, text: str, tmp_path: Path) -> None:
    """The signal comes while a module is imported, one of the first or the largest."""
    Path("first").mkdir()
    Path("first", f"{module}.py").write_text(text)
    Path("tiny.yaml").write_text(RECIPE)
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "train", "tiny.yaml"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "first"), str(ROOT)])},
        capture_output=True,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),  # tests may run in the background
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "Interrupted.\n")


def test_interrupting_and_resuming_say_nothing_about_lightning(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    Path("tiny.yaml").write_text(QUICK)
    with monkeypatch.context() as patch:
        interrupt(patch, signal.SIGINT, at=1)
        assert main(["train", "tiny.yaml", "--trainer.limit_val_batches", "0"]) == 130
    assert main(["resume", "tiny"]) == 0
    said = capfd.readouterr().err
    assert "Interrupted. Saved" in said
    for line in ("weights_only", "Be aware"):
        assert line not in said


def test_a_fine_tuning_is_resumed_for_longer_without_a_warning(
    trained: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    Path("images").mkdir()
    for index in range(8):
        Image.new("RGB", (30, 30), (index * 30, 0, 90)).save(f"images/{index}.png")
    arguments = ["fine-tune", str(trained / "runs/tiny/zoo"), "--data", "images", "--batch-size", "2", "--out", "tuned"]
    assert main([*arguments, "--steps", "10"]) == 0
    shutil.rmtree("tuned")
    assert main([*arguments, "--steps", "20", "--resume"]) == 0
    assert "Be aware" not in capfd.readouterr().err
