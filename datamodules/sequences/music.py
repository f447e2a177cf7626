"""Polyphonic music as piano rolls: which of a piano's 88 keys sound at each step.

Batches are rolls, float32 (N, T, 88) of zeros and ones, padded with zeros, and their lengths. Column 0 is MIDI note 21.
The splits are those that Boulanger-Lewandowski et al. published (2012, https://arxiv.org/abs/1206.6392). Held-out
songs are always whole, so a loss per frame is a mean over **all** frames, including the first one of each song. (Code
that predicts frames 2..T from 1..T-1 leaves that one out.)
"""

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from datamodules.loader import SAMPLES, Source, seeded
from datamodules.sequences.sequence_base import SequenceDataModule, to_float
from datamodules.sequences.sequence_sources import SequenceSource
from datamodules.sources import public_files
from datamodules.sources.find import find
from datamodules.sources.formats import NUM_NOTES, read_chorales, read_piano_rolls
from datamodules.sources.public_files import PublicDataset
from datamodules.spec import DataSpec


class TransposedRolls(SequenceSource):
    """Piano rolls that are transposed by whole semitones, each by a new random number in every epoch.

    Args:
        rolls: The original rolls.
        most: Largest number of semitones, up or down.
        seed: Seed of the shifts, at least 0.
        shifts: Semitones by which each roll is shifted in this epoch, upwards where positive, int64 (N,); zeros by
            default.
    """

    def __init__(self, rolls: SequenceSource, most: int, seed: int, shifts: Tensor | None = None) -> None:
        super().__init__(rolls.values, rolls.starts, rolls.lengths, rolls.padding)
        self.rolls, self.most, self.seed = rolls, most, seed
        self.shifts = torch.zeros(len(self), dtype=torch.int64) if shifts is None else shifts

    def for_epoch(self, epoch: int) -> "TransposedRolls":
        """Returns the rolls with the shifts of this epoch, a function of (seed, epoch)."""
        generator = seeded(SAMPLES, self.seed, 0, epoch)
        shifts = torch.randint(-self.most, self.most + 1, (len(self),), generator=generator)
        return TransposedRolls(self.rolls, self.most, self.seed, shifts)

    def changed(self, batch: Tensor, indices: Tensor) -> Tensor:
        """Returns the shifted rolls; no note may leave the keyboard."""
        columns = (torch.arange(NUM_NOTES) - self.shifts[indices, None]) % NUM_NOTES
        return batch.gather(2, columns[:, None].expand_as(batch))


class PianoRolls(SequenceDataModule):
    """Abstract: songs of a public file; a subclass names the file and reads it.

    Args:
        data_dir: Folder to look in first, and to write to if the data has to be fetched; see
            ``datamodules.sources.find``.
        batch_size: Songs, or pieces of songs, per process and batch.
        window: Largest number of steps of a training example: longer songs are cut into consecutive pieces, and a model
            learns the beginning of a piece as if it were that of a song. None keeps songs whole.
        transpose: Largest number of semitones by which a training song is shifted, up or down, at random in every
            epoch; 0 for none.
        seed: Seed of order and shifts.

    Raises:
        ValueError: If an argument is out of range.
    """

    name: str
    dataset: ClassVar[PublicDataset]
    longest: ClassVar[int]

    def __init__(
        self,
        data_dir: str | None = None,
        batch_size: int = 16,
        window: int | None = None,
        transpose: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            batch_size, seed, sizes={"transpose": transpose}, positive={} if window is None else {"window": window}
        )
        self.save_hyperparameters(logger=False)
        self.spec = DataSpec(name=self.name, kind="piano_roll", shape=(self.longest, NUM_NOTES), value_range=(0.0, 1.0))
        self.data_dir, self.window, self.transpose = data_dir, window, transpose
        self.transform = to_float

    @abstractmethod
    def parse(self, path: Path) -> dict[str, list[Tensor]]:
        """Returns the songs of each split, each uint8 (T, 88) of zeros and ones."""

    def prepare_data(self) -> None:
        """Finds the file, or fetches it.

        Raises:
            DataNotFoundError: If the data was not found.
            DamagedDataError: If a file is truncated or changed.
        """
        find(self.dataset, self.data_dir)

    def read(self) -> dict[str, Source]:
        """Reads the file; its splits are the published ones.

        Raises:
            ValueError: If the file is damaged, or ``transpose`` could shift a note off the keyboard.
        """
        songs = self.parse(find(self.dataset, self.data_dir)[0])
        train = SequenceSource.of(songs["train"], window=self.window)
        used = train.values.any(0).nonzero().flatten()
        room = min(int(used[0]), NUM_NOTES - 1 - int(used[-1]))
        if self.transpose > room:
            raise ValueError(
                f"transpose={self.transpose} would shift notes of {self.dataset.title} off the keyboard: take at most "
                f"{room}."
            )
        return {
            "train": TransposedRolls(train, self.transpose, self.seed) if self.transpose else train,
            "val": SequenceSource.of(songs["val"]),
            "test": SequenceSource.of(songs["test"]),
        }


class JSBChorales(PianoRolls):
    """Bach's four-part chorales, one step per quarter note: 229, 76 and 77 songs (Boulanger-Lewandowski et al., 2012).

    The steps are those of https://github.com/czhuang/JSB-Chorales-dataset, which has no lengths of rests and does not
    distinguish a held note from one that is struck again.
    """

    name = "jsb_chorales"
    dataset = public_files.JSB_CHORALES
    longest = 160

    def parse(self, path: Path) -> dict[str, list[Tensor]]:
        """Reads the JSON file; see ``read_chorales``."""
        return read_chorales(path)


class Nottingham(PianoRolls):
    """British and American folk tunes with chords: 694, 173 and 170 songs (Boulanger-Lewandowski et al., 2012).

    The longest song has 1793 steps, a typical one 200. In training, ``window`` keeps batches small.
    """

    name = "nottingham"
    dataset = public_files.NOTTINGHAM
    longest = 1793

    def parse(self, path: Path) -> dict[str, list[Tensor]]:
        """Reads the MATLAB file; see ``read_piano_rolls``."""
        return read_piano_rolls(path)
