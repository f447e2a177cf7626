"""Samples of sequences as training goes on."""

from pathlib import Path

import pytest
from lightning.pytorch import LightningModule, Trainer
from PIL import Image

from datamodules import MarkovSource
from lightning_modules import TeacherForcing
from tests.callbacks.test_drawing import Recorder
from zoo.drawing import draw_samples
from zoo.sample_exhibits import SampleExhibits


def test_samples_are_drawn_as_training_goes_on(tmp_path: Path) -> None:
    data = MarkovSource(length=8, batch_size=4, train_size=16, val_size=4, test_size=4)
    module, recorder = TeacherForcing.for_data(data.spec, width=4), Recorder()
    trainer = Trainer(
        max_steps=4, accelerator="cpu", logger=recorder, callbacks=[SampleExhibits(3, every_n_batches=2)],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(module, data)
    assert [(key, step) for key, step, _ in recorder.pictures] == [("samples", 2), ("samples", 4)]
    with Image.open(Path(trainer.log_dir) / "samples/step-00000004.png") as picture:
        assert picture.tobytes() == draw_samples(module, 3).picture.tobytes()


def test_what_cannot_be_drawn_is_refused_before_training() -> None:
    with pytest.raises(TypeError, match="needs LightningModule.sample"):
        SampleExhibits().setup(Trainer(accelerator="cpu", logger=False), LightningModule(), "fit")
    with pytest.raises(ValueError, match="needs a datamodule with a spec"):
        SampleExhibits().setup(Trainer(accelerator="cpu", logger=False), TeacherForcing(width=4), "fit")
    with pytest.raises(ValueError, match="num_samples=0"):
        SampleExhibits(0)
