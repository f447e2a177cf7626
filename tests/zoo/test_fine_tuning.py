"""Continuing the training of a checkpoint on a folder of images."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

import zoo
import zoo.fine_tuning
from datamodules import Ring
from lightning_modules import WGANGP
from tests.zoo.running import fails, run


def test_fine_tune(trained: Path) -> None:
    images = trained / "images-of-mine"
    images.mkdir()
    for index in range(20):
        Image.new("RGB", (40, 30), (index * 10, 255 - index * 10, 90)).save(images / f"{index}.png")
    done = run(
        trained, "fine-tune", "runs/tiny/zoo", "--data", str(images), "--steps", "5", "--batch-size", "8",
        "--out", "tuned",
    )  # fmt: skip
    assert "optimizers" in done.stdout, "their state is in no checkpoint of the zoo"
    tuned, start = zoo.load(str(trained / "tuned")), zoo.load(str(trained / "runs/tiny/zoo"), weights="raw")
    assert tuned.data_spec.name == "images-of-mine"
    card = zoo.card(trained / "tuned")
    assert (card.name, card.averaged, card.batches, card.planned_batches) == ("tiny.fine-tuned", True, 5, 5)
    for network in ("generator", "discriminator"):
        pairs = zip(getattr(tuned, network).parameters(), getattr(start, network).parameters(), strict=True)
        assert any(not torch.equal(new, old) for new, old in pairs), network
    assert set(re.findall(r"tiny|\d+", card.notes)) == {"tiny", "5", "8"}, "where from, how many batches of what size"
    assert card.notes in (trained / "tuned/README.md").read_text()
    assert (trained / "tuned-run/metrics.csv").is_file()
    assert [path.name for path in (trained / "tuned-run/samples").iterdir()] != []


def test_fine_tune_refuses_a_target_before_it_trains(
    classified: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("thesis.tex").touch()
    monkeypatch.setattr(zoo.fine_tuning, "load_folder", lambda *_, **__: pytest.fail("it continued"))
    assert "thesis.tex" in fails(["fine-tune", str(classified), "--data", ".", "--out", "thesis.tex"], capsys)


def test_fine_tune_needs_a_model_of_images(
    classified: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(zoo.fine_tuning, "ImageFolder", lambda **_: pytest.fail("it continued"))
    zoo.save(WGANGP.for_data(Ring().spec, width=8), tmp_path / "ring")
    zoo.save(WGANGP(width=2), tmp_path / "unknown")
    for name in ("./ring", "./unknown", str(classified)):
        assert zoo.card(name).name in fails(["fine-tune", name, "--data", "."], capsys)
