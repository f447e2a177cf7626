"""The run read back: from the CSV file and from what W&B wrote offline."""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

from lightning_modules.callbacks import EMA
from lightning_modules.runtime import tracking
from lightning_modules.runtime.metrics_table import MetricsTable
from lightning_modules.runtime.tracking import Tracking, flatten, has_key
from tests.read_wandb import read
from tests.training import TinyData, build


def run(tracking: Tracking, steps: int = 6, ckpt_path: str | None = None) -> Trainer:
    seed_everything(0, verbose=False)
    module, shape = build("MinimaxGAN")
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=tracking,
        log_every_n_steps=2,
        callbacks=[EMA(), ModelCheckpoint(every_n_train_steps=3, save_top_k=0, save_last=True)],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, TinyData(shape), ckpt_path=ckpt_path)
    return trainer


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def offline_runs(folder: str = "runs/tiny") -> list[dict[str, Any]]:
    return [read(path) for path in sorted(Path(folder, "wandb").glob("offline-run-*"))]


@pytest.fixture
def without_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_an_offline_run_holds_config_curves_images_and_continues_under_its_id() -> None:
    first = Tracking("tiny", project="zoo-tests")
    first.log_hyperparams({"trainer": {"max_steps": 6}, "note": None})  # a recipe, before training
    trainer = run(first)
    assert trainer.log_dir == str(Path("runs/tiny"))
    assert Path("runs/tiny/checkpoints/last.ckpt").is_file()
    first.log_image("samples", [Image.new("L", (8, 8), 200)], step=6, caption=["grey"])
    first.close()

    (written,) = offline_runs()
    assert (written["project"], written["name"]) == ("zoo-tests", "tiny")
    config = {"trainer.max_steps": 6, "note": None, "latent_dim": 64, "shape": [2], "betas": [0.5, 0.999]}
    assert config.items() <= written["config"].items()
    train = "train/discriminator"
    curve = {row["trainer/global_step"]: row[train] for row in written["history"] if train in row}
    assert list(curve) == [1, 3, 5]
    (row,) = (row for row in written["history"] if "samples.filenames" in row)
    (file,) = (written["files"] / name for name in row["samples.filenames"])
    assert Image.open(file).getpixel((3, 3)) == 200
    assert row["samples.captions"] == ["grey"]
    assert row["trainer/global_step"] == 6

    second = Tracking("tiny", project="zoo-tests")
    run(second, steps=10, ckpt_path="runs/tiny/checkpoints/last.ckpt")
    second.close()
    assert second.run_id == first.run_id == written["id"]
    before, after = offline_runs()
    assert before["id"] == after["id"]
    steps = [int(row["step"]) for row in rows("runs/tiny/metrics.csv") if row["train/discriminator"]]
    assert steps == [1, 3, 5, 7, 9]
    assert [row["trainer/global_step"] for row in after["history"] if "train/discriminator" in row] == [7, 9]


def test_the_table_and_w_and_b_agree() -> None:
    logger = Tracking("tiny")
    run(logger)
    logger.close()
    (written,) = offline_runs()
    for ours, theirs in zip(rows("runs/tiny/metrics.csv"), written["history"], strict=True):
        assert int(ours["step"]) == theirs["trainer/global_step"]
        values = {name: float(value) for name, value in ours.items() if value and name != "step"}
        assert values == pytest.approx({name: theirs[name] for name in values})
    assert any("val/discriminator_loss" in row for row in written["history"])
    assert json.loads(Path("runs/tiny/hyperparameters.json").read_text())["latent_dim"] == 64


def test_disabled_writes_the_same_folder_without_w_and_b(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE")
    run(Tracking("tiny", mode="disabled"))
    assert not Path("runs/tiny/wandb").exists()
    assert [row["step"] for row in rows("runs/tiny/metrics.csv") if row["train/generator"]] == ["1", "3", "5"]
    assert torch.load("runs/tiny/checkpoints/last.ckpt", weights_only=True)["run_id"] is None

    run(Tracking("tiny", mode="disabled"))
    assert len(rows("runs/tiny/metrics.csv")) == len(rows("runs/tiny/earlier-1/metrics.csv"))
    run(Tracking("tiny", mode="disabled"), steps=8, ckpt_path="runs/tiny/checkpoints/last.ckpt")
    assert [row["step"] for row in rows("runs/tiny/metrics.csv") if row["train/generator"]] == ["1", "3", "5", "7"]


def test_without_wandb_the_run_is_kept_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb", None)  # what an import of a missing package meets
    run(Tracking("tiny"))
    assert len(rows("runs/tiny/metrics.csv")) >= 3
    assert sum("wandb" in message and "runs/tiny" in message for message in caplog.messages) == 1


@pytest.mark.usefixtures("without_key")
def test_without_a_key_it_is_offline_at_once_and_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def ask(*_: object) -> str:
        raise AssertionError("asked for something")

    monkeypatch.setattr("builtins.input", ask)
    logger = Tracking("tiny")
    logger.log_metrics({"a": 1.0}, step=0)
    logger.close()
    (line,) = [message for message in caplog.messages if "W&B" in message]
    (folder,) = Path("runs/tiny/wandb").glob("offline-run-*")
    assert "wandb login" in line
    assert f"wandb sync {folder.resolve()}" in line
    assert "wandb:" not in "".join(capfd.readouterr())
    assert [row["a"] for row in offline_runs()[0]["history"]] == [1.0]


@pytest.mark.usefixtures("without_key")
def test_without_a_network_it_goes_offline_within_the_limit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(tracking, "INIT_TIMEOUT_SECONDS", 2)
    start, limits = wandb.init, []

    def init(**settings: Any) -> Any:
        limits.append((settings["mode"], settings["settings"].init_timeout))
        return start(**settings)

    monkeypatch.setattr(wandb, "init", init)
    logger = Tracking("tiny")
    logger.log_metrics({"a": 1.0}, step=0)
    logger.close()
    assert limits == [("online", 2), ("offline", 2)]
    (line,) = [message for message in caplog.messages if "W&B" in message]
    (folder,) = Path("runs/tiny/wandb").glob("offline-run-*")
    assert f"wandb sync {folder.resolve()}" in line
    assert "wandb login" not in line  # there is a key
    assert [row["a"] for row in offline_runs()[0]["history"]] == [1.0]


@pytest.mark.usefixtures("without_key")
def test_keys_are_found_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_key()
    Path("netrc").write_text("machine api.wandb.ai\n  login user\n  password secret\n")
    monkeypatch.setenv("NETRC", "netrc")
    assert has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not has_key()
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert has_key()


def test_checkpoints_become_artifacts_on_request_only() -> None:
    for name, log_checkpoint in (("without", False), ("tiny", True)):
        logger = Tracking(name, log_checkpoint=log_checkpoint)
        run(logger, steps=3)
        logger.close()
    assert offline_runs("runs/without")[0]["artifacts"] == []
    assert offline_runs()[0]["artifacts"] == [f"model-{offline_runs()[0]['id']}"]


def test_runs_that_follow_one_another_are_separate() -> None:
    """Also where they take turns. (W&B names folders by the second, hence the wait for the next.)"""
    first, second = Tracking("first"), Tracking("second")
    first.log_metrics({"a": 1.0}, step=0)
    second.log_metrics({"b": 2.0}, step=0)
    started = int(time.time())
    while int(time.time()) == started:
        time.sleep(0.01)
    first.log_metrics({"a": 3.0}, step=1)
    first.close()
    assert first.run_id != second.run_id
    assert [run["id"] for run in offline_runs("runs/first")] == [first.run_id] * 2
    assert [row["b"] for row in offline_runs("runs/second")[0]["history"]] == [2.0]
    assert [row["a"] for row in rows("runs/first/metrics.csv")] == ["1.0", "3.0"]


def test_nothing_is_opened_by_importing_or_building() -> None:
    program = "import sys, lightning_modules.runtime.tracking as t; t.Tracking('x'); assert 'wandb' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
    assert not Path("runs").exists()


def test_columns_join_as_they_come() -> None:
    table = MetricsTable(Path("m.csv"))
    table.append({"step": 0, "a": 1})
    table.append({"step": 1, "b": "x,y"})
    MetricsTable(Path("m.csv")).append({"step": 2, "c": 3})
    assert [list(row.values()) for row in rows("m.csv")] == [
        ["0", "1", "", ""],
        ["1", "", "x,y", ""],
        ["2", "", "", "3"],
    ]


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="mode='on'"):
        Tracking("x", mode="on")  # type: ignore[arg-type]
    for name in ("", "a/b", ".."):
        with pytest.raises(ValueError, match=f"name={name!r}"):
            Tracking(name)
    assert flatten({"a": {"b": 1, "c": {}}, "_class_path": "x"}) == {"a.b": 1}
