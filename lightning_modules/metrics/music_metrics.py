"""Statistics of piano rolls: notes, chords, melody and rhythm, as pure functions.

Rolls are zeros and ones (N, T, 88), where column 0 is MIDI note 21. Frames after a song's length, int64 (N,), are not
counted. Sets of notes hardly ever repeat, so n-grams of whole frames are too sparse for a comparison; the literature
compares histograms of properties of frames and notes, and n-grams of the melody, which is the highest voice.

NOTE: Quarter-note rolls do not distinguish a held note from a repeated one: a note lasts as long as its run of ones.

On the evaluation of generative models in music (Yang and Lerch, 2018), https://doi.org/10.1007/s00521-018-3849-7
"""

import torch
from torch import Tensor

from lightning_modules.metrics.sequence import PADDING
from lightning_modules.parts.precision import in_float64

LOWEST_NOTE = 21  # MIDI number of column 0
OCTAVE = 12
LONGEST = 32  # frames; longer notes are counted as notes of this length


def music_histograms(rolls: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """Counts properties of songs.

    Args:
        rolls: (N, T, 88).
        lengths: int64 (N,).

    Returns:
        int64 counts: ``polyphony`` (89,), frames by the number of their notes; ``pitch`` (88,), notes of all frames;
        ``pitch_class`` (12,), the same modulo the octave, from C; ``note_length`` (32,), notes by the frames that they
        last (1, 2, ..., 32 and more; a note in the last frame ends there); ``melodic_interval`` (175,), intervals of
        the melody between consecutive frames in semitones from -87 to 87, where neither frame is silent.

    Raises:
        ValueError: If the shapes do not fit.
    """
    rolls = _without_padding(rolls, lengths)
    notes = rolls.shape[2]
    inside = torch.arange(rolls.shape[1], device=rolls.device) < lengths[:, None]
    pitch = rolls.sum((0, 1))
    classes = (torch.arange(notes, device=rolls.device) + LOWEST_NOTE) % OCTAVE
    intervals = melodic_intervals(rolls, lengths)
    heard = intervals[(intervals >= 0) & (intervals < 2 * notes - 1)]
    return {
        "polyphony": rolls.sum(2)[inside].bincount(minlength=notes + 1),
        "pitch": pitch,
        "pitch_class": torch.zeros(OCTAVE, dtype=torch.int64, device=rolls.device).index_add_(0, classes, pitch),
        "note_length": _note_lengths(rolls),
        "melodic_interval": heard.bincount(minlength=2 * notes - 1),
    }


def music_rates(rolls: Tensor, lengths: Tensor) -> dict[str, float]:
    """Returns means over frames of songs.

    Args:
        rolls: (N, T, 88).
        lengths: int64 (N,).

    Returns:
        ``notes_per_frame``; ``silent_frames``, the share of frames without a note; ``repeated_frames``, the share of
        frames but the first of a song that have the same notes as the frame before; ``pitch_range``, semitones from a
        song's lowest note to its highest, the mean over songs (0 for a silent one).

    Raises:
        ValueError: If the shapes do not fit.
    """
    rolls = _without_padding(rolls, lengths)
    inside = torch.arange(rolls.shape[1], device=rolls.device) < lengths[:, None]
    sounding = in_float64(rolls.sum(2)[inside])
    repeated = in_float64((rolls[:, 1:] == rolls[:, :-1]).all(2)[inside[:, 1:]])
    used = rolls.any(1).long()
    lowest, highest = used.argmax(1), rolls.shape[2] - 1 - used.flip(1).argmax(1)
    ranges = in_float64(torch.where(used.any(1), highest - lowest, 0))
    return {
        "notes_per_frame": sounding.mean().item(),
        "silent_frames": in_float64(sounding == 0).mean().item(),
        "repeated_frames": repeated.mean().item() if len(repeated) else 0.0,
        "pitch_range": ranges.mean().item(),
    }


def top_voice(rolls: Tensor, lengths: Tensor) -> Tensor:
    """Returns the melody: the highest note of each frame.

    Args:
        rolls: (N, T, 88).
        lengths: int64 (N,).

    Returns:
        int64 (N, T): 0 to 87, 88 for silence, and ``PADDING`` where a song has ended.

    Raises:
        ValueError: If the shapes do not fit.
    """
    rolls = _without_padding(rolls, lengths)
    notes = rolls.shape[2]
    highest = torch.where(rolls.any(2), notes - 1 - rolls.flip(2).argmax(2), notes)
    ended = torch.arange(rolls.shape[1], device=rolls.device) >= lengths[:, None]
    return highest.masked_fill(ended, PADDING)


def melodic_intervals(rolls: Tensor, lengths: Tensor) -> Tensor:
    """Returns the intervals of the melody between consecutive frames, which do not depend on the key.

    Args:
        rolls: (N, T, 88).
        lengths: int64 (N,).

    Returns:
        int64 (N, T - 1): semitones + 87, in 0 to 174; 175 to or from silence; ``PADDING`` where a song has ended.

    Raises:
        ValueError: If the shapes do not fit.
    """
    notes, melody = rolls.shape[2], top_voice(rolls, lengths)
    before, after = melody[:, :-1], melody[:, 1:]
    silent = (before == notes) | (after == notes)
    intervals = torch.where(silent, 2 * notes - 1, after - before + notes - 1)
    return intervals.masked_fill(after == PADDING, PADDING)


def _without_padding(rolls: Tensor, lengths: Tensor) -> Tensor:
    if rolls.ndim != 3 or lengths.shape != rolls.shape[:1] or lengths.min() < 1 or lengths.max() > rolls.shape[1]:
        raise ValueError(
            f"Expected rolls (N, T, notes) and lengths (N,) in 1..T, got {tuple(rolls.shape)}, {tuple(lengths.shape)}."
        )
    inside = torch.arange(rolls.shape[1], device=rolls.device) < lengths[:, None]
    return (rolls > 0).long() * inside[..., None]


def _note_lengths(rolls: Tensor) -> Tensor:
    age, counts = torch.zeros_like(rolls[:, 0]), torch.zeros(LONGEST, dtype=torch.int64, device=rolls.device)
    silence = torch.zeros_like(rolls[:, 0])
    for frame, following in zip(rolls.unbind(1), [*rolls.unbind(1)[1:], silence], strict=True):
        age = frame * (age + 1)
        ended = age[(frame == 1) & (following == 0)].clamp(max=LONGEST)
        counts += (ended - 1).bincount(minlength=LONGEST)
    return counts
