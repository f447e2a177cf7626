"""Piano rolls as MIDI and as images, each read back to the exact roll by another route."""

import re
from io import BytesIO

import mido
import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules.rendering.images import FAKE_COLOUR, GIVEN_COLOUR, PADDING
from lightning_modules.rendering.piano_roll import (
    KEY,
    KEYBOARD,
    LOWEST,
    NAMES,
    NUM_NOTES,
    REST,
    TEMPO,
    midi,
    notes,
    roll_image,
)


def random_roll(steps: int, seed: int, density: float = 0.4) -> Tensor:
    return (torch.rand(steps, NUM_NOTES, generator=torch.Generator().manual_seed(seed)) < density).float()


def parsed(content: bytes, steps_per_quarter: int) -> list[Tensor]:
    """Plays a file by the clock of a player, in seconds, and writes down at each half step which keys are down."""
    file = mido.MidiFile(file=BytesIO(content))
    seconds_per_step = 60 / TEMPO / steps_per_quarter
    now = 0.0
    down: dict[int, float] = {}
    begins: list[float] = []
    spans: list[tuple[int, float, float]] = []
    for message in file:
        now += message.time
        if message.type == "marker":
            begins.append(now)
        elif message.type == "note_on" and message.velocity > 0:
            assert message.note not in down, "a key is struck that is down"
            down[message.note] = now
        elif message.type in ("note_off", "note_on"):
            spans.append((message.note, down.pop(message.note), now))
    assert not down, "a key is never let go"
    assert file.length == pytest.approx(now)
    ends = [begin - REST * 60 / TEMPO for begin in begins[1:]] + [now]
    rolls = []
    for begin, end in zip(begins, ends, strict=True):
        roll = torch.zeros(round((end - begin) / seconds_per_step), NUM_NOTES)
        for t in range(len(roll)):
            moment = begin + (t + 0.5) * seconds_per_step
            for note, start, stop in spans:
                if start < moment < stop:
                    roll[t, note - LOWEST] = 1
        rolls.append(roll)
    return rolls


@pytest.mark.parametrize("steps_per_quarter", [1, 2])
def test_a_file_read_back_is_the_roll(steps_per_quarter: int) -> None:
    rolls = [random_roll(9, 0), torch.zeros(3, NUM_NOTES), random_roll(5, 1), torch.ones(2, NUM_NOTES)]
    rolls[0][-2:] = 0  # silence at the end is part of a tune
    read = parsed(midi(rolls, steps_per_quarter), steps_per_quarter)
    assert len(read) == 4
    for roll, again in zip(rolls, read, strict=True):
        assert torch.equal(roll, again)


def test_a_held_note_is_one_note() -> None:
    roll = torch.zeros(6, NUM_NOTES)
    roll[1:4, 39] = 1  # middle C
    roll[5, 39] = roll[0, 87] = 1
    assert notes(roll) == [(0, 1, 87), (1, 4, 39), (5, 6, 39)]
    struck = [message for message in mido.MidiFile(file=BytesIO(midi([roll]))) if message.type == "note_on"]
    assert [message.note for message in struck] == [108, 60, 60]
    assert struck[1].time == pytest.approx(0.0), "at the tick at which the highest key is let go"


@pytest.mark.parametrize(
    "roll", [torch.zeros(4, 87), torch.zeros(0, NUM_NOTES), torch.full((2, NUM_NOTES), 0.5), torch.zeros(NUM_NOTES)]
)
def test_what_is_no_roll_is_refused(roll: Tensor) -> None:
    shape = re.escape(str(tuple(roll.shape)))
    with pytest.raises(ValueError, match=shape):
        midi([roll])
    with pytest.raises(ValueError, match=shape):
        roll_image([roll])


def test_no_roll_and_odd_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="0 rolls"):
        midi([])
    with pytest.raises(ValueError, match="steps_per_quarter=7"):
        midi([random_roll(2, 0)], 7)
    with pytest.raises(ValueError, match="piano roll"):
        roll_image([])


def test_an_image_read_back_is_the_roll() -> None:
    rolls, given = [random_roll(7, 2), random_roll(5, 3)], 3
    image = np.asarray(roll_image(rolls, given=given))
    step, height = 6, NUM_NOTES * KEY
    for number, roll in enumerate(rolls):
        top = PADDING + number * (height + 4 * PADDING)
        for t in range(len(roll)):
            for column in range(NUM_NOTES):
                y = top + (NUM_NOTES - 1 - column) * KEY + KEY // 2
                pixel = tuple(image[y, NAMES + KEYBOARD + t * step + step // 2].tolist())
                sounding = {GIVEN_COLOUR: t < given, FAKE_COLOUR: t >= given}
                assert sounding.get(pixel, roll[t, column] == 0), (number, t, column)


def test_an_image_shows_the_octaves_that_sound() -> None:
    roll = torch.zeros(8, NUM_NOTES)
    roll[:, 39:52] = 1
    assert roll_image([roll]).height == (13 + 2 * 2) * KEY + 2 * PADDING
    assert roll_image([torch.zeros(8, NUM_NOTES)]).height == 5 * KEY + 2 * PADDING
