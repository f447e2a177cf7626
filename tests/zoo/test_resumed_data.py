"""Runs on the user's own files, which are resumed only while those are what they were."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from datamodules import ImageFolder
from lightning_modules import VAE
from tests.datamodules.small_data import POEM, image_folder
from tests.standins import quiet_trainer
from tests.zoo.running import fails
from tests.zoo.test_own_data import IMAGE_RECIPE, TEXT_RECIPE
from zoo.__main__ import main

pytestmark = pytest.mark.filterwarnings("ignore:.*logging interval")


def changed_image() -> None:
    """Another image of the same name and size."""
    first, second = sorted(Path("pets").rglob("*.png"))[:2]
    shutil.copy(second, first)


def changed_text() -> None:
    text = Path("poem.txt").read_text()
    Path("poem.txt").write_text(text.replace(text[0], text[1], 1))


@pytest.mark.parametrize("data", ["images", "text"])
def test_a_run_is_not_resumed_on_changed_data(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    place, change, recipe = {
        "images": ("pets", changed_image, IMAGE_RECIPE),
        "text": ("poem.txt", changed_text, TEXT_RECIPE),
    }[data]
    image_folder(Path("pets"))
    Path("poem.txt").write_text(POEM * 4)
    Path("some.yaml").write_text(recipe)
    arguments = ["--data", "ImageFolder", "--data.data_dir", "pets", "--data.image_size", "8"]
    arguments = arguments if data == "images" else ["--data", "TextFile", "--data.path", "poem.txt"]
    assert main(["train", "some.yaml", *arguments]) == 0
    (run,) = Path("runs").iterdir()
    (checkpoint,) = (run / "checkpoints").glob("*.ckpt")
    state = torch.load(checkpoint, weights_only=True)["ImageFolder" if data == "images" else "TextFile"]
    assert len(state["digest"]) == 64

    kept = Path("kept")
    (shutil.copytree if Path(place).is_dir() else shutil.copy)(place, kept)
    change()
    longer = ["--trainer.max_steps", "4"]
    for command in (["resume", run.name], ["train", str(run / "config.yaml"), "--ckpt_path", str(checkpoint)]):
        line = fails([*command, *longer], capsys)
        assert f"data in {place} are not those that this run was trained on" in line
    assert main(["resume", run.name, *longer, f"--data.{'data_dir' if data == 'images' else 'path'}", "kept"]) == 0


def test_other_data_are_evaluated_on() -> None:
    """Only a training that is resumed needs the same."""
    module = VAE(shape=[3, 8, 8], architecture="mlp", hidden=4, latent_dim=2, depth=1)
    for name in ("pets", "others"):
        image_folder(Path(name))
    sizes: dict[str, Any] = {"image_size": 8, "batch_size": 2, "val_size": 1, "test_size": 1, "binarize": True}
    trainer: Trainer = quiet_trainer(max_steps=1)
    trainer.fit(module, ImageFolder("pets", **sizes))
    trainer.save_checkpoint("run.ckpt")
    first, second = sorted(Path("others").rglob("*.png"))[:2]
    shutil.copy(second, first)
    quiet_trainer().test(module, ImageFolder("others", **sizes), ckpt_path="run.ckpt", weights_only=True)
    with pytest.raises(ValueError, match="data in others are not"):
        quiet_trainer(max_steps=2).fit(module, ImageFolder("others", **sizes), ckpt_path="run.ckpt", weights_only=True)


def test_data_that_are_gone_do_not_stop_a_training() -> None:
    """They are in memory; the checkpoint cannot say which they were, and is resumed with any."""
    image_folder(Path("pets"))
    data = ImageFolder("pets", image_size=8, batch_size=2, val_size=1, test_size=1, in_memory=True, binarize=True)
    trainer = quiet_trainer(max_steps=1)
    trainer.fit(VAE(shape=[3, 8, 8], architecture="mlp", hidden=4, latent_dim=2, depth=1), data)
    shutil.rmtree("pets")
    trainer.save_checkpoint("run.ckpt")
    assert "digest" not in torch.load("run.ckpt", weights_only=True)["ImageFolder"]
