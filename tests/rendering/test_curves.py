"""Plots of exposure bias."""

import numpy as np
import pytest
import torch

from datamodules import MarkovSource
from lightning_modules import TeacherForcing
from lightning_modules.metrics.exposure_bias import exposure_curves, real_sequences
from lightning_modules.metrics.sequence import Curve
from lightning_modules.rendering.curves import DOTS, PANEL, draw_curves


def test_each_metric_has_a_panel_and_each_checkpoint_a_line() -> None:
    data = MarkovSource(length=24, test_size=40, order=1)
    real = real_sequences(data, "test", 24)
    torch.manual_seed(0)
    module = TeacherForcing.for_data(data.spec, width=8)
    curves = exposure_curves(module, real, prefix=4, window=10, orders=(1, 2), components=4)
    image = np.asarray(draw_curves({"one": curves}))
    assert image.shape == (round(DOTS * PANEL[1]), round(3 * DOTS * PANEL[0]), 3)
    both = np.asarray(draw_curves({"one": curves, "two": {"js_1gram": curves["js_2gram"]}}))
    third = image.shape[1] // 3
    assert not np.array_equal(image[:, :third], both[:, :third])
    lower = Curve(torch.arange(2), 1, torch.tensor([0.1, 0.2]), torch.zeros(2))
    assert draw_curves({"x": {"hidden_frechet": lower}}).size[0] == round(DOTS * PANEL[0])


@pytest.mark.parametrize("curves", [{}, {"one": {}}])
def test_no_curve_is_an_error(curves: dict[str, dict[str, Curve]]) -> None:
    with pytest.raises(ValueError, match="curve"):
        draw_curves(curves)
