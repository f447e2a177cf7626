"""Figures of studies: panels of curves that can be told apart in print and by colour-blind readers.

Curves differ in colour, marker and line. The colours are those of Okabe and Ito,
https://jfly.uni-koeln.de/color/, without the yellow that is too light for paper.
"""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("solid", "dashed", "dashdot", (0, (1, 1)), (0, (5, 1)), (0, (3, 1, 1, 1)), "solid")
PANEL = (4.4, 3.5)  # inches
DOTS = 130  # per inch
NUM_COLOURS = 128  # of a file: those of the curves and their shades


def panels(*titles: str, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Returns a figure with one panel per title, side by side in rows of as many."""
    in_row = len(titles) // rows
    figure = Figure(figsize=(PANEL[0] * in_row, PANEL[1] * rows), dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    row = list(figure.subplots(rows, in_row, squeeze=False).flat)
    for axes, title in zip(row, titles, strict=True):
        axes.set_title(title, fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, row


def curve(
    axes: Axes,
    x: Sequence[float],
    y: Sequence[float],
    number: int,
    label: str | None = None,
    errors: Sequence[float] | None = None,
) -> None:
    """Plots a curve, with bars of one standard error if they are given.

    Args:
        axes: The panel.
        x: Places, (N,).
        y: Values, (N,).
        number: Which curve of the panel it is, from 0: its colour, marker and line.
        label: Its name in the legend.
        errors: Standard errors, (N,).
    """
    kind = number % len(COLOURS)
    style: dict[str, Any] = {
        "color": COLOURS[kind],
        "marker": MARKERS[kind] if len(x) <= 40 else None,
        "linestyle": LINES[kind],
        "markersize": 4.5,
        "linewidth": 1.5,
    }
    axes.errorbar(x, y, yerr=errors, capsize=2, label=label, **style)


def truth(axes: Axes, value: float, label: str) -> None:
    """Draws the exact value that curves are compared with, as a horizontal line."""
    axes.axhline(value, color="0.35", linewidth=1.2, linestyle=(0, (6, 3)), label=label, zorder=1)


def labels(axes: Axes, x: str, y: str, *, legend: bool = True) -> None:
    """Names the axes, and shows the legend."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if legend:
        axes.legend(fontsize="small", frameon=False)


def png(figure: Figure) -> bytes:
    """Returns the figure as a PNG file of 128 colours, a third of the size of one of all, which has no date in it."""
    drawn, reduced = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    image = Image.open(drawn).convert("RGB").quantize(NUM_COLOURS, dither=Image.Dither.NONE)
    image.save(reduced, format="png", optimize=True)
    return reduced.getvalue()
