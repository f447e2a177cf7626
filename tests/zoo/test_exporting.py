"""From a Lightning checkpoint to one of the zoo: what it is, how far its run had come, and what is refused."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
import zoo.exporting
from lightning_modules import WGANGP
from tests.zoo.running import RECIPE, fails, run
from tests.zoo.tiny import TinyGAN
from zoo.__main__ import main
from zoo.exporting import export

FIELDS = {"name": "x", "kind": "image", "shape": [1, 8, 8]}


def test_export_equals_what_training_saved(trained: Path) -> None:
    done = run(trained, "export", "runs/tiny/checkpoints/step=4.ckpt", "exported", "--name", "tiny.exported")
    for fact in ("exported", "WGANGP", "averaged"):
        assert fact in done.stdout
    card = zoo.card(trained / "exported")
    assert card.sha256 == zoo.card(trained / "runs/tiny/zoo").sha256
    assert (card.name, card.batches, card.planned_batches, card.data) == ("tiny.exported", 4, 4, "synthetic")


def test_export_runs_no_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return exec, ("raise SystemExit('the pickle ran')",)

    torch.save({"state_dict": {}, "hyper_parameters": Bomb()}, tmp_path / "bomb.ckpt")
    assert "bomb.ckpt" in fails(["export", "bomb.ckpt", "out"], capsys)
    assert not (tmp_path / "out").exists()


def test_a_folder_is_no_file_to_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    assert "run is a folder: give a file in it that Lightning wrote. It has no" in fails(["export", "run", "o"], capsys)
    (tmp_path / "run/checkpoints/last.ckpt").touch()
    assert "It has run/checkpoints/last.ckpt." in fails(["export", "run", "o"], capsys)
    zoo.save(WGANGP(width=2), "own")
    assert "own is a folder" in (error := fails(["export", "own", "o"], capsys))
    assert "a checkpoint of the zoo already" in error


def test_export_without_a_method_asks_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = WGANGP(width=2)
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}, tmp_path / "a.ckpt")
    assert "--method" in fails(["export", "a.ckpt", "out"], capsys)
    assert main(["export", "a.ckpt", "out", "--method", "SNGAN"]) == 1
    assert main(["export", "a.ckpt", "out", "--method", "WGANGP"]) == 0
    assert zoo.card("out").method == "WGANGP"


# How far a run had come


def states(folder: Path) -> list[str]:
    """What the model card and the command say of the batches."""
    shown = run(folder.parent, "show", f"./{folder.name}").stdout
    (line,) = re.findall(r"^batches +(.*)$", shown, re.MULTILINE)
    (listed,) = re.findall(r"^- Batches: (.*?)(?: \(.*)?$", (folder / "README.md").read_text(), re.MULTILINE)
    return [line, listed]


BEST = """
model:
  class_path: lightning_modules.Gaussian
  init_args: {shape: [2], covariance: diagonal, lr: 0.5}
data:
  class_path: datamodules.Ring
  init_args: {batch_size: 32, train_size: 64, val_size: 32}
trainer:
  accelerator: cpu
  max_steps: 12
  num_sanity_val_steps: 0
  logger: false
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {dirpath: best, monitor: val/nll-exact, filename: "{step}"}
"""


def test_a_best_checkpoint_states_the_chosen_and_the_planned_batch(tmp_path: Path) -> None:
    """The learning rate is too high on purpose: the run gets worse after its first batches."""
    (tmp_path / "best.yaml").write_text(BEST)
    assert main(["train", "best.yaml"]) == 0
    (best,) = (tmp_path / "best").iterdir()
    chosen = int(re.findall(r"step=(\d+)", best.name)[0])
    assert 0 < chosen < 12
    assert main(["export", str(best), "exported"]) == 0
    card, last = zoo.card("./exported"), zoo.card("runs/best/zoo")
    assert (card.batches, card.planned_batches) == (chosen, 12)
    assert (last.batches, last.planned_batches) == (12, 12)
    assert card.sha256 != last.sha256
    assert card.training["examples"] == chosen * 32
    assert card.curve[-1]["batches"] == chosen
    assert card.metrics["val/nll-exact"] == min(row["val/nll-exact"] for row in last.curve)
    assert states(tmp_path / "exported") == [f"{chosen} of 12 planned"] * 2


@pytest.mark.parametrize("limit", [["--trainer.max_steps=50"], ["--trainer.max_epochs=25", "--trainer.max_steps=-1"]])
def test_a_run_that_was_stopped_early_states_what_was_planned(limit: list[str], tmp_path: Path) -> None:
    text = BEST.replace(
        "    - class_path: lightning.pytorch.callbacks.ModelCheckpoint\n",
        "    - class_path: lightning.pytorch.callbacks.EarlyStopping\n"
        "      init_args: {monitor: val/nll-exact, patience: 1, min_delta: 100}\n"
        "    - class_path: lightning.pytorch.callbacks.ModelCheckpoint\n",
    )
    (tmp_path / "early.yaml").write_text(text)
    assert main(["train", "early.yaml", *limit]) == 0
    card = zoo.card("runs/early/zoo")
    assert card.batches == 4, "two epochs, the second not better than the first by 100 nats"
    assert card.planned_batches == 50
    assert states(tmp_path / "runs/early/zoo") == ["4 of 50 planned"] * 2


def test_a_run_without_a_planned_end_says_only_how_long_it_was(tmp_path: Path) -> None:
    (tmp_path / "timed.yaml").write_text(RECIPE)
    settings = ["--trainer.max_steps=-1", "--trainer.max_time", "00:00:00:01", "--trainer.limit_val_batches", "0"]
    assert main(["train", "timed.yaml", *settings, "--trainer.logger", "false", "--trainer.callbacks", "null"]) == 0
    card = zoo.card("runs/timed/zoo")
    assert card.batches is not None
    assert card.planned_batches is None
    assert states(tmp_path / "runs/timed/zoo") == [f"{card.batches:,}"] * 2


def test_a_resumed_run_has_the_plan_of_its_last_part(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    arguments = ["--model.lr", "1e-3", "--trainer.limit_val_batches", "0", "--save-to", "longer"]
    arguments += ["--trainer.max_steps", "6", "--trainer.default_root_dir", "longer-run"]
    assert main(["train", "tiny.yaml", *arguments, "--ckpt_path", "runs/tiny/checkpoints/step=2.ckpt"]) == 0
    assert (zoo.card("longer").batches, zoo.card("longer").planned_batches) == (6, 6)


# What is refused


RECORD = {"rows": [], "examples": 48, "seconds": 1.5}


@pytest.fixture
def lightning_file(registered: None, tmp_path: Path) -> Callable[..., Path]:
    def write(**changes: Any) -> Path:
        module = TinyGAN()
        content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)} | changes
        torch.save(content, tmp_path / "tiny.ckpt")
        return tmp_path / "tiny.ckpt"

    return write


def refuses_to_export(ckpt: Path, match: str) -> None:
    with pytest.raises(zoo.ZooError, match=match):
        export(ckpt, ckpt.parent / "out", method="TinyGAN")
    assert not (ckpt.parent / "out").exists()


def test_export_allocates_nothing_before_it_has_compared(
    lightning_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    export(lightning_file(), Path("fine"), method="TinyGAN")
    built, num_tensors = [], len(TinyGAN().state_dict())
    real = zoo.exporting.build

    def watched(*arguments: Any, device: str = "cpu", **settings: Any) -> Any:
        built.append(device)
        return real(*arguments, device=device, **settings)

    monkeypatch.setattr(zoo.exporting, "build", watched)
    refuses_to_export(lightning_file(hyper_parameters={"width": 10**8}), r"TinyGAN.*width=100000000\b")
    sizes = r"'generator\.0\.weight'.*\[64000000, 4\]"
    refuses_to_export(lightning_file(hyper_parameters={"width": 10**6}), sizes)
    refuses_to_export(lightning_file(hyper_parameters={"depth": 10**6}), rf"TinyGAN.*\b{num_tensors}\b")
    refuses_to_export(lightning_file(state_dict={"nothing": torch.zeros(1)}), "discriminator")
    assert set(built) == {"meta"}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"state_dict": [1]}, "state_dict"),
        ({"state_dict": {1: torch.zeros(1)}}, "state_dict"),
        ({"state_dict": {"a": 1}}, "'a'.*state_dict.*int"),
        ({"hyper_parameters": "width"}, "hyper_parameters"),
        ({"hyper_parameters": {3: 1}}, "hyper_parameters"),
        ({"callbacks": []}, "callbacks"),
        ({"callbacks": {"EMA": 3}}, "EMA"),
        ({"callbacks": {"EMA": {"averages": {"nothing": torch.zeros(1)}}}}, "EMA.*'nothing'"),
        ({"callbacks": {"EMA": {"averages": {"generator.0.bias": 1}}}}, r"'generator\.0\.bias'.*averages.*int"),
        (
            {"callbacks": {"EMA": {"averages": {"generator.0.bias": torch.zeros(7)}}}},
            r"'ema\.generator\.0\.bias'.*\[7\]",
        ),
        ({"callbacks": {"TrainingRecord": {}}}, "TrainingRecord"),
        ({"callbacks": {"TrainingRecord": RECORD | {"planned": "many"}}, "global_step": 3}, "TrainingRecord"),
        ({"global_step": "many"}, "global_step"),
        ({"data_spec": [1]}, "data.spec"),
        ({"data_spec": FIELDS | {"shape": [3, 8, 8]}}, r"\[1, 8, 8\].*\[3, 8, 8\]"),
    ],
)
def test_export_of_senseless_values(lightning_file: Callable[..., Path], changes: dict[str, Any], match: str) -> None:
    refuses_to_export(lightning_file(**changes), match)


def test_a_record_of_a_former_version_has_no_plan(lightning_file: Callable[..., Path]) -> None:
    card = export(lightning_file(callbacks={"TrainingRecord": RECORD}, global_step=3), Path("fine"), method="TinyGAN")
    assert (card.batches, card.planned_batches, card.training["examples"]) == (3, None, 48)
