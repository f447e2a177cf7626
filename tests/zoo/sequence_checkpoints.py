"""A small model of every kind of sequence."""

from typing import Any

import torch

from datamodules import DataSpec
from datamodules.sequences.vocabulary import BYTES
from lightning_modules import MixtureDensityRNN, TeacherForcing

LETTERS = tuple("\n !`abcdefghijklmnopqrstuvwxyzT")
SPECS = {
    "text": DataSpec("letters", "tokens", (12,), vocabulary=LETTERS),
    "bytes": DataSpec("bytes", "tokens", (12,), vocabulary=BYTES),
    "pixels": DataSpec("bits", "tokens", (16,), vocabulary=("0", "1"), preprocessing="binarized"),
    "music": DataSpec("nottingham", "piano_roll", (24, 88), value_range=(0.0, 1.0)),
    "strokes": DataSpec("pen", "strokes", (10, 3), preprocessing="dequantized", scale=20.0),
    "video": DataSpec("clips", "video", (6, 1, 8, 8), value_range=(0.0, 1.0)),
}


def built(kind: str, **overrides: Any) -> TeacherForcing | MixtureDensityRNN:
    """Returns an untrained model of a kind of sequence."""
    torch.manual_seed(0)
    if kind == "strokes":
        return MixtureDensityRNN.for_data(SPECS[kind], width=4, num_components=2, **overrides)
    return TeacherForcing.for_data(SPECS[kind], width=4, **overrides)
