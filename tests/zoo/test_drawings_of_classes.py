"""Drawings of a class, from the training command to samples, pictures and held-out numbers."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import zoo
from datamodules import Strokes
from datamodules.sequences.strokes import BOTH
from lightning_modules import MixtureDensityRNN
from lightning_modules.rendering.renderers import RENDERERS
from tests.datamodules.small_data import LONGEST_DRAWING, symbols_and_sheep
from tests.test_resume import differences, states
from tests.zoo.running import fails
from zoo.__main__ import main

RECIPE = f"""
seed_everything: 0
model:
  class_path: lightning_modules.MixtureDensityRNN
  init_args: {{width: 8, num_components: 2, num_classes: 2, ends: true, length: {LONGEST_DRAWING}, dropout: 0.1}}
data:
  class_path: datamodules.Strokes
  init_args: {{dataset: {BOTH}, mark_ends: true, batch_size: 40}}
trainer:
  accelerator: cpu
  max_steps: 6
  limit_val_batches: 2
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: lightning_modules.callbacks.EMA
      init_args: {{half_life_images: 100}}
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {{every_n_train_steps: 2, save_top_k: -1, save_last: true, filename: "{{step}}"}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a small recipe was trained; the drawings are beside it."""
    folder = tmp_path_factory.mktemp("drawings")
    Path(folder / "drawings.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        data = symbols_and_sheep(folder / "data", patch)
        patch.setenv("GENERATIVE_ZOO_DATA", data)
        patch.chdir(folder)
        assert main(["train", "drawings.yaml"]) == 0
    return folder / "runs" / "drawings"


@pytest.fixture
def checkpoint(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the checkpoint; the small drawings pass for those that are public."""
    monkeypatch.setenv("GENERATIVE_ZOO_DATA", symbols_and_sheep(tmp_path / "data", monkeypatch))
    return os.fspath(run / "zoo")


def test_held_out_nats_are_those_given_the_class(checkpoint: str, run: Path) -> None:
    """The value of the card is that of ``log_prob`` with the classes, by a step, in pixels."""
    assert main(["evaluate", checkpoint, "--write"]) == 0
    module = zoo.load(checkpoint, MixtureDensityRNN)
    data = Strokes(BOTH, mark_ends=True, batch_size=7)
    data.prepare_data()
    data.setup("test")
    total, steps = 0.0, 0
    with torch.no_grad():
        for x, labels, lengths in data.test_dataloader():
            total -= module.log_prob(x, lengths, labels=labels).double().sum().item()
            steps += int(lengths.sum())
    assert data.spec.scale is not None
    expected = total / steps + 2 * torch.tensor(data.spec.scale).log().item()
    metrics = zoo.card(checkpoint).metrics
    assert metrics["test/nats_per_step-exact_pixels"] == pytest.approx(expected, abs=1e-4)


def test_a_class_is_asked_for_at_the_start_and_after_given_steps(
    checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    written = {}
    for label in ("0", "1"):
        for prime in ([], ["--prime", "3"]):
            out = f"{label}{len(prime)}.svg"
            assert main(["sample", checkpoint, "--num", "2", "--labels", label, *prime, "--out", out]) == 0
            written[out] = Path(out).read_text()
    assert len(set(written.values())) == 4
    assert re.findall(r"Wrote (\S+)", capsys.readouterr().out) == list(written)
    for prime in ([], ["--prime", "3"]):
        assert "labels" in fails(["sample", checkpoint, "--num", "2", "--labels", "2", *prime], capsys)


def test_classes_of_continuations_are_used_in_turn(
    checkpoint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One drawing has seven continuations: what stands for more of them is refused, not left out."""
    each = RENDERERS["strokes"].each
    arguments = ["sample", checkpoint, "--prime", "3", "--num", "1", "--labels"]
    given: list[Tensor] = []
    continued = MixtureDensityRNN.continue_sequence

    def recorded(self: MixtureDensityRNN, prefix: Tensor, length: int, **settings: Any) -> Tensor:
        given.append(settings["labels"])
        return continued(self, prefix, length, **settings)

    monkeypatch.setattr(MixtureDensityRNN, "continue_sequence", recorded)
    assert main([*arguments, "0,1"]) == 0
    assert given[0].tolist() == [i % 2 for i in range(each)]
    assert each > 2
    capsys.readouterr()
    error = fails([*arguments, ",".join("0" * (each + 1))], capsys)
    assert f"{each + 1} classes, more than --num 1 times {each} continuations" in error


def test_continuations_are_drawn_beside_the_true_drawings(checkpoint: str) -> None:
    assert main(["draw", checkpoint, "continuation", "--out", "x.png"]) == 0
    assert Path("x.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_resumes_to_the_uninterrupted_one(checkpoint: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = states(run / "checkpoints" / "last.ckpt")
    monkeypatch.chdir(run.parents[1])
    half = next((run / "checkpoints").glob("step=4*.ckpt"))
    assert main(["train", "drawings.yaml", "--ckpt_path", str(half), "--trainer.default_root_dir", "runs/rest"]) == 0
    rest = states("runs/rest/checkpoints/last.ckpt")
    for each in (whole, rest):
        del each["callbacks"]["TrainingRecord"]["seconds"]
    assert differences(whole, rest) == []


def test_whether_drawings_end_is_read_off_the_data(
    checkpoint: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.parents[1])
    without = ["train", "drawings.yaml", "--data.mark_ends", "false", "--trainer.default_root_dir", "runs/without"]
    assert main([*without, "--trainer.max_steps", "1"]) == 0
    assert "ends=False is set by the data" in capsys.readouterr().out
    assert not zoo.load("runs/without/zoo", MixtureDensityRNN).hparams["ends"]
    assert "ends=True" in fails([*without, "--model.ends", "true"], capsys)
