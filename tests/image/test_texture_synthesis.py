"""Texture synthesis: the statistics of the exemplar, at any size, with or without borders."""

from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.spec import Batch
from lightning_modules import TextureSynthesis
from tests.image.small_images import SmallFeatures, data_of, fit, method


def test_the_loss_is_zero_at_the_exemplar_and_at_a_torus_shifted_by_anything() -> None:
    exemplar = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    module = TextureSynthesis((3, 64, 64), features="random", num_scales=1)
    module.use_features(SmallFeatures())
    module.prepare(Batch(exemplar), 0)
    assert float(module.losses(exemplar)["gram"]) == 0
    assert float(module.losses(exemplar.mean((2, 3), keepdim=True).expand_as(exemplar))["gram"]) > 0.01


def test_the_gram_distance_falls_a_thousandfold_at_another_size(tmp_path: Path) -> None:
    data = data_of(tmp_path, "TextureSynthesis")
    begun, module = (method("TextureSynthesis", data, size=[48, 40]) for _ in range(2))
    first = fit(begun, data, 1).callback_metrics["train/gram"]
    assert fit(module, data, 60).callback_metrics["train/gram"] < first / 1000
    assert module.image().shape == (1, 3, 48, 40)


def test_borders_of_a_seamless_texture_fit_together(tmp_path: Path) -> None:
    """Across the border neighbours differ as much as elsewhere: the seam of a plain texture stands out."""
    data = data_of(tmp_path, "TextureSynthesis", (64, 64))
    ratios = []
    for seamless in (True, False):
        module = method("TextureSynthesis", data, seamless=seamless, variation_weight=0.3)
        fit(module, data, 40)
        x = module.image()
        inside = x.diff(dim=3).square().mean() + x.diff(dim=2).square().mean()
        across = (x[..., 0] - x[..., -1]).square().mean() + (x[..., 0, :] - x[..., -1, :]).square().mean()
        ratios.append(float(across / inside))
    assert ratios[0] < 2 < ratios[1]


@pytest.mark.parametrize("size", [[64], [0, 64], [64, 64, 3]])
def test_a_size_is_height_and_width(size: list[int]) -> None:
    with pytest.raises(ValueError, match=r"must be \[height, width\]"):
        TextureSynthesis(size=size)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variation_weight": -1.0}, r"variation_weight=-1\.0"),
        ({"size": [16, 512]}, r"num_scales=2 begins with 256 x 8"),
    ],
)
def test_arguments_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextureSynthesis(**settings)
