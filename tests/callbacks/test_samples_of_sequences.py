"""Samples and metrics of sequences as training continues: each kind is rendered as it is in a checkpoint."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from datamodules import MarkovSource
from lightning_modules import TeacherForcing
from lightning_modules.callbacks import EMA, AnnounceMetrics, ExposureBias, SampleGrid
from lightning_modules.rendering.modules import render_samples
from tests.standins import Recorder, quiet_trainer
from tests.zoo.sequence_checkpoints import SPECS, built


def random_sequences(kind: str) -> Tensor:
    """Twelve sequences of a kind of data."""
    spec, generator = SPECS[kind], torch.Generator().manual_seed(0)
    if spec.kind == "tokens":
        return torch.randint(len(spec.vocabulary), (12, *spec.shape), generator=generator)
    x = torch.rand(12, *spec.shape, generator=generator)
    if spec.kind == "video":
        return (255 * x).round() / 255
    if spec.kind == "piano_roll":
        return (x < 0.1).float()
    x[..., 2] = (x[..., 2] < 0.2).float()
    return x


class RandomSequences(LightningDataModule):
    """Random sequences that all have their full length."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.x, self.spec = random_sequences(kind), SPECS[kind]

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(TensorDataset(self.x, torch.full((12,), self.x.shape[1])), 4)

    val_dataloader = train_dataloader


@pytest.mark.parametrize("kind", list(SPECS))
def test_each_kind_is_rendered_as_training_continues(kind: str) -> None:
    module, recorder = built(kind, lr=0.1), Recorder()
    run = quiet_trainer(
        [SampleGrid(3, every_n_batches=2)], max_epochs=-1, max_steps=4, logger=recorder, num_sanity_val_steps=0
    )
    run.fit(module, RandomSequences(kind))
    assert [(key, step) for key, step, _ in recorder.images] == [("samples", 2), ("samples", 4)]
    first, last = (Path(f"logs/run/samples/step-0000000{step}.png") for step in (2, 4))
    with Image.open(last) as image:
        assert image.tobytes() == render_samples(module, 3).image.tobytes()
    assert first.read_bytes() != last.read_bytes(), "the model has changed"


def test_by_default_as_many_are_rendered_as_in_a_checkpoint() -> None:
    module, data = built("text"), RandomSequences("text")
    quiet_trainer([SampleGrid()], num_sanity_val_steps=0).fit(module, data)
    with Image.open("samples/step-00000003.png") as image:
        assert image.tobytes() == render_samples(module).image.tobytes()


def test_averaged_weights_are_rendered_where_there_are_some() -> None:
    module, average = built("music"), EMA(half_life_images=1e12, rampup=None)
    run = quiet_trainer([average, SampleGrid(2)], num_sanity_val_steps=0)
    run.fit(module, RandomSequences("music"))
    with Image.open("samples/step-00000003.png") as image:
        shown = image.tobytes()
    assert shown != render_samples(module, 2).image.tobytes()
    with average.average_parameters(module):
        assert shown == render_samples(module, 2).image.tobytes()


def test_what_cannot_be_rendered_is_refused_before_training() -> None:
    run = quiet_trainer()
    with pytest.raises(TypeError, match="SampleGrid.*LightningModule"):
        SampleGrid().setup(run, LightningModule(), "fit")
    with pytest.raises(ValueError, match="TeacherForcing"):  # tokens of what?
        SampleGrid().setup(run, TeacherForcing(width=4), "fit")
    with pytest.raises(ValueError, match="num_samples=0"):
        SampleGrid(0)


def test_metrics_of_sequences_are_announced_after_each_validation(capsys: pytest.CaptureFixture[str]) -> None:
    data = MarkovSource(length=24, batch_size=8, train_size=16, val_size=16, test_size=4)
    module = TeacherForcing.for_data(data.spec, width=4)
    bias = ExposureBias(prefix=4, steps=16, window=8, orders=(1,), components=2, num_sequences=8)
    run = quiet_trainer([bias, AnnounceMetrics()], max_epochs=2, num_sanity_val_steps=0)
    run.fit(module, data)
    lines = [line for line in capsys.readouterr().out.splitlines() if "js_1gram-" in line]
    assert len(lines) == 2
    logged = {name.removeprefix("val/"): value.item() for name, value in run.callback_metrics.items()}
    names = [name for name in logged if name.startswith(("js_1gram-", "hidden_frechet-", "nats_per_step-exact"))]
    assert len(names) >= 3
    for name in names:
        assert f"{name} {logged[name]:.4g}" in lines[-1]
    for line, batches in zip(lines, (2, 4), strict=True):
        assert f" {batches} " in line
        assert "val/" not in line
