"""Renders piano rolls as MIDI files and as images.

A roll has the keys of a piano, out of 88, that sound at each step. It does not distinguish a held note from a repeated
one: a pitch that sounds in consecutive frames is one note.
"""

from collections.abc import Sequence
from io import BytesIO

import mido
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from lightning_modules.rendering.images import FAKE_COLOUR, GIVEN_COLOUR, INK, PADDING
from lightning_modules.rendering.text_images import typewriter

LOWEST, NUM_NOTES = 21, 88  # MIDI number of column 0, and columns
TICKS = 480  # of MIDI time in a quarter note
TEMPO = 100  # quarter notes per minute
REST = 4  # quarter notes of silence between tunes
VELOCITY = 72
BLACK_KEYS = (1, 3, 6, 8, 10)  # of the twelve from C
KEY, KEYBOARD, NAMES = 4, 16, 20  # pixels: height of a key, its length, and room for the names of the octaves
PAPER, SHADED, RULE = (255, 255, 255), (243, 243, 243), (222, 222, 222)


def notes(roll: Tensor) -> list[tuple[int, int, int]]:
    """Returns the notes of a roll as (first step, step after the last, column), in order of time.

    Args:
        roll: Zeros and ones, (T, 88).

    Raises:
        ValueError: If the shape is different, or a value is neither 0 nor 1.
    """
    if roll.ndim != 2 or roll.shape[1] != NUM_NOTES or not len(roll) or not ((roll == 0) | (roll == 1)).all():
        raise ValueError(f"A piano roll must be zeros and ones, (T, {NUM_NOTES}), T >= 1, not {tuple(roll.shape)}.")
    silence = torch.zeros(1, NUM_NOTES, dtype=torch.int8)
    changes = torch.cat([silence, roll.cpu().to(torch.int8), silence]).diff(dim=0).T  # (88, T + 1)
    starts, ends = (changes == 1).nonzero().tolist(), (changes == -1).nonzero().tolist()
    return sorted((start, end, column) for (column, start), (_, end) in zip(starts, ends, strict=True))


def midi(rolls: Sequence[Tensor], steps_per_quarter: int = 1) -> bytes:
    """Returns a MIDI file in which rolls (T, 88) are played one after another, with a bar of rest between them.

    Each begins with a marker, ``tune 1``; the track ends where the last roll does.

    Args:
        rolls: At least one.
        steps_per_quarter: Steps in a quarter note.

    Raises:
        ValueError: If there is no roll, one is not valid, or a step is not a whole number of ticks.
    """
    if not rolls or steps_per_quarter < 1 or TICKS % steps_per_quarter:
        raise ValueError(
            f"{len(rolls)} rolls with steps_per_quarter={steps_per_quarter}: give at least one roll, and a divisor of "
            f"{TICKS}."
        )
    step, begin = TICKS // steps_per_quarter, 0
    timed = [(0, 0, mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(TEMPO)))]
    for number, roll in enumerate(rolls, 1):
        timed.append((begin, 1, mido.MetaMessage("marker", text=f"tune {number}")))
        for start, end, column in notes(roll):
            key = {"note": LOWEST + column, "velocity": VELOCITY}
            timed.append((begin + start * step, 3, mido.Message("note_on", **key)))
            timed.append((begin + end * step, 2, mido.Message("note_off", **key)))
        end_of_tune = begin + len(roll) * step
        begin = end_of_tune + REST * TICKS
    timed.append((end_of_tune, 4, mido.MetaMessage("end_of_track")))
    track, now = mido.MidiTrack(), 0
    for time, _, message in sorted(timed, key=lambda event: event[:2]):
        track.append(message.copy(time=time - now))
        now = time
    content = BytesIO()
    mido.MidiFile(type=0, ticks_per_beat=TICKS, tracks=[track]).save(file=content)
    return content.getvalue()


def roll_image(rolls: Sequence[Tensor], steps_per_quarter: int = 1, given: int = 0) -> Image.Image:
    """Draws rolls (T, 88) below one another: time to the right, with a line every 4 quarters, and pitch up a keyboard.

    Args:
        rolls: At least one.
        steps_per_quarter: Steps in a quarter note.
        given: Number of first steps that were not sampled by the model; they are grey.

    Raises:
        ValueError: If there is no roll, or one is not valid.
    """
    if not rolls:
        raise ValueError("There is no piano roll to draw.")
    played = [notes(roll) for roll in rolls]
    columns = [column for tune in played for _, _, column in tune] or [NUM_NOTES // 2]
    low, high = max(min(columns) - 2, 0), min(max(columns) + 2, NUM_NOTES - 1)
    step = 6 if steps_per_quarter == 1 else 4
    left, height = NAMES + KEYBOARD, (high - low + 1) * KEY
    width = left + max(map(len, rolls)) * step + PADDING
    image = Image.new("RGB", (width, len(rolls) * (height + 4 * PADDING) - 2 * PADDING), PAPER)
    pen = ImageDraw.Draw(image)
    for number, (tune, roll) in enumerate(zip(played, rolls, strict=True)):
        top = PADDING + number * (height + 4 * PADDING)
        right = left + len(roll) * step
        for column in range(low, high + 1):
            y, degree = top + (high - column) * KEY, (LOWEST + column) % 12
            black = degree in BLACK_KEYS
            pen.rectangle([left, y, right, y + KEY - 1], fill=SHADED if black else PAPER)
            pen.rectangle([NAMES, y, NAMES + KEYBOARD * 2 // 3, y + KEY - 1], fill=INK if black else PAPER)
            if degree in (0, 5):  # between B and C and between E and F, where no black key is
                pen.line([NAMES, y + KEY - 1, right, y + KEY - 1], fill=RULE)
            if degree == 0:
                pen.text((2, y + KEY // 2), f"C{(LOWEST + column) // 12 - 1}", INK, typewriter(9), anchor="lm")
        for quarters in range(0, len(roll) + 1, 4 * steps_per_quarter):
            pen.line([left + quarters * step, top, left + quarters * step, top + height - 1], fill=RULE)
        pen.rectangle([NAMES, top, right, top + height - 1], outline=RULE)
        for start, end, column in tune:
            y, border = top + (high - column) * KEY, min(max(start, given), end)
            for first, last, colour in ((start, border, GIVEN_COLOUR), (border, end, FAKE_COLOUR)):
                if first < last:  # the last pixel of a note stays empty, so that consecutive notes are separated
                    ends = last * step - (2 if last == end else 1)
                    pen.rectangle([left + first * step, y, left + ends, y + KEY - 1], fill=colour)
    return image
