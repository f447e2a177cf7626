"""Piano rolls as MIDI and as pictures, each read back to the exact roll by another route."""

from io import BytesIO

import mido
import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules.parts.music import (
    KEY,
    KEYBOARD,
    LOWEST,
    NAMES,
    NUM_NOTES,
    REST,
    TEMPO,
    midi,
    notes,
    roll_picture,
)
from lightning_modules.parts.pictures import FAKE_COLOUR, GIVEN_COLOUR, PADDING


def random_roll(steps: int, seed: int, density: float = 0.4) -> Tensor:
    return (torch.rand(steps, NUM_NOTES, generator=torch.Generator().manual_seed(seed)) < density).float()


def parsed(content: bytes, steps_a_quarter: int) -> list[Tensor]:
    """Plays a file by the clock of a player, in seconds, and writes down at each half step which keys are down."""
    file = mido.MidiFile(file=BytesIO(content))
    second_a_step = 60 / TEMPO / steps_a_quarter
    now, down, begins, spans = 0.0, {}, [], []
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
        roll = torch.zeros(round((end - begin) / second_a_step), NUM_NOTES)
        for t in range(len(roll)):
            moment = begin + (t + 0.5) * second_a_step
            for note, start, stop in spans:
                if start < moment < stop:
                    roll[t, note - LOWEST] = 1
        rolls.append(roll)
    return rolls


@pytest.mark.parametrize("steps_a_quarter", [1, 2])
def test_a_file_read_back_is_the_roll(steps_a_quarter: int) -> None:
    rolls = [random_roll(9, 0), torch.zeros(3, NUM_NOTES), random_roll(5, 1), torch.ones(2, NUM_NOTES)]
    rolls[0][-2:] = 0  # silence at the end is part of a tune
    read = parsed(midi(rolls, steps_a_quarter), steps_a_quarter)
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
    with pytest.raises(ValueError, match="must be zeros and ones"):
        midi([roll])
    with pytest.raises(ValueError, match="must be zeros and ones"):
        roll_picture([roll])


def test_no_roll_and_odd_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="0 rolls with steps_a_quarter=1"):
        midi([])
    with pytest.raises(ValueError, match="steps_a_quarter=7"):
        midi([random_roll(2, 0)], 7)
    with pytest.raises(ValueError, match="no piano roll"):
        roll_picture([])


def test_a_picture_read_back_is_the_roll() -> None:
    rolls, given = [random_roll(7, 2), random_roll(5, 3)], 3
    picture = np.asarray(roll_picture(rolls, given=given))
    step, height = 6, NUM_NOTES * KEY
    for number, roll in enumerate(rolls):
        top = PADDING + number * (height + 4 * PADDING)
        for t in range(len(roll)):
            for column in range(NUM_NOTES):
                y = top + (NUM_NOTES - 1 - column) * KEY + KEY // 2
                pixel = tuple(picture[y, NAMES + KEYBOARD + t * step + step // 2].tolist())
                sounding = {GIVEN_COLOUR: t < given, FAKE_COLOUR: t >= given}
                assert sounding.get(pixel, roll[t, column] == 0), (number, t, column)


def test_a_picture_shows_the_octaves_that_sound() -> None:
    roll = torch.zeros(8, NUM_NOTES)
    roll[:, 39:52] = 1
    assert roll_picture([roll]).height == (13 + 2 * 2) * KEY + 2 * PADDING
    assert roll_picture([torch.zeros(8, NUM_NOTES)]).height == 5 * KEY + 2 * PADDING
