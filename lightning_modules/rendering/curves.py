"""Plots curves of exposure bias: one panel per metric, one line per checkpoint."""

import re
from collections.abc import Mapping

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from lightning_modules.metrics.sequence import Curve

PANEL = (3.2, 2.8)  # inches
DOTS = 100  # per inch


def draw_curves(curves: Mapping[str, Mapping[str, Curve]]) -> Image.Image:
    """Plots the excess of divergences over their floors, as a function of the number of free-running steps.

    Args:
        curves: Name of a checkpoint -> name of a metric -> curve, as ``exposure_curves`` returns them. A metric that
            only some checkpoints have is plotted for those.

    Raises:
        ValueError: If there is no curve.
    """
    metrics = list(dict.fromkeys(metric for found in curves.values() for metric in found))
    if not metrics:
        raise ValueError("There is no curve to draw.")
    figure = Figure(figsize=(PANEL[0] * len(metrics), PANEL[1]), dpi=DOTS, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        axes.axhline(0, color="0.6", linewidth=1, linestyle="dotted")
        for index, found in enumerate(curves.values()):
            if metric in found:
                curve = found[metric]
                axes.plot(curve.starts + curve.window / 2, curve.excess, marker=".", color=f"C{index}")
        axes.set_title(_title(metric), fontsize="small")
        axes.set_xlabel("steps after the last true one", fontsize="small")
        axes.tick_params(labelsize="small")
    handles = [Line2D([], [], marker=".", color=f"C{index}") for index in range(len(curves))]
    figure.legend(handles, list(curves), loc="outside lower center", ncols=len(curves), fontsize="small")
    canvas.draw()
    return Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba())).convert("RGB")


def _title(metric: str) -> str:
    if found := re.fullmatch(r"js_(\d+)gram", metric):
        return f"{found[1]}-grams: divergence\nabove its floor, nats"
    return "hidden states: Frechet distance\nabove its floor, variances"
