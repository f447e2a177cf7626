"""Renders pen drawings as SVG, with paths, and as PNG.

A drawing is a sequence of steps (dx, dy, pen lifted after the step) from an arbitrary position; x grows to the right
and y downwards. The first line starts at the first point. Where the pen of a step is 2, the drawing ends with it.
"""

import math
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from datamodules.spec import END_OF_DRAWING
from lightning_modules.parts.checks import check_finite_samples
from lightning_modules.rendering.images import FAKE_COLOUR, GIVEN_COLOUR, INK

CELL, MARGIN = 72, 8  # pixels
PEN = 1.6  # pixels
SMOOTH = 4  # factor by which a PNG is first drawn larger, for smooth lines
SMALLEST = 0.25  # of the largest drawing's extent: a smaller drawing is enlarged only as if it had this extent


def until_end(drawing: Tensor) -> Tensor:
    """Returns the steps of a drawing (T, 3) up to the first whose pen is 2, or all of them."""
    ends = (drawing[:, 2] == END_OF_DRAWING).nonzero().flatten()
    return drawing[: int(ends[0]) + 1] if len(ends) else drawing


def lines(drawing: Tensor, first: int = 0, last: int | None = None) -> list[Tensor]:
    """Returns the lines that the pen draws in steps ``first`` to ``last``, each as its points (P, 2).

    Args:
        drawing: (T, 3).
        first: The first step; if the pen is down before it, the line begins at the previous point.
        last: The step after the last; by default all steps are drawn.

    Raises:
        ValueError: If the shape is another, or a number is NaN or infinite.
    """
    if drawing.ndim != 2 or drawing.shape[1] != 3:
        raise ValueError(f"A drawing must be steps (T, 3), not {tuple(drawing.shape)}.")
    check_finite_samples(drawing, "steps")
    drawing = until_end(drawing).cpu()  # not every device has float64
    points, lifted = drawing[:, :2].double().cumsum(0), drawing[:, 2] > 0.5
    steps = range(len(drawing))[first:last]
    found: list[Tensor] = []
    line = [points[first - 1]] if steps and first > 0 and not lifted[first - 1] else []
    for t in steps:
        line.append(points[t])
        if lifted[t]:
            found.append(torch.stack(line))
            line = []
    return [*found, torch.stack(line)] if line else found


class Sheet:
    """Drawings laid out in rows of equal cells, each centred in its own and enlarged to fill it.

    Args:
        drawings: Steps (T, 3) of each; T may differ.
        given: Number of first steps of each drawing that were not sampled by the model: they are grey, the others red.
        real: Indices of real drawings, which are black.
        columns: Drawings per row; by default the sheet is about square.

    Raises:
        ValueError: If there is no drawing, or one has another shape or a value that is not finite.
    """

    def __init__(
        self, drawings: Sequence[Tensor], given: int = 0, real: Sequence[int] = (), columns: int | None = None
    ) -> None:
        if not drawings:
            raise ValueError("There is no drawing to draw.")
        self.columns = columns or math.ceil(math.sqrt(len(drawings)))
        self.size = self.columns * CELL, -(-len(drawings) // self.columns) * CELL
        self.layers = [
            [(INK, lines(drawing))]
            if index in real or not given
            else [(GIVEN_COLOUR, lines(drawing, 0, given)), (FAKE_COLOUR, lines(drawing, given))]
            for index, drawing in enumerate(drawings)
        ]
        corners = [torch.stack([points.amin(0), points.amax(0)]) for points in map(_points, self.layers)]
        extents = [float((high - low).amax()) for low, high in corners]
        least = max(SMALLEST * max(extents), 1e-6)
        self.zooms = [(CELL - 2 * MARGIN) / max(extent, least) for extent in extents]
        self.centres = [corner.mean(0).tolist() for corner in corners]

    def shifts(self) -> list[tuple[float, float]]:
        """Returns the position of each drawing's origin on the sheet, in pixels."""
        return [
            (
                (index % self.columns + 0.5) * CELL - zoom * x,
                (index // self.columns + 0.5) * CELL - zoom * y,
            )
            for index, (zoom, (x, y)) in enumerate(zip(self.zooms, self.centres, strict=True))
        ]

    def svg(self, scale: float = 1.0) -> str:
        """Returns the sheet as SVG; each drawing is a group whose paths are in pixels of the public data.

        Args:
            scale: Pixels of the public data per unit of the drawings.
        """
        width, height = self.size
        sizes = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        text = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {sizes}>',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            f'<g fill="none" stroke-width="{PEN}" stroke-linecap="round" stroke-linejoin="round">',
        ]
        for layers, zoom, (x, y) in zip(self.layers, self.zooms, self.shifts(), strict=True):
            text.append(f'<g transform="translate({x:.2f} {y:.2f}) scale({zoom / scale:.6g})">')
            for colour, drawn in layers:
                if drawn:
                    path = " ".join(_path(line * scale) for line in drawn)
                    # The stroke width does not depend on the size of the drawing.
                    text.append(f'<path d="{path}" stroke="rgb{colour}" vector-effect="non-scaling-stroke"/>')
            text.append("</g>")
        return "\n".join([*text, "</g>", "</svg>", ""])

    def image(self) -> Image.Image:
        """Returns the sheet as an image."""
        width, height = self.size
        large = Image.new("RGB", (width * SMOOTH, height * SMOOTH), "white")
        pen = ImageDraw.Draw(large)
        radius = SMOOTH * PEN / 2
        for layers, zoom, shift in zip(self.layers, self.zooms, self.shifts(), strict=True):
            for colour, drawn in layers:
                for line in drawn:
                    places = ((line * zoom + torch.tensor(shift)) * SMOOTH).tolist()
                    pen.line([tuple(place) for place in places], fill=colour, width=round(2 * radius), joint="curve")
                    for x, y in (places[0], places[-1]):  # round ends, and lines of a single point
                        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
        return large.reduce(SMOOTH)


def _points(layers: list[tuple[tuple[int, int, int], list[Tensor]]]) -> Tensor:
    found = [line for _, drawn in layers for line in drawn]
    return torch.cat(found) if found else torch.zeros(1, 2, dtype=torch.float64)


def _path(line: Tensor) -> str:
    points = [f"{x:.2f} {y:.2f}" for x, y in line.tolist()]
    # A path of a single point is only visible with a line to that point.
    return f"M{points[0]} L" + " ".join(points[1:] or points)
