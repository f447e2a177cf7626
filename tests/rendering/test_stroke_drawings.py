"""Pen drawings: lines begin and end where the pen does, and SVG and PNG show them there."""

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules.rendering.images import FAKE_COLOUR, GIVEN_COLOUR, INK
from lightning_modules.rendering.stroke_drawings import CELL, MARGIN, Sheet, lines

SVG = "{http://www.w3.org/2000/svg}"
# From (1, 2) right by 3 and down by 4; then, lifted, a point; then, lifted, a line up that is never lifted.
DRAWING = torch.tensor(
    [[1.0, 2.0, 0.0], [3.0, 0.0, 0.0], [0.0, 4.0, 1.0], [2.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, -6.0, 0.0]]
)
LINES = [[(1, 2), (4, 2), (4, 6)], [(6, 6)], [(7, 7), (7, 1)]]


def as_points(found: list[Tensor]) -> list[list[tuple[float, ...]]]:
    return [[tuple(point) for point in line.tolist()] for line in found]


def read(svg: str) -> list[list[tuple[str, list[list[tuple[float, float]]]]]]:
    """The drawings of a file: for each the colour and the lines of its paths, in the pixels of the whole sheet."""
    drawings = []
    for group in ElementTree.fromstring(svg).findall(f"{SVG}g/{SVG}g"):
        transform = re.fullmatch(r"translate\((\S+) (\S+)\) scale\((\S+)\)", group.attrib["transform"])
        assert transform is not None
        x, y, zoom = map(float, transform.groups())
        paths = []
        for path in group.findall(f"{SVG}path"):
            found = []
            for piece in path.attrib["d"].split("M")[1:]:
                numbers = list(map(float, piece.replace("L", " ").split()))
                found.append([(x + zoom * a, y + zoom * b) for a, b in zip(numbers[::2], numbers[1::2], strict=True)])
            paths.append((path.attrib["stroke"], found))
        drawings.append(paths)
    return drawings


def test_a_lifted_pen_ends_a_line() -> None:
    assert as_points(lines(DRAWING)) == LINES
    assert lines(DRAWING, 2, 2) == []


def test_a_line_that_continues_begins_where_the_pen_was() -> None:
    assert as_points(lines(DRAWING, 0, 2)) == [[(1, 2), (4, 2)]]
    assert as_points(lines(DRAWING, 2)) == [[(4, 2), (4, 6)], *LINES[1:]]
    assert as_points(lines(DRAWING, 3)) == LINES[1:]


@pytest.mark.parametrize("scale", [1.0, 53.6])
def test_paths_of_a_file_are_the_drawing(scale: float) -> None:
    """Each drawing keeps its shape, is centred in its cell, and fills it but for the margin."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(6, 20, 3, generator=generator)
    steps[..., 2] = (steps[..., 2] > 0.8).float()
    sheet = Sheet(list(steps))
    assert sheet.size == (3 * CELL, 2 * CELL)
    drawings = read(sheet.svg(scale))
    assert len(drawings) == 6
    for index, ((colour, found),) in enumerate(drawings):
        assert colour == f"rgb{INK}"
        expected = lines(steps[index])
        assert [max(len(line), 2) for line in expected] == [len(line) for line in found]
        true = torch.cat([line.expand(max(len(line), 2), 2) for line in expected])
        seen = torch.tensor([point for line in found for point in line], dtype=torch.float64)
        extent = (true.amax(0) - true.amin(0)).max()
        zoom = (CELL - 2 * MARGIN) / extent
        centre = torch.tensor([index % 3 + 0.5, index // 3 + 0.5], dtype=torch.float64) * CELL
        placed = centre + zoom * (true - (true.amax(0) + true.amin(0)) / 2)
        torch.testing.assert_close(seen, placed, rtol=0, atol=0.2)


def test_y_grows_downwards() -> None:
    ((_, ((start, end),)),) = read(Sheet([torch.tensor([[0.0, 0.0, 0.0], [0.0, 5.0, 1.0]])]).svg())[0]
    assert end[1] - start[1] == pytest.approx(CELL - 2 * MARGIN)
    assert end[0] == start[0] == CELL / 2


def test_a_point_is_a_path_that_goes_nowhere() -> None:
    ((_, (line,)),) = read(Sheet([torch.tensor([[3.0, 3.0, 1.0]])]).svg())[0]
    assert line[0] == line[1] == pytest.approx((CELL / 2, CELL / 2))


def test_small_drawings_are_not_blown_up_to_the_size_of_large_ones() -> None:
    large, small = (torch.tensor([[0.0, 0.0, 0.0], [extent, 0.0, 1.0]]) for extent in (100.0, 1.0))
    ((_, (first,)),), ((_, (second,)),) = read(Sheet([large, small]).svg())
    assert second[1][0] - second[0][0] == pytest.approx((first[1][0] - first[0][0]) * 0.01 / 0.25, rel=1e-2)


def test_what_was_given_is_grey_and_what_is_real_is_black() -> None:
    real, made = read(Sheet([DRAWING, DRAWING], given=2, real=[0], columns=2).svg())
    assert [colour for colour, _ in real] == [f"rgb{INK}"]
    assert [(colour, len(found)) for colour, found in made] == [(f"rgb{GIVEN_COLOUR}", 1), (f"rgb{FAKE_COLOUR}", 3)]
    assert made[0][1][0][-1] == made[1][1][0][0], "the lines meet"


def test_the_image_has_ink_where_the_paths_are_and_nowhere_else() -> None:
    sheet = Sheet([DRAWING, DRAWING.flip(0)])
    image = np.asarray(sheet.image()).min(2)
    assert image.shape == (sheet.size[1], sheet.size[0])
    on_paths = np.zeros_like(image, dtype=bool)
    for ((_, found),) in read(sheet.svg()):
        for line in found:
            for (a, b), (c, d) in zip(line, line[1:], strict=False):
                for part in np.linspace(0, 1, 200):
                    x, y = a + part * (c - a), b + part * (d - b)
                    assert image[int(y), int(x)] < 200
                    on_paths[int(y) - 1 : int(y) + 3, int(x) - 1 : int(x) + 3] = True
                    on_paths[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3] = True
    assert (image[~on_paths] == 255).all()


def test_what_is_no_drawing_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("(3, 2)")):
        Sheet([torch.zeros(3, 2)])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_steps_that_are_not_finite_are_counted(value: float) -> None:
    with pytest.raises(ValueError, match="1 of 2 steps are NaN or infinite"):
        Sheet([torch.tensor([[0.0, value, 0.0], [0.0, 0.0, 1.0]])])


def test_a_sheet_needs_a_drawing() -> None:
    with pytest.raises(ValueError, match="drawing"):
        Sheet([])
