"""Text drawn in a typewriter's letters: every character where it belongs."""

import numpy as np
import pytest
import torch

from lightning_modules.rendering.images import GIVEN_COLOUR, INK
from lightning_modules.rendering.text_images import MARGIN, SIZE, placed, text_image, typewriter


def test_lines_end_at_line_feeds_and_when_they_are_full() -> None:
    assert list(placed("ab\ncdef", 3)) == [
        (0, 0, "a"), (0, 1, "b"), (0, 2, " "), (1, 0, "c"), (1, 1, "d"), (1, 2, "e"), (2, 0, "f"),
    ]  # fmt: skip
    assert [place[:2] for place in placed("abc\nd", 3)] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    assert [letter for *_, letter in placed("a\x1b\u0301é", 9)] == ["a", "\ufffd", "\u0301", "é"]


def test_letters_are_where_they_belong() -> None:
    image = np.asarray(text_image(["x  x\n   x", "x"], columns=10)).min(2) < 128
    letter, line = typewriter().getlength("x"), SIZE + 3

    def inked(top: float, column: int) -> bool:
        left = MARGIN + column * letter
        return bool(image[int(top) : int(top) + line - 1, int(left) + 1 : int(left + letter)].any())

    assert [inked(MARGIN, column) for column in range(5)] == [True, False, False, True, False]
    assert [inked(MARGIN + line, column) for column in range(5)] == [False, False, False, True, False]
    second = 2 * line + 3 * MARGIN
    assert [inked(second, column) for column in range(5)] == [True, False, False, False, False]
    assert image.shape == (3 * line + 4 * MARGIN, round(10 * letter) + 2 * MARGIN)


def test_what_was_given_is_grey() -> None:
    image = torch.from_numpy(np.array(text_image(["||||"], given=2)))
    letter = typewriter().getlength("|")
    for column, colour in enumerate([GIVEN_COLOUR, GIVEN_COLOUR, INK, INK]):
        left = MARGIN + column * letter
        seen = image[:, int(left) : int(left + letter)].reshape(-1, 3)
        assert seen.amin(0).tolist() == pytest.approx(list(colour), abs=25)


@pytest.mark.parametrize(("texts", "columns"), [([], 10), (["a"], 0)])
def test_nothing_to_draw_is_an_error(texts: list[str], columns: int) -> None:
    with pytest.raises(ValueError, match=rf"\b{len(texts)}\b.*\b{columns}\b"):
        text_image(texts, columns=columns)


def test_an_empty_text_has_a_line() -> None:
    assert text_image([""]).height == text_image(["a"]).height
