"""`make demo`, cut short: everything that it promises is there at the end."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.usefixtures("fashion_mnist")
def test_demo_leaves_what_it_promises(tmp_path: Path) -> None:
    short = [
        "--model.width=4",
        "--trainer.max_steps=4",
        "--trainer.val_check_interval=2",
        "--trainer.limit_val_batches=1",
    ]
    environment = {name: value for name, value in os.environ.items() if name not in ("WANDB_MODE", "WANDB_API_KEY")}
    # A key in the home folder would make it an online run; the cache of data stays where it is.
    environment |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}
    environment.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    command = [sys.executable, "-m", "zoo.demo", *short, "--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr

    run = tmp_path / "runs/demo"
    assert sorted(path.name for path in (run / "samples").iterdir()) == ["step-00000002.png", "step-00000004.png"]
    assert (run / "loaded-back.png").stat().st_size > 500
    assert (run / "zoo/model.safetensors").is_file()
    header = (run / "metrics.csv").read_text().splitlines()[0]
    assert "val/fid-fashion_mnist-2k" in header
    assert "val/inception_score-fashion_mnist-2k" in header
    assert list((run / "wandb").glob("offline-run-*/*.wandb"))

    assert ran.stdout.count("fid-fashion_mnist-2k") >= 3, "two lines during the training, and the card at the end"
    assert len(re.findall(r"W&B.*\boffline\b", ran.stdout + ran.stderr)) == 1
    for promised in ("runs/demo/samples/", "runs/demo/zoo/", "runs/demo/loaded-back.png", "zoo train sngan"):
        assert promised in ran.stdout
