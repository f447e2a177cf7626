"""Views of checkpoints: which a module has, and that their images show what they say."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL.Image import Image
from PIL.Image import open as open_image
from torch import Tensor

import zoo
from datamodules import Batch, Ring, SyntheticImages
from lightning_modules import ALI, VAE, FlowMatching, GibbsNet, PixelCNNPlusPlus
from lightning_modules.adversarial.joint_game import JointModule
from tests.captioned import WORDS, tokens_of, with_words
from tests.zoo.running import fails
from tests.zoo.sequence_checkpoints import SPECS, built
from zoo.__main__ import main
from zoo.arguments import build_parser
from zoo.errors import ZooError
from zoo.views import (
    FRAMES,
    STEPS,
    VIEWS,
    Request,
    check_view,
    circles,
    completion,
    interpolation,
    reconstructions,
    traversal,
    views_of,
    write_view,
)

SPEC = SyntheticImages(shape=[1, 8, 8], num_classes=2, size=8).spec


class Everything:
    """Answers every view of images with images that say where they come from."""

    data_spec, has_data_spec, num_classes = SPEC, True, None

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def reconstruct(self, x: Tensor) -> Tensor:
        return -x

    def sample_latent(self, num: int, *, generator: torch.Generator) -> Tensor:
        return torch.randn(num, 4, generator=generator)

    def decode(self, z: Tensor) -> Tensor:
        return z[:, :1, None, None].clamp(-1, 1).expand(-1, 1, 8, 8)

    def traverse(self, z: Tensor, dimension: int, values: Tensor) -> Tensor:
        return (values / 3).view(1, -1, 1, 1, 1).expand(1, -1, 1, 8, 8)

    def complete(self, x: Tensor, known_rows: int, *, generator: torch.Generator) -> Tensor:
        done = x.clone()
        done[:, :, known_rows:] = 1
        return done


def request(num: int = 3) -> Request:
    return Request(Everything(), num, torch.Generator().manual_seed(0), torch.zeros(num, 1, 8, 8))


def cell(image: Image, row: int, column: int) -> np.ndarray:
    """One 8x8 image of a grid with a border of 2."""
    return np.asarray(image)[2 + 10 * row : 10 + 10 * row, 2 + 10 * column : 10 + 10 * column]


@pytest.mark.parametrize("method", [ALI, GibbsNet])
def test_joint_games_show_reconstructions_and_interpolations(method: type[JointModule]) -> None:
    module = method.for_data(SPEC, width=2, latent_dim=3)
    assert views_of(module) == ["reconstructions", "interpolation", "inversion", "neighbours", "jacobian"]
    real = 2 * torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) - 1
    grid = reconstructions(Request(module, 2, torch.Generator().manual_seed(0), real))
    for column, expected in ((0, real[0, 0]), (1, module.reconstruct(real)[0, 0]), (2, real[1, 0])):
        shown = torch.from_numpy(cell(grid, 0, column).astype("float32")).view(8, 8, -1)[..., 0]
        torch.testing.assert_close(shown, (expected + 1) * 127.5, atol=1.0, rtol=0)
    assert interpolation(Request(module, 2, torch.Generator().manual_seed(0))).width == 2 + STEPS * 10


def test_a_module_has_the_views_of_what_it_can() -> None:
    assert views_of(Everything()) == ["reconstructions", "interpolation", "traversal", "completion"]
    assert views_of(SimpleNamespace(data_spec=Ring().spec, has_data_spec=True, energy=None)) == ["energy"]
    with pytest.raises(ZooError, match=r"\bx\b.*Everything.*'filters'.*reconstructions, interpolation"):
        check_view(Everything(), "x", "filters")
    with pytest.raises(ZooError, match=r"\bx\b.*SimpleNamespace.*'energy'.*python -m zoo sample"):
        check_view(SimpleNamespace(data_spec=SPEC, has_data_spec=True), "x", "energy")


def test_the_help_names_all_views() -> None:
    shown = " ".join(build_parser().subcommand("draw").format_help().split())
    assert [name for name in VIEWS if name not in shown] == []


def test_a_module_without_recorded_data_has_no_views() -> None:
    assert views_of(SimpleNamespace(has_data_spec=False, energy=None, filters=None)) == []


def test_reconstructions_stand_beside_their_images() -> None:
    shown = request()
    shown.real[1] = 1.0
    image = reconstructions(shown)
    assert cell(image, 0, 2).mean() == 255
    assert cell(image, 0, 3).mean() == 0


def test_traversals_go_from_one_end_to_the_other() -> None:
    image = traversal(request())
    levels = [cell(image, 2, column).mean() for column in range(STEPS)]
    assert levels[0] == 0
    assert levels[-1] == 255
    assert levels == sorted(levels)


class Conditional(Everything):
    """Decodes each code to the grey of its class."""

    num_classes = 3  # type: ignore[assignment]

    def decode(self, z: Tensor, *, labels: Tensor | None = None) -> Tensor:
        assert labels is not None
        return (labels - 1.0).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)


def test_a_row_of_an_interpolation_leads_from_one_code_to_another() -> None:
    asked = request()
    generator = torch.Generator().manual_seed(0)
    start, end = (asked.module.sample_latent(3, generator=generator) for _ in range(2))
    image = interpolation(asked)
    for column, codes in ((0, start), (STEPS - 1, end)):
        expected = (asked.module.decode(codes)[:, 0, 0, 0] + 1) * 127.5
        shown = torch.tensor([float(cell(image, row, column).mean()) for row in range(3)])
        torch.testing.assert_close(shown, expected, atol=1.0, rtol=0)


def test_a_row_of_an_interpolation_keeps_its_class() -> None:
    image = interpolation(Request(Conditional(), 3, torch.Generator().manual_seed(0)))
    for row, level in enumerate((0, 128, 255)):
        for column in range(STEPS):
            assert (cell(image, row, column) == level).all()


def test_a_circle_goes_through_two_codes_and_their_opposites() -> None:
    asked = request()
    generator = torch.Generator().manual_seed(0)
    start, end = (asked.module.sample_latent(3, generator=generator) for _ in range(2))
    frames = circles(asked)
    assert len(frames) == FRAMES
    for frame, codes in ((0, start), (FRAMES // 4, end), (FRAMES // 2, -start), (3 * FRAMES // 4, -end)):
        expected = (asked.module.decode(codes)[:, 0, 0, 0] + 1) * 127.5
        shown = torch.tensor([float(cell(frames[frame], 0, column).mean()) for column in range(3)])
        torch.testing.assert_close(shown, expected, atol=1.0, rtol=0)


def test_a_circle_has_a_column_for_each_class() -> None:
    frames = circles(Request(Conditional(), 6, torch.Generator().manual_seed(0)))
    for row in range(2):
        for column, level in enumerate((0, 128, 255)):
            assert (cell(frames[5], row, column) == level).all()


def test_a_view_is_written_as_its_extension_says(tmp_path: Path) -> None:
    view = VIEWS["interpolation"]
    write_view(view, request(), tmp_path / "new/still.PNG")
    with open_image(tmp_path / "new/still.PNG") as image:
        assert image.format == "PNG"
    write_view(view, request(), tmp_path / "other/moving.gif")
    with open_image(tmp_path / "other/moving.gif") as image:
        assert image.format == "GIF"
        assert getattr(image, "n_frames") == FRAMES  # noqa: B009
    with pytest.raises(ZooError, match=r"x\.jpg.*'\.jpg'.*\.png.*\.gif"):
        write_view(view, request(), tmp_path / "x.jpg")
    with pytest.raises(ZooError, match=r"x\.gif.*'\.gif'.*\.png"):
        write_view(VIEWS["traversal"], request(), tmp_path / "x.gif")


def test_completions_keep_the_upper_half() -> None:
    image = completion(request())
    assert cell(image, 1, 1)[4:].max() == 0
    done = cell(image, 1, 2)
    assert done[:4].min() == done[:4].max() == 128
    assert done[4:].min() == 255


class Labelled(Conditional):
    """Shows the class that it is given in every view."""

    def encode(self, x: Tensor, *, labels: Tensor | None = None) -> Tensor:
        return x.flatten(1)

    def reconstruct(self, x: Tensor, *, labels: Tensor | None = None) -> Tensor:
        return self.decode(x, labels=labels)

    def traverse(self, z: Tensor, dimension: int, values: Tensor, *, labels: Tensor | None = None) -> Tensor:
        return self.decode(z, labels=labels)[:, None].expand(-1, len(values), -1, -1, -1)

    def complete(
        self, x: Tensor, known_rows: int, *, labels: Tensor | None = None, generator: torch.Generator
    ) -> Tensor:
        return self.decode(x, labels=labels)


def test_views_of_held_out_images_are_given_their_classes() -> None:
    asked = replace(request(), module=Labelled(), labels=torch.tensor([2, 0, 1]))
    greys = [255, 0, 128]
    pairs = reconstructions(asked)
    assert [round(cell(pairs, 0, 2 * row + 1).mean()) for row in range(3)] == greys
    completed = completion(asked)
    for column in range(2, STEPS):
        assert [round(cell(completed, row, column).mean()) for row in range(3)] == greys
    assert cell(traversal(asked), 0, 0).mean() == 0, "the first class"


@pytest.mark.parametrize("condition", [{"num_words": len(WORDS)}, {"num_classes": 2}], ids=["captions", "classes"])
def test_conditional_models_have_all_views_that_are_listed(condition: dict[str, int]) -> None:
    """Of each method whose views take examples or codes, with no more images than there are."""
    spec = with_words(SPEC)
    batch = Batch(-torch.ones(3, 1, 8, 8), torch.tensor([1, 0, 1]), tokens_of(3))
    settings: dict[type, dict[str, Any]] = {
        VAE: {"architecture": "mlp", "hidden": 4, "depth": 1},
        FlowMatching: {"width": 4, "depth": 1, "steps": 2},
        PixelCNNPlusPlus: {"width": 4, "num_scales": 1},
    }
    for method, small in settings.items():
        module: Any = method.for_data(spec, **small, **condition)  # type: ignore[attr-defined]
        labels = module.condition(batch)
        asked = Request(module, 8, torch.Generator().manual_seed(0), batch.x, labels=labels)
        shown = {"reconstructions", "interpolation", "traversal", "completion"} & set(views_of(module))
        assert shown
        for name in shown:
            assert VIEWS[name].draw(asked).width > 10


def test_the_command_writes_an_image_or_says_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.png"
    assert main(["draw", "vae.fashion_mnist", "traversal", "--num", "2", "--out", str(out)]) == 0
    assert "Wrote" in capsys.readouterr().out
    with open_image(out) as image:
        assert image.size == (2 + 30 * STEPS, 2 + 30 * 2)
    error = fails(["draw", "gaussian_mixture.grid25", "energy"], capsys)
    for fact in ("gaussian_mixture.grid25", "GaussianMixture", "'energy'"):
        assert fact in error


def test_samples_have_a_temperature_where_the_method_has_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = []
    for heat in ("0.2", "1.0"):
        out = tmp_path / f"{heat}.png"
        assert main(["sample", "vae.fashion_mnist", "--num", "4", "--temperature", heat, "--out", str(out)]) == 0
        written.append(out.read_bytes())
    assert written[0] != written[1]
    capsys.readouterr()
    error = fails(["sample", "wgan_gp.ring8", "--temperature", "0.5"], capsys)
    for fact in ("wgan_gp.ring8", "WGANGP", "temperature"):
        assert fact in error


@pytest.mark.parametrize(
    ("kind", "size"), [("text", None), ("music", None), ("pixels", (8 * 6 + 2, 7 * 6 + 2)), ("video", (62, 142))]
)
def test_draw_continuation(
    kind: str, size: tuple[int, int] | None, saved: Path, held_out: dict[str, tuple[Tensor, Tensor]]
) -> None:
    x, lengths = held_out[SPECS[kind].name]
    lengths.fill_(x.shape[1])
    assert main(["draw", str(saved / kind), "continuation", "--num", "7"]) == 0
    with open_image(f"{kind}.continuation.png") as image:
        assert size in (None, image.size)


def test_every_sequence_can_be_continued_and_no_point_can(saved: Path) -> None:
    assert all("continuation" in views_of(built(kind)) for kind in SPECS)
    assert "continuation" not in views_of(zoo.load(str(saved / "ring")))
