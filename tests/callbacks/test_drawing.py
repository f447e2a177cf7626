"""Grids, interpolations and mode coverage as training goes on."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from datamodules.spec import DataSpec
from lightning_modules.callbacks import EMA, LatentInterpolation, ModeCoverage, SampleGrid
from lightning_modules.callbacks.mode_coverage import evaluate_points
from lightning_modules.parts.interpolation import linear_interpolation, spherical_interpolation
from lightning_modules.parts.pictures import image_grid, save_grid, scatter
from tests.callbacks.standins import StandInData, StandInModel

ANGLES = torch.arange(8) * math.tau / 8
RING = 2 * torch.stack([ANGLES.cos(), ANGLES.sin()], 1)
RING_SPEC = DataSpec(name="ring8", kind="points", shape=(2,), modes=tuple(map(tuple, RING.tolist())), mode_scale=0.02)


class Recorder(CSVLogger):
    """A logger that takes pictures."""

    def __init__(self) -> None:
        super().__init__("logs", name="", version="run")
        self.pictures: list[tuple[str, int | None, tuple[int, int]]] = []

    def log_image(self, key: str, images: list, step: int | None = None) -> None:
        (image,) = images
        self.pictures.append((key, step, image.size))


class RingData(StandInData):
    def __init__(self) -> None:
        super().__init__()
        self.spec = RING_SPEC

    def points(self, split: str) -> tuple[Tensor, Tensor]:
        return RING.repeat(5, 1), torch.zeros(40, dtype=torch.int64)

    def _loader(self, split: str) -> DataLoader:
        return DataLoader(TensorDataset(*self.points(split)), 20)


class RingModel(StandInModel):
    """Draws from the ring itself, on as many of its modes as it is told."""

    def __init__(self, modes: int = 8) -> None:
        super().__init__()
        self.modes = modes
        self.data_spec = RING_SPEC

    def sample(self, num_samples: int, *, labels: Tensor | None = None, generator: torch.Generator | None = None):
        chosen = torch.randint(self.modes, (num_samples,), generator=generator)
        return RING[chosen] + 0.02 * torch.randn(num_samples, 2, generator=generator)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.generator(torch.randn(20, 4)).square().mean()


class ConditionalModel(StandInModel):
    num_classes = 3

    def sample(self, num_samples: int, *, labels: Tensor | None = None, generator: torch.Generator | None = None):
        return (labels / 2.0 * 2 - 1).view(-1, 1, 1, 1).expand(-1, 1, 6, 6)

    def decode(self, z: Tensor, *, labels: Tensor | None = None) -> Tensor:
        return self.sample(len(z), labels=labels)


def trainer(callbacks: list, **settings: object) -> Trainer:
    settings = {"logger": Recorder(), "max_epochs": 2, **settings}
    return Trainer(
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        log_every_n_steps=1,
        **settings,
    )


def tile(path: str, row: int, column: int, size: int = 6) -> np.ndarray:
    """Cuts one picture out of a grid."""
    pixels = np.asarray(Image.open(path))
    top, left = 2 + row * (size + 2), 2 + column * (size + 2)
    return pixels[top : top + size, left : left + size]


def test_a_grid_is_written_and_logged_at_every_validation() -> None:
    run = trainer([SampleGrid(num_samples=9), LatentInterpolation(rows=2, steps=5)])
    run.fit(StandInModel(), StandInData())
    folder = Path("logs/run")
    for name in ("samples", "interpolation"):
        assert sorted(path.name for path in (folder / name).iterdir()) == ["step-00000002.png", "step-00000004.png"]
    assert sorted(run.logger.pictures) == [
        ("interpolation", 2, (42, 18)),
        ("interpolation", 4, (42, 18)),
        ("samples", 2, (26, 26)),
        ("samples", 4, (26, 26)),
    ]


def test_or_every_so_many_batches_and_without_a_logger() -> None:
    trainer([SampleGrid(num_samples=4, every_n_batches=3)], max_epochs=4, logger=False).fit(
        StandInModel(), StandInData()
    )
    assert sorted(path.name for path in Path("samples").iterdir()) == ["step-00000003.png", "step-00000006.png"]


def test_the_noise_is_fixed_so_that_only_the_weights_change_the_picture() -> None:
    frozen = trainer([SampleGrid()])
    model = StandInModel()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for folder, seed in (("one", 0), ("two", 0), ("three", 1)):
        frozen = trainer([SampleGrid(seed=seed)], logger=False, default_root_dir=folder)
        torch.rand(3)
        frozen.validate(model, StandInData(), verbose=False)
    one, two, three = (Path(f"{folder}/samples/step-00000000.png").read_bytes() for folder in ("one", "two", "three"))
    assert one == two != three


def test_drawing_leaves_random_states_and_modes_alone() -> None:
    states = []
    for callbacks in ([], [SampleGrid(every_n_batches=1), LatentInterpolation(), SampleGrid()]):
        torch.manual_seed(4)
        model = StandInModel()
        trainer(callbacks).fit(model, StandInData())
        states.append((torch.get_rng_state(), *model.state_dict().values()))
    for one, two in zip(*states, strict=True):
        assert torch.equal(one, two)


def test_averaged_weights_are_drawn() -> None:
    average, model = EMA(half_life_images=1e12, rampup=None), StandInModel()
    trainer([average, SampleGrid()], logger=False).fit(model, StandInData())
    drawn = np.asarray(Image.open("samples/step-00000004.png"))

    def grid() -> np.ndarray:
        images = model.eval().sample(64, generator=torch.Generator().manual_seed(0)).detach()
        return np.asarray(image_grid(images))

    assert not np.array_equal(drawn, grid())
    with average.average_parameters(model):
        np.testing.assert_array_equal(drawn, grid())


def test_classes_stand_in_columns_and_interpolations_keep_their_class() -> None:
    run = trainer([SampleGrid(num_samples=6), LatentInterpolation(rows=3, steps=4)], logger=False)
    run.validate(ConditionalModel(), StandInData(), verbose=False)
    for row in range(2):
        for column, level in enumerate((0, 128, 255)):
            assert (tile("samples/step-00000000.png", row, column) == level).all()
    for row, level in enumerate((0, 128, 255)):
        for column in range(4):
            assert (tile("interpolation/step-00000000.png", row, column) == level).all()


def test_points_are_drawn_over_real_ones() -> None:
    run = trainer([SampleGrid()])
    run.fit(RingModel(modes=4), RingData())
    pixels = np.asarray(Image.open("logs/run/samples/step-00000004.png")).astype(int)
    red = (pixels == (200, 60, 30)).all(-1)
    grey = (pixels == (190, 200, 215)).all(-1)
    height = pixels.shape[0]
    assert red[: height // 2].sum() > 50  # modes 0 to 3 have y >= 0, which is up
    assert red[height // 2 + 12 :].sum() == 0
    assert grey[height // 2 + 12 :].sum() > 0


def test_mode_coverage_is_logged() -> None:
    for modes in (8, 4):
        run = trainer([ModeCoverage()], logger=False)
        run.fit(RingModel(modes), RingData())
        values = {name: value.item() for name, value in run.callback_metrics.items()}
        assert set(values) == {f"val/{name}-2500" for name in ("modes", "modes_hit", "high_quality", "kl")}
        assert values["val/modes-2500"] == modes
        # four standard errors of a binomial of 2500
        assert values["val/high_quality-2500"] == pytest.approx(0.98889, abs=0.0084)
        assert values["val/kl-2500"] == pytest.approx(math.log(8 / modes), abs=0.01)
        outside = evaluate_points(RingModel(modes), spec=RING_SPEC, split="val")
        assert values == pytest.approx(outside, rel=1e-6)


def test_what_cannot_be_drawn_or_counted_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match="known modes.*'stand_in'"):
        trainer([ModeCoverage()]).fit(StandInModel(), StandInData())
    with pytest.raises(ValueError, match="num_samples=1"):
        ModeCoverage(num_samples=1)
    with pytest.raises(ValueError, match="kind='points'"):
        trainer([LatentInterpolation()]).fit(RingModel(), RingData())
    for arguments in ({"num_samples": 0}, {"columns": 0}, {"every_n_batches": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(arguments))}=0"):
            SampleGrid(**arguments)
    for arguments in ({"rows": 0}, {"steps": 1}, {"path": "straight"}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            LatentInterpolation(**arguments)


def test_paths_between_codes() -> None:
    start, end = torch.eye(3)[:1] * 2, torch.eye(3)[1:2] * 2
    line = linear_interpolation(start, end, 3)
    arc = spherical_interpolation(start, end, 3)
    assert line[0, 1].tolist() == [1, 1, 0]
    torch.testing.assert_close(arc[0, 1], torch.tensor([2**0.5, 2**0.5, 0]))
    torch.testing.assert_close(arc.norm(dim=2), torch.full((1, 3), 2.0))
    for path in (line, arc):
        torch.testing.assert_close(path[:, [0, -1]], torch.stack([start, end], 1))
    many = spherical_interpolation(torch.randn(5, 7), torch.randn(5, 7), 9)
    assert many.shape == (5, 9, 7)
    for other in (start, -start, 3 * start, torch.zeros(1, 3)):  # no arc, or no single one
        assert torch.isfinite(spherical_interpolation(start, other, 4)).all()


def test_grids_show_levels_in_order() -> None:
    images = torch.stack([torch.full((1, 4, 4), level) for level in (-1.0, 0.0, 1.0, 7.0)])
    save_grid(images, (-1, 1), "deep/folder/grid.png", columns=2)
    corners = [tile("deep/folder/grid.png", row, column, 4)[0, 0, 0] for row in (0, 1) for column in (0, 1)]
    assert corners == [0, 128, 255, 255]
    assert image_grid(torch.zeros(5, 3, 4, 4)).size == (20, 14)
    for bad in (torch.zeros(0, 1, 4, 4), torch.zeros(2, 2, 4, 4), torch.zeros(2, 4, 4)):
        with pytest.raises(ValueError, match="1 or 3"):
            image_grid(bad)
    with pytest.raises(ValueError, match="finite points"):
        scatter(torch.full((3, 2), torch.nan))
