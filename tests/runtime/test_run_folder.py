"""Several runs in one folder, and runs that were killed: what is at the plain names, and what the tables say."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_modules import METHODS
from lightning_modules.callbacks import SampleGrid
from lightning_modules.runtime.metrics_table import MetricsTable
from lightning_modules.runtime.run_folder import newest_checkpoints, set_aside
from lightning_modules.runtime.tracking import Tracking
from tests.training import TinyData, build

LAST = "checkpoints/last.ckpt"


def trainer_of(steps: int, logger: Any, **settings: Any) -> Trainer:
    return Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=logger,
        log_every_n_steps=1,
        val_check_interval=2,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


def fit(
    steps: int, logger: Any = None, ckpt_path: str | None = None, every: int = 2, dirpath: str | None = None
) -> LightningModule:
    """Trains into ``runs/tiny``, without W&B; it logs at every batch."""
    seed_everything(0, verbose=False)
    module, shape = build("MinimaxGAN")
    logger = Tracking("tiny", mode="disabled") if logger is None else logger
    saving = ModelCheckpoint(dirpath, every_n_train_steps=every, save_top_k=-1, filename="{step}", save_last=True)
    trainer = trainer_of(steps, logger, callbacks=[saving, SampleGrid(num_samples=4)])
    trainer.fit(module, TinyData(shape), ckpt_path=ckpt_path)
    return module


pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")


@pytest.fixture(autouse=True)
def without_w_and_b(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")


def steps_of(folder: str = "runs/tiny", column: str = "train/discriminator") -> list[int]:
    with Path(folder, "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row[column]]


def batches(file: str | Path) -> int:
    return int(torch.load(file, weights_only=True)["global_step"])


def names(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


# A second run


def test_the_newest_run_has_the_plain_names(caplog: pytest.LogCaptureFixture) -> None:
    fit(4)
    first = names("runs/tiny")
    fit(2)
    assert batches("runs/tiny/" + LAST) == 2
    assert names("runs/tiny/checkpoints") == {"step=2.ckpt", "last.ckpt"}
    assert steps_of() == [0, 1]
    assert [path.name for path in Path("runs/tiny/samples").iterdir()] == ["step-00000002.png"]
    assert names("runs/tiny/earlier-1") == first
    assert batches("runs/tiny/earlier-1/" + LAST) == 4
    assert sum("runs/tiny/earlier-1" in message for message in caplog.messages) == 1
    fit(3)
    assert batches("runs/tiny/" + LAST) == 2  # every second batch is saved
    assert steps_of() == [0, 1, 2]
    assert steps_of("runs/tiny/earlier-2") == [0, 1]
    assert steps_of("runs/tiny/earlier-1") == [0, 1, 2, 3]


def test_the_resume_line_continues_the_newest_run() -> None:
    fit(4)
    fit(2)
    fit(4, ckpt_path="runs/tiny/" + LAST)
    assert batches("runs/tiny/" + LAST) == 4
    assert steps_of() == [0, 1, 2, 3]
    assert not [*Path("runs").rglob("last-v*")]
    assert not Path("runs/tiny/earlier-2").exists(), "a resumed run moves nothing"


def test_an_earlier_run_can_be_continued_and_is_the_newest_then() -> None:
    fit(4)
    fit(2)
    fit(6, ckpt_path="runs/tiny/earlier-1/" + LAST)
    assert batches("runs/tiny/" + LAST) == 6
    assert steps_of() == [0, 1, 2, 3, 4, 5]
    assert steps_of("runs/tiny/earlier-1") == [0, 1, 2, 3]
    assert steps_of("runs/tiny/earlier-2") == [0, 1]


def test_a_run_that_continues_another_touches_neither() -> None:
    fit(4)
    fit(5, logger=Tracking("other", mode="disabled"))
    fit(6, logger=Tracking("other", mode="disabled"), ckpt_path="runs/tiny/" + LAST)
    assert steps_of("runs/other") == [0, 1, 2, 3, 4, 5]
    assert steps_of("runs/tiny") == [0, 1, 2, 3]
    assert steps_of("runs/other/earlier-1") == [0, 1, 2, 3, 4]
    assert batches("runs/other/earlier-1/" + LAST) == 4


@pytest.mark.parametrize("start", ["step=2.ckpt", "copy.ckpt", "elsewhere/last.ckpt"])
def test_a_resumed_run_writes_the_plain_name(start: str) -> None:
    """Whichever of its files it is resumed from, and whatever that file knew of the last one."""
    fit(4)
    if start == "copy.ckpt":
        shutil.copy("runs/tiny/checkpoints/step=2.ckpt", "runs/tiny/checkpoints/copy.ckpt")
    if start.startswith("elsewhere"):
        Path("runs/tiny/checkpoints/elsewhere").mkdir()
        shutil.copy("runs/tiny/checkpoints/step=2.ckpt", "runs/tiny/checkpoints/elsewhere/last.ckpt")
    fit(6, ckpt_path=f"runs/tiny/checkpoints/{start}")
    assert batches("runs/tiny/" + LAST) == 6
    assert not [*Path("runs").rglob("last-v*")]
    assert steps_of() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("logger", ["tracking", "none"])
def test_in_a_folder_of_the_users_the_newest_has_the_plain_name_too(logger: str) -> None:
    for steps in (4, 2):
        fit(steps, logger=False if logger == "none" else None, dirpath="mine")
    assert batches("mine/last.ckpt") == 2
    assert batches("mine/last-v1.ckpt") == 4


def test_only_what_a_run_writes_is_moved() -> None:
    folder = Path("mine")
    for name in ("checkpoints", "samples", "photos", "zoo", "wandb"):
        (folder / name).mkdir(parents=True)
    assert set_aside(folder) is None, "no run has got as far as a checkpoint"
    (folder / LAST).touch()
    for file in ("thesis.tex", "train.py", "samples/step-00000001.png", "photos/cat.png"):
        (folder / file).touch()
    assert set_aside(folder) == folder / "earlier-1"
    assert names("mine/earlier-1") == {"checkpoints", "samples"}
    assert names("mine") == {"photos", "zoo", "wandb", "thesis.tex", "train.py", "earlier-1"}
    (folder / "zoo/config.json").touch()
    assert set_aside(folder) == folder / "earlier-2", "a finished checkpoint is the result of a run"
    assert names("mine/earlier-2") == {"zoo"}
    assert set_aside(Path("nowhere")) is None


@pytest.mark.parametrize("given", [None, "runs/tiny/checkpoints/step=2.ckpt"])
def test_an_evaluation_joins_the_run(given: str | None) -> None:
    module = fit(4)
    before = Path("runs/tiny/metrics.csv").read_text()
    trainer = trainer_of(4, Tracking("tiny", mode="disabled"), callbacks=[ModelCheckpoint(every_n_train_steps=2)])
    trainer.test(METHODS["MinimaxGAN"](**module.hparams), TinyData(tuple(module.hparams["shape"])), ckpt_path=given)
    assert steps_of() == [0, 1, 2, 3]
    assert batches("runs/tiny/" + LAST) == 4
    assert Path("runs/tiny/metrics.csv").read_text().startswith(before.splitlines()[0])
    assert not Path("runs/tiny/earlier-1").exists()


def test_the_newest_checkpoint_comes_first() -> None:
    fit(4)
    assert [path.name for path in newest_checkpoints(Path("runs/tiny"))][:2] == ["last.ckpt", "step=4.ckpt"]
    assert newest_checkpoints(Path("nowhere")) == []


# Tables


@pytest.mark.parametrize("torn", [0, 1, 5, 40])
def test_a_resumed_table_does_not_go_back_in_time(torn: int) -> None:
    """The run was killed two batches after its checkpoint, perhaps in the middle of a line."""
    fit(6)
    whole = Path("runs/tiny/metrics.csv").read_text()
    assert steps_of() == [0, 1, 2, 3, 4, 5]
    table = Path("runs/tiny/metrics.csv")
    table.write_bytes(table.read_bytes()[: len(table.read_bytes()) - torn])
    fit(6, ckpt_path="runs/tiny/checkpoints/step=4.ckpt")
    assert Path("runs/tiny/metrics.csv").read_text() == whole, "as if it had not been killed"


def test_validations_of_the_checkpoint_are_kept() -> None:
    fit(4)
    columns = Path("runs/tiny/metrics.csv").read_text().splitlines()[0].split(",")
    column = next(name for name in columns if name.startswith("val/"))
    assert steps_of(column=column) == [1, 3]
    fit(6, ckpt_path="runs/tiny/" + LAST)
    assert steps_of(column=column) == [1, 3, 5]


@pytest.mark.parametrize("end", ["2,0.", "2", "2,0.3,4\r", "st", "\0\0\0"])
def test_a_torn_line_is_removed(end: str) -> None:
    Path("m.csv").write_bytes(b"step,a\r\n0,0.1\r\n1,0.2\r\n" + end.encode())
    table = MetricsTable(Path("m.csv"))
    table.append({"step": 2, "a": 0.3})
    table.append({"step": 3, "b": 0.4})
    assert Path("m.csv").read_bytes() == b"step,a,b\r\n0,0.1,\r\n1,0.2,\r\n2,0.3,\r\n3,,0.4\r\n"


def test_a_torn_header_is_no_header() -> None:
    Path("m.csv").write_text("step,tr")
    MetricsTable(Path("m.csv"), 3).append({"step": 3, "a": 1})
    assert Path("m.csv").read_bytes() == b"step,a\r\n3,1\r\n"


def test_rows_of_a_test_after_the_checkpoint_are_kept() -> None:
    table = MetricsTable(Path("m.csv"))
    rows = [{"step": 3, "train/a": 1}, {"step": 4, "test/a": 2}, {"step": 4, "train/a": 3}, {"step": 5, "test/a": 4}]
    for row in rows:
        table.append(row)
    MetricsTable(Path("m.csv"), 4)
    with Path("m.csv").open(newline="") as file:
        assert [row["test/a"] or row["train/a"] for row in csv.DictReader(file)] == ["1", "2"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_is_named_with_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    table = MetricsTable(Path("m.csv"))
    table.append({"step": 0, "a": 1})
    opened = Path.open

    def full(path: Path, mode: str = "r", **settings: Any) -> Any:
        return opened(path if mode == "r" else Path("/dev/full"), mode, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        for row in ({"step": 1, "a": 2}, {"step": 1, "b": 2}):
            with pytest.raises(OSError, match=r"No space left.*m\.csv"):
                table.append(row)
    assert Path("m.csv").read_text().splitlines() == ["step,a", "0,1"]
