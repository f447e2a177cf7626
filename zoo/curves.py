"""Curves of exposure bias as one picture: a panel a measure, a line a checkpoint."""

import re
from collections.abc import Mapping

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from lightning_modules.parts.sequence_metrics import Curve

PANEL = (3.2, 2.8)  # inches
DOTS = 100  # an inch


def draw_curves(curves: Mapping[str, Mapping[str, Curve]]) -> Image.Image:
    """Draws what divergences are above their floors, over the steps that a model has run freely.

    Args:
        curves: Name of a checkpoint -> name of a measure -> curve, as ``exposure_curves`` returns them. Measures that
            only some checkpoints have are drawn for those.

    Raises:
        ValueError: If there is no curve.
    """
    measures = list(dict.fromkeys(measure for found in curves.values() for measure in found))
    if not measures:
        raise ValueError("There is no curve to draw.")
    figure = Figure(figsize=(PANEL[0] * len(measures), PANEL[1]), dpi=DOTS, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, measure in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True):
        axes.axhline(0, color="0.6", linewidth=1, linestyle="dotted")
        for index, found in enumerate(curves.values()):
            if measure in found:
                curve = found[measure]
                axes.plot(curve.starts + curve.window / 2, curve.excess, marker=".", color=f"C{index}")
        axes.set_title(_title(measure), fontsize="small")
        axes.set_xlabel("steps after the last true one", fontsize="small")
        axes.tick_params(labelsize="small")
    handles = [Line2D([], [], marker=".", color=f"C{index}") for index in range(len(curves))]
    figure.legend(handles, list(curves), loc="outside lower center", ncols=len(curves), fontsize="small")
    canvas.draw()
    return Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba())).convert("RGB")


def _title(measure: str) -> str:
    if found := re.fullmatch(r"js_(\d+)gram", measure):
        return f"{found[1]}-grams: divergence\nabove its floor, nats"
    return "hidden states: Frechet distance\nabove its floor, variances"
