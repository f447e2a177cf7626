"""Grids and interpolations during training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from torch import Generator, Tensor

from datamodules import MarkovSource
from datamodules.spec import DataSpec
from lightning_modules import TeacherForcing
from lightning_modules.callbacks import EMA, LatentInterpolation, SampleGrid
from lightning_modules.rendering.images import FAKE_COLOUR, PADDING, REAL_COLOUR, image_grid
from lightning_modules.rendering.modules import render_samples
from lightning_modules.rendering.points import scatter
from tests.standins import RING, Recorder, RingData, RingModel, StandInData, StandInModel, quiet_trainer


class ConditionalModel(StandInModel):
    """Class k of three is an image of one grey level."""

    num_classes = 3

    def sample(self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        assert labels is not None
        return (labels / 2.0 * 2 - 1).view(-1, 1, 1, 1).expand(-1, 1, 6, 6)

    def decode(self, z: Tensor, *, labels: Tensor | None = None) -> Tensor:
        return self.sample(len(z), labels=labels)


def trainer(callbacks: Sequence[Callback], **settings: Any) -> Trainer:
    return quiet_trainer(callbacks, **{"logger": Recorder(), "max_epochs": 2, **settings})


def files(folder: str | Path) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def tile(path: str, row: int, column: int, size: int = 6) -> np.ndarray:
    """Cuts one image out of a grid."""
    pixels = np.asarray(Image.open(path))
    top, left = PADDING + row * (size + PADDING), PADDING + column * (size + PADDING)
    return pixels[top : top + size, left : left + size]


def test_a_grid_is_written_and_logged_at_every_validation() -> None:
    recorder = Recorder()
    run = trainer([SampleGrid(num_samples=9), LatentInterpolation(rows=2, steps=5)], logger=recorder)
    run.fit(StandInModel(), StandInData())
    for name in ("samples", "interpolation"):
        assert files(f"logs/run/{name}") == ["step-00000002.png", "step-00000004.png"]
    assert sorted(recorder.images) == [
        ("interpolation", 2, (42, 18)),
        ("interpolation", 4, (42, 18)),
        ("samples", 2, (26, 26)),
        ("samples", 4, (26, 26)),
    ]


def test_or_every_so_many_batches_and_without_a_logger() -> None:
    run = trainer([SampleGrid(num_samples=4, every_n_batches=3)], max_epochs=4, logger=False)
    run.fit(StandInModel(), StandInData())
    assert files("samples") == ["step-00000003.png", "step-00000006.png"]


def test_the_noise_is_fixed_so_that_only_the_weights_change_the_image() -> None:
    model = StandInModel()
    for folder, seed in (("one", 0), ("two", 0), ("three", 1)):
        run = trainer([SampleGrid(seed=seed)], logger=False, default_root_dir=folder)
        torch.rand(3)
        run.validate(model, StandInData(), verbose=False)
    one, two, three = (Path(f"{folder}/samples/step-00000000.png").read_bytes() for folder in ("one", "two", "three"))
    assert one == two != three


def test_rendering_leaves_random_states_and_modes_alone() -> None:
    states = []
    for callbacks in ([], [SampleGrid(every_n_batches=1), LatentInterpolation(), SampleGrid()]):
        torch.manual_seed(4)
        model = StandInModel()
        trainer(callbacks).fit(model, StandInData())
        states.append((torch.get_rng_state(), *model.state_dict().values()))
    for one, two in zip(*states, strict=True):
        assert torch.equal(one, two)


def test_averaged_weights_are_sampled() -> None:
    average, model = EMA(half_life_images=1e12, rampup=None), StandInModel()
    trainer([average, SampleGrid()], logger=False).fit(model, StandInData())
    rendered = np.asarray(Image.open("samples/step-00000004.png"))

    def grid() -> np.ndarray:
        images = model.eval().sample(64, generator=torch.Generator().manual_seed(0)).detach()
        return np.asarray(image_grid(images))

    assert not np.array_equal(rendered, grid())
    with average.average_parameters(model):
        np.testing.assert_array_equal(rendered, grid())


def test_classes_stand_in_columns_and_interpolations_keep_their_class() -> None:
    run = trainer([SampleGrid(num_samples=6), LatentInterpolation(rows=3, steps=4)], logger=False)
    run.validate(ConditionalModel(), StandInData(), verbose=False)
    for row in range(2):
        for column, level in enumerate((0, 128, 255)):
            assert (tile("samples/step-00000000.png", row, column) == level).all()
    for row, level in enumerate((0, 128, 255)):
        for column in range(4):
            assert (tile("interpolation/step-00000000.png", row, column) == level).all()


def test_the_value_range_is_that_of_the_data() -> None:
    """A module that says nothing of its data is rendered by the spec of the datamodule, or else in [-1, 1]."""

    class Silent(StandInModel):
        def __init__(self) -> None:
            super().__init__()
            del self.data_spec

        def sample(
            self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None
        ) -> Tensor:
            return torch.zeros(num_samples, 1, 6, 6)

    data = StandInData()
    data.spec = DataSpec(name="bits", kind="image", shape=(1, 6, 6), value_range=(0.0, 1.0))
    trainer([SampleGrid()], logger=False).validate(Silent(), data, verbose=False)
    assert (tile("samples/step-00000000.png", 0, 0) == 0).all()
    trainer([SampleGrid()], logger=False).validate(Silent(), data.val_dataloader(), verbose=False)
    assert (tile("samples/step-00000000.png", 0, 0) == 128).all()


def test_points_are_drawn_over_real_ones() -> None:
    trainer([SampleGrid()]).fit(RingModel(modes=4), RingData())
    pixels = np.asarray(Image.open("logs/run/samples/step-00000004.png")).astype(int)
    red, grey = ((pixels == colour).all(-1) for colour in (FAKE_COLOUR, REAL_COLOUR))
    height = pixels.shape[0]
    assert red[: height // 2].sum() > 50  # modes 0 to 3 have y >= 0, which is up
    assert red[height // 2 + 12 :].sum() == 0
    assert grey[height // 2 + 12 :].sum() > 0


def test_2000_points_are_drawn_whatever_the_number_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, int]] = []

    def counted(points: Tensor, real: Tensor) -> Image.Image:
        drawn.append((len(points), len(real)))
        return scatter(points, real)

    class Many(RingData):
        def points(self, split: str) -> tuple[Tensor, Tensor]:
            return RING.repeat(500, 1), torch.zeros(4000, dtype=torch.int64)

    monkeypatch.setattr("lightning_modules.rendering.renderers.scatter", counted)
    trainer([SampleGrid(num_samples=5)], logger=False).validate(RingModel(), Many(), verbose=False)
    assert drawn == [(2000, 2000)]


def test_sequences_are_rendered_as_their_kind_is() -> None:
    data = MarkovSource(length=8, batch_size=4, train_size=16, val_size=4, test_size=4)
    module, recorder = TeacherForcing.for_data(data.spec, width=4), Recorder()
    trainer([SampleGrid(3, every_n_batches=2)], max_epochs=-1, max_steps=4, logger=recorder).fit(module, data)
    assert [(key, step) for key, step, _ in recorder.images] == [("samples", 2), ("samples", 4)]
    with Image.open("logs/run/samples/step-00000004.png") as image:
        assert image.tobytes() == render_samples(module, 3).image.tobytes()


def test_what_cannot_be_rendered_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match="kind='points'"):
        trainer([LatentInterpolation()]).fit(RingModel(), RingData())
    bare = quiet_trainer()
    for callback in (SampleGrid(), LatentInterpolation()):
        with pytest.raises(TypeError, match="LightningModule"):
            callback.setup(bare, LightningModule(), "fit")
    with pytest.raises(ValueError, match="TeacherForcing"):  # tokens of what?
        SampleGrid().setup(bare, TeacherForcing(width=4), "fit")
    for arguments in ({"num_samples": 0}, {"columns": 0}, {"every_n_batches": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(arguments))}=0"):
            SampleGrid(**arguments)
    for settings in ({"rows": 0}, {"steps": 1}, {"path": "straight"}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            LatentInterpolation(**settings)


@pytest.mark.parametrize("callback", [SampleGrid, LatentInterpolation])
def test_images_that_cannot_be_rendered_are_refused_before_the_first_step(callback: type[Any]) -> None:
    data = StandInData()
    data.spec = DataSpec("radar", "image", (2, 6, 6), value_range=(-1.0, 1.0))
    run = quiet_trainer([callback()])
    with pytest.raises(ValueError, match="radar.* 2 channels"):
        run.fit(StandInModel(), data)
    assert run.global_step == 0


class Writer:
    """A ``SummaryWriter`` of TensorBoard, as far as images go."""

    def __init__(self) -> None:
        self.images: list[tuple[str, Any, int, str]] = []

    def add_image(
        self, tag: str, img_tensor: Any, global_step: int, walltime: Any = None, dataformats: str = "CHW"
    ) -> None:
        self.images.append((tag, img_tensor, global_step, dataformats))


class Board(CSVLogger):
    """A logger like Lightning's TensorBoardLogger: no ``log_image``, but an experiment with ``add_image``."""

    def __init__(self) -> None:
        super().__init__("board")
        self.writer = Writer()

    @property
    def experiment(self) -> Any:
        return self.writer

    def log_metrics(self, *_: Any, **__: Any) -> None: ...

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    def save(self) -> None: ...


@pytest.mark.parametrize("callback", [SampleGrid(), LatentInterpolation(rows=2, steps=3)])
def test_tensorboard_gets_what_is_written_as_png(callback: SampleGrid | LatentInterpolation) -> None:
    board, recorder, table = Board(), Recorder(), CSVLogger("table")
    quiet_trainer([callback], logger=[table, board, recorder]).fit(StandInModel(), StandInData())
    ((name, pixels, step, form),) = board.writer.images
    assert (name, step, form) == (callback.name, 2, "HWC")
    with Image.open(next(Path("table").rglob("step-00000002.png"))) as written:
        assert np.array_equal(pixels, np.array(written))
    assert [image[:2] for image in recorder.images] == [(callback.name, 2)]
