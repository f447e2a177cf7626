"""Clips as strips and as GIF: every frame is where and when it belongs."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from lightning_modules.rendering.images import FAKE_COLOUR, PADDING
from lightning_modules.rendering.video import GREY, MILLISECONDS, WHITE, ZOOM, animation, strips

SIDE = 6
CELL = SIDE + PADDING


def random_clips(num: int, num_frames: int = 5, channels: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (num, num_frames, channels, SIDE, SIDE), generator=generator) / 255


def cell(image: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = PADDING + row * CELL, PADDING + column * CELL
    return image[top : top + SIDE, left : left + SIDE]


def levels(frame: Tensor) -> np.ndarray:
    return np.broadcast_to((frame * 255).round().to(torch.uint8).permute(1, 2, 0).numpy(), (SIDE, SIDE, 3))


def test_a_strip_is_a_row_of_frames() -> None:
    clips = random_clips(3)
    image = np.asarray(strips(clips, (0.0, 1.0)).convert("RGB"))
    assert image.shape[:2] == (3 * CELL + PADDING, 5 * CELL + PADDING)
    for row in range(3):
        for t in range(5):
            assert (cell(image, row, t) == levels(clips[row, t])).all()


def test_true_frames_stand_above_and_a_red_line_after_those_given() -> None:
    clips, truth = random_clips(2), list(random_clips(2, num_frames=4, seed=1))
    image = np.asarray(strips(clips, (0.0, 1.0), given=2, truth=truth))
    for clip in range(2):
        for t in range(5):
            assert (cell(image, 2 * clip + 1, t) == levels(clips[clip, t])).all()
            above = np.full((SIDE, SIDE, 3), 255) if t == 4 else levels(truth[clip][t])
            assert (cell(image, 2 * clip, t) == above).all()
    line = (image == FAKE_COLOUR).all(2)
    assert set(np.nonzero(line)[1]) == {2 * CELL, 2 * CELL + 1}
    assert line[:, 2 * CELL].sum() == image.shape[0] - PADDING + 1


@pytest.mark.parametrize("with_truth", [False, True])
def test_a_gif_read_back_is_the_clip(with_truth: bool) -> None:
    clips, truth = random_clips(6), list(random_clips(6, seed=1)) if with_truth else []
    columns = 8 if with_truth else 4
    with Image.open(BytesIO(animation(clips, (0.0, 1.0), given=2, truth=truth))) as gif:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]
        assert gif.info["loop"] == 0
        assert gif.info["duration"] == MILLISECONDS
    assert len(frames) == 5
    for t, frame in enumerate(frames):
        small = frame[::ZOOM, ::ZOOM]
        assert (frame == small.repeat(ZOOM, 0).repeat(ZOOM, 1)).all()
        assert (small[0] == (GREY if t < 2 else WHITE)).all()
        for index in range(6):
            place = 2 * index + 1 if with_truth else index
            assert (cell(small, *divmod(place, columns)) == levels(clips[index, t])).all()
            if with_truth:
                assert (cell(small, *divmod(place - 1, columns)) == levels(truth[index][t])).all()


def test_colours_come_out_about_right() -> None:
    clips = torch.zeros(1, 2, 3, SIDE, SIDE)
    clips[0, 0, 0] = clips[0, 1, 2] = 1  # red, then blue
    with Image.open(BytesIO(animation(clips, (0.0, 1.0)))) as gif:
        seen = [frame.convert("RGB").getpixel((8, 8)) for frame in ImageSequence.Iterator(gif)]
    assert seen == [(255, 0, 0), (0, 0, 255)]


def test_broken_clips_are_refused() -> None:
    clips = random_clips(1)
    clips[0, 0, 0, 0, 0] = float("nan")
    for render in (strips, animation):
        with pytest.raises(ValueError, match="NaN"):
            render(clips, (0.0, 1.0))
