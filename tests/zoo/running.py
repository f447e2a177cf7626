"""A recipe that trains in a second, and the command run as a user would run it."""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.processes import output_of, redirected, result_of, started
from zoo.__main__ import main

ROOT = Path(__file__).parents[2]
RECIPE = """
model:
  class_path: lightning_modules.WGANGP
  init_args: {shape: [1, 28, 28], width: 2, latent_dim: 4}
data:
  class_path: datamodules.SyntheticImages
  init_args: {batch_size: 16, size: 64, val_size: 16, test_size: 64}
trainer:
  accelerator: cpu
  max_steps: 4
  logger:
    class_path: lightning_modules.runtime.tracking.Tracking
    init_args: {name: tiny}
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: lightning_modules.callbacks.EMA
      init_args: {half_life_images: 100}
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {every_n_train_steps: 2, save_top_k: -1, filename: "{step}"}
"""


class Done(NamedTuple):
    """What a command has written."""

    stdout: str
    stderr: str


def run(folder: Path, *arguments: str, code: int = 0) -> Done:
    """Runs a command of the zoo in a process of its own; no command ends in a traceback."""
    returned, stdout, stderr = output_of(main, list(arguments), folder=str(folder))
    assert returned == code, stdout + stderr
    assert "Traceback" not in stderr
    return Done(stdout, stderr)


def interrupted(arguments: list[str], folder: Path, once: Path) -> tuple[int, str]:
    """Runs a command in a process of its own, sends it Ctrl-C once a file is there; returns exit code and errors."""
    with tempfile.TemporaryDirectory() as place:
        process, receive = started(redirected, main, (arguments,), str(folder), place, environment=dict(os.environ))
        try:
            while not once.is_file():
                assert process.is_alive(), "it ended by itself"
                time.sleep(0.05)
            os.kill(process.pid, signal.SIGINT)
            code, error = result_of(process, receive), Path(place, "err").read_text(encoding="utf-8")
        finally:
            process.kill()
            process.join()
    assert "Traceback" not in error
    return code, error


def into_closed_pipe(arguments: list[str]) -> int:
    """Runs a command in this process, whose output goes to a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    os.dup2(write, 1)
    with os.fdopen(1, "w", encoding="utf-8", closefd=False) as sys.stdout:
        return main(arguments)


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Runs a command in this process and returns the one line that says why it failed."""
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error
