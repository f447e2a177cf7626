"""Views of checkpoints: which a module has, and that their pictures show what they say."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor

from datamodules import Ring, SyntheticImages
from lightning_modules.parts.pictures import CANVAS, energy_surface
from zoo.__main__ import main
from zoo.errors import ZooError
from zoo.views import STEPS, Request, check_view, completion, reconstructions, traversal, views_of

SPEC = SyntheticImages(shape=[1, 8, 8], num_classes=2, size=8).spec


class Everything:
    """Answers every view with pictures that say where they come from."""

    data_spec = SPEC

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


def cell(picture: Any, row: int, column: int) -> np.ndarray:
    """One 8x8 picture of a grid with a border of 2."""
    return np.asarray(picture)[2 + 10 * row : 10 + 10 * row, 2 + 10 * column : 10 + 10 * column]


def test_a_module_has_the_views_of_what_it_can() -> None:
    assert views_of(Everything()) == ["reconstructions", "interpolation", "traversal", "completion"]
    assert views_of(SimpleNamespace(data_spec=Ring().spec, energy=None)) == ["energy"]
    with pytest.raises(ZooError, match=r"x is a Everything, which has no view 'filters'\. It has reconstructions,"):
        check_view(Everything(), "x", "filters")
    with pytest.raises(ZooError, match="samples only"):
        check_view(SimpleNamespace(data_spec=SPEC), "x", "energy")


def test_reconstructions_stand_beside_their_pictures() -> None:
    shown = request()
    shown.real[1] = 1.0
    picture = reconstructions(shown)
    assert cell(picture, 0, 2).mean() == 255
    assert cell(picture, 0, 3).mean() == 0


def test_traversals_go_from_one_end_to_the_other() -> None:
    picture = traversal(request())
    levels = [cell(picture, 2, column).mean() for column in range(STEPS)]
    assert levels[0] == 0
    assert levels[-1] == 255
    assert levels == sorted(levels)


def test_completions_keep_the_upper_half() -> None:
    picture = completion(request())
    assert cell(picture, 1, 1)[4:].max() == 0
    done = cell(picture, 1, 2)
    assert done[:4].min() == done[:4].max() == 128
    assert done[4:].min() == 255


def test_an_energy_is_darkest_at_its_least_and_y_points_up() -> None:
    centre = torch.tensor([1.0, 0.5])
    picture = np.asarray(energy_surface(lambda x: (x - centre).square().sum(1) / 0.02, 2.0)).astype(int)
    row, column = np.unravel_index(picture.sum(2).argmin(), picture.shape[:2])
    assert abs(column - 0.75 * CANVAS) < 4
    assert abs(row - (1 - 0.625) * CANVAS) < 4
    with pytest.raises(ValueError, match="diverged"):
        energy_surface(lambda x: x[:, 0] / 0, 1.0)


def test_the_command_writes_a_picture_or_says_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.png"
    assert main(["draw", "vae.fashion_mnist", "traversal", "--num", "2", "--out", str(out)]) == 0
    assert "Wrote" in capsys.readouterr().out
    with PIL.Image.open(out) as picture:
        assert picture.size == (2 + 30 * STEPS, 2 + 30 * 2)
    assert main(["draw", "gaussian_mixture.grid25", "energy"]) == 1
    assert "It has samples only" in capsys.readouterr().err


def test_samples_have_a_temperature_where_the_method_has_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = []
    for heat in ("0.2", "1.0"):
        out = tmp_path / f"{heat}.png"
        assert main(["sample", "vae.fashion_mnist", "--num", "4", "--temperature", heat, "--out", str(out)]) == 0
        drawn.append(out.read_bytes())
    assert drawn[0] != drawn[1]
    assert main(["sample", "wgan_gp.ring8", "--temperature", "0.5"]) == 1
    assert "no temperature" in capsys.readouterr().err
