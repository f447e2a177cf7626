"""Views and figures of generators: inversion, nearest training images, and the Jacobian."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL.Image import open as open_image
from torch import Tensor

import zoo
from lightning_modules import METHODS, WGANGP
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.metrics.generator_jacobian import evaluate_conditioning
from lightning_modules.metrics.neighbours import nearest_training_images
from lightning_modules.parts.quantization import to_uint8
from lightning_modules.rendering.image_rows import captioned_rows
from lightning_modules.rendering.images import PADDING
from lightning_modules.rendering.spectra import draw_spectrum
from tests.metrics.linear_generator import LATENT, linear_gan
from tests.standins import StandInExtractor
from tests.zoo.running import fails
from zoo.__main__ import main
from zoo.evaluation import EVALUATIONS, evaluate
from zoo.latent_views import HELD_OUT_ROWS, inversion, neighbours, with_neighbours
from zoo.view_request import Request
from zoo.views import views_of


def grid_cell(image: np.ndarray, row: int, column: int, height: int, width: int) -> np.ndarray:
    top, left = PADDING + row * (height + PADDING), PADDING + column * (width + PADDING)
    return image[top : top + height, left : left + width]


@pytest.mark.parametrize("num_classes", [None, 2])
def test_inversions_stand_beside_their_images(num_classes: int | None) -> None:
    module = linear_gan(num_classes)
    labels = None if num_classes is None else torch.tensor([0, 1, 0])
    made = module.decode(torch.randn(3, LATENT, generator=torch.Generator().manual_seed(0)), labels=labels)
    request = Request(module, 3, torch.Generator().manual_seed(0), made, labels)
    image = np.asarray(inversion(request))
    for pair in range(3):
        real, found = (grid_cell(image, 0, 2 * pair + side, 3, 4).astype(int) for side in (0, 1))
        assert abs(real - found).max() <= 1
        assert real.std() > 1


class Copying:
    """Samples training images, and images that are none."""

    num_classes, has_data_spec = None, True
    data_spec = replace(linear_gan().data_spec, shape=(1, 6, 6))

    def __init__(self, training: Tensor) -> None:
        self.training_images = training

    def sample(self, num: int, *, generator: torch.Generator) -> Tensor:
        return self.training_images[:num].float() / 127.5 - 1


def test_a_copy_stands_beside_the_training_image_that_it_is_of() -> None:
    generator = torch.Generator().manual_seed(0)
    training, held_out = (
        torch.randint(256, (num, 1, 6, 6), generator=generator, dtype=torch.uint8) for num in (40, 20)
    )
    module: Any = Copying(training[5:])
    request = Request(module, 2, generator, held_out, training=training, extractor=StandInExtractor())
    image = neighbours(request)
    rows, width = 2 + HELD_OUT_ROWS, 2 * (PADDING + 10 * (6 + PADDING))
    assert image.height == 2 * (PADDING + rows * (6 + PADDING))
    grid = np.asarray(image)[::2, image.width - width :: 2, 0]
    for row in range(2):
        sample, nearest, second = (grid_cell(grid, row, column, 6, 6) for column in range(3))
        assert np.array_equal(sample, training[5 + row, 0].numpy())
        assert np.array_equal(nearest, sample)
        assert not np.array_equal(second, sample)
    for row in range(HELD_OUT_ROWS):
        assert np.array_equal(grid_cell(grid, 2 + row, 0, 6, 6), held_out[row, 0].numpy())


def test_every_row_has_a_caption() -> None:
    images = torch.zeros(2, 3, 1, 4, 4)
    empty, written = captioned_rows(images, ["", ""]), np.asarray(captioned_rows(images, ["", "word"]))
    assert empty.height == written.shape[0]
    left = written[:, : written.shape[1] - empty.width + 1, 0]
    upper, lower = np.array_split(left, 2)
    assert upper.min() == 255
    assert lower.min() < 128
    with pytest.raises(ValueError, match="1 captions for 2 rows"):
        captioned_rows(images, ["a"])


def test_a_spectrum_is_plotted_downwards() -> None:
    image = np.asarray(draw_spectrum(torch.logspace(2, -2, 30, dtype=torch.float64).repeat(4, 1))).astype(int)
    line = (image[..., 2] - image[..., 0] > 100).nonzero()
    rows = [np.mean(line[0][line[1] == column]) for column in sorted(set(line[1].tolist()))]
    assert len(rows) > 300
    assert all(np.diff(rows) >= 0), "the values fall, and rows are counted from the top"


def test_a_collapsed_generator_has_metrics_but_no_condition_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its FID is what one wants to know then."""
    module = WGANGP(shape=[1, 28, 28], latent_dim=4, width=4)
    module.data_spec = zoo.load("wgan_gp.fashion_mnist").data_spec
    with torch.no_grad():
        module.generator.output[0].weight.zero_()
    zoo.save(module, tmp_path / "collapsed", samples=False)
    with pytest.warns(UserWarning, match="There is no condition number: All derivatives of the generator at a code"):
        values = evaluate(zoo.card(str(tmp_path / "collapsed")), num_samples=500, samples_only=True)
    assert values["test/fid-fashion_mnist-500"] > 10
    assert "test/log_condition_number-64" not in values
    capsys.readouterr()
    error = fails(["draw", str(tmp_path / "collapsed"), "jacobian", "--out", str(tmp_path / "x.png")], capsys)
    assert "All derivatives of the generator at a code are zero" in error
    assert not (tmp_path / "x.png").exists()


GANS = [name for name in zoo.names("*.fashion_mnist*") if issubclass(METHODS[zoo.card(name).method], AdversarialModule)]


@pytest.mark.parametrize("name", GANS)
def test_gans_of_images_have_all_views_and_the_figure(name: str) -> None:
    module = zoo.load(name)
    assert {"interpolation", "inversion", "neighbours", "jacobian"} <= set(views_of(module))
    assert EVALUATIONS["conditioning"].applies(module)
    recorded = zoo.card(name).metrics["test/log_condition_number-64"]
    (few,) = evaluate_conditioning(module, num_codes=4).values()
    # Over codes the standard deviation is at most 1.3 nats: four of them are within 5 standard errors.
    assert few == pytest.approx(recorded, abs=3.3)


def test_others_do_not() -> None:
    for name, views in (("wgan_gp.ring8", {"jacobian"}), ("vae.fashion_mnist", {"neighbours"})):
        module = zoo.load(name)
        assert {"inversion", "neighbours", "jacobian"} & set(views_of(module)) == views
        assert not EVALUATIONS["conditioning"].applies(module)


def test_the_command_draws_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "spectrum.png"
    assert main(["draw", "sngan.fashion_mnist", "jacobian", "--num", "2", "--out", str(out)]) == 0
    with open_image(out) as image:
        assert image.size == (480, 320)
    assert "jacobian" in fails(["draw", "vae.fashion_mnist", "jacobian"], capsys)


@pytest.mark.usefixtures("fashion_mnist")
def test_held_out_images_come_with_their_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datamodules import FashionMNIST

    asked: dict[str, Tensor] = {}

    def instead(module: Any, x: Tensor, *, labels: Tensor, **_: object) -> Any:
        asked.update(x=x, labels=labels)
        return type("Found", (), {"codes": module.sample_latent(len(x))})

    monkeypatch.setattr("zoo.latent_views.invert", instead)
    out = tmp_path / "inverted.png"
    assert main(["draw", "sngan.fashion_mnist.conditional", "inversion", "--num", "3", "--out", str(out)]) == 0
    assert torch.equal(asked["labels"], FashionMNIST().images("test")[1][:3])
    with open_image(out) as image:
        assert image.size == (6 * 30 + 2, 32)


def test_the_scale_is_of_held_out_images_of_all_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test images of a folder are in the order of their classes."""
    images = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)  # two classes of 128
    data = SimpleNamespace(images=lambda split: (images, torch.arange(256) // 128))
    monkeypatch.setattr("zoo.latent_views.datamodule_of", lambda card, data_dir=None: data)
    monkeypatch.setattr("zoo.latent_views.load_extractor", lambda name: StandInExtractor())
    request = Request(linear_gan(), 2, torch.Generator().manual_seed(0), extractor_name="any")
    shown = [with_neighbours(request, zoo.card("sngan.fashion_mnist")).real[:, 0, 0, 0] for _ in range(2)]
    assert torch.equal(*shown)
    assert 30 < (shown[0] < 128).sum() < 70
    assert len(shown[0].unique()) == 100


@pytest.mark.slow
@pytest.mark.usefixtures("fashion_mnist")
def test_a_shipped_gan_does_not_copy_its_training_images() -> None:
    """Its samples are further from them than new images are (1.6 times, measured); copies would be at distance 0."""
    card, module = zoo.card("sngan.fashion_mnist"), zoo.load("sngan.fashion_mnist")
    request = with_neighbours(Request(module, 100, torch.Generator().manual_seed(0)), card)
    assert request.extractor is not None
    samples = to_uint8(module.sample(100, generator=request.generator), (-1.0, 1.0))
    found = nearest_training_images(request.extractor, samples, request.real, request.training)
    assert 1.2 < found.relative_distance < 2
    assert found.samples.distances.min() > 0
