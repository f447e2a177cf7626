"""Pen drawings as pictures: SVG, whose lines stay lines, and PNG.

A drawing is steps (dx, dy, pen lifted after it) from wherever the pen was; x grows to the right and y downwards. The
pen comes down at the first point.
"""

import math
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from lightning_modules.parts.pictures import FAKE_COLOUR, GIVEN_COLOUR, INK

CELL, MARGIN = 72, 8  # pixels
PEN = 1.6  # pixels
SMOOTH = 4  # a PNG is drawn so many times larger first
SMALLEST = 0.25  # drawings are enlarged to fill their cells, but none more than as if it were so large as the largest


def lines(drawing: Tensor, first: int = 0, last: int | None = None) -> list[Tensor]:
    """Returns what the pen draws in steps ``first`` to ``last``, each line as its points (P, 2).

    Args:
        drawing: (T, 3).
        first: The first step; a line that the pen was drawing then begins where it was.
        last: The step after the last; by default all are drawn.

    Raises:
        ValueError: If the shape is another, or a number is NaN or infinite.
    """
    if drawing.ndim != 2 or drawing.shape[1] != 3 or not torch.isfinite(drawing).all():
        raise ValueError(f"A drawing must be finite steps (T, 3), not {tuple(drawing.shape)}.")
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
        given: The first so many steps of each are grey: they were not drawn by the model. The others are then red.
        real: Drawings that are black throughout, by index: no step of them was drawn by the model.
        columns: Drawings a row; by default as many as make the sheet about square.

    Raises:
        ValueError: If there is no drawing, or one is no drawing.
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
        """Returns where the origin of each drawing lies on the sheet, in pixels."""
        return [
            (
                (index % self.columns + 0.5) * CELL - zoom * x,
                (index // self.columns + 0.5) * CELL - zoom * y,
            )
            for index, (zoom, (x, y)) in enumerate(zip(self.zooms, self.centres, strict=True))
        ]

    def svg(self, scale: float = 1.0) -> str:
        """Returns the sheet as SVG; each drawing is a group whose paths are in the pixels of the public data.

        Args:
            scale: Such pixels in one unit of the drawings.
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
                    # The pen is as wide in a small drawing as in a large one.
                    text.append(f'<path d="{path}" stroke="rgb{colour}" vector-effect="non-scaling-stroke"/>')
            text.append("</g>")
        return "\n".join([*text, "</g>", "</svg>", ""])

    def picture(self) -> Image.Image:
        """Returns the sheet as a picture."""
        width, height = self.size
        large = Image.new("RGB", (width * SMOOTH, height * SMOOTH), "white")
        pen = ImageDraw.Draw(large)
        radius = SMOOTH * PEN / 2
        for layers, zoom, shift in zip(self.layers, self.zooms, self.shifts(), strict=True):
            for colour, drawn in layers:
                for line in drawn:
                    places = ((line * zoom + torch.tensor(shift)) * SMOOTH).tolist()
                    pen.line([tuple(place) for place in places], fill=colour, width=round(2 * radius), joint="curve")
                    for x, y in (places[0], places[-1]):  # round ends, and points that are no lines
                        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
        return large.reduce(SMOOTH)


def _points(layers: list[tuple[tuple[int, int, int], list[Tensor]]]) -> Tensor:
    found = [line for _, drawn in layers for line in drawn]
    return torch.cat(found) if found else torch.zeros(1, 2, dtype=torch.float64)


def _path(line: Tensor) -> str:
    points = [f"{x:.2f} {y:.2f}" for x, y in line.tolist()]
    # A path of one point draws nothing unless it goes there.
    return f"M{points[0]} L" + " ".join(points[1:] or points)
