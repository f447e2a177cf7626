"""What all sequence datamodules share: arguments, checks, and a whole split at once."""

from abc import abstractmethod

import torch
from torch import Tensor

from datamodules.base import ZooDataModule
from datamodules.loader import Source, fixed_noise


class SequenceDataModule(ZooDataModule):
    """Abstract: yields ``(x, lengths)``, padded at the end; streams yield ``(x, lengths, continues)``.

    A subclass sets ``spec`` and, where stored values are not what is yielded, ``transform``; and calls
    ``save_hyperparameters(logger=False)`` as picture datamodules do.

    Args:
        batch_size: Sequences per process and batch.
        seed: Seed of order, noise and what else is drawn.
        sizes: Further arguments by name, each a whole number of at least 0.
        positive: Further arguments by name, each a whole number of at least 1.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        batch_size: int,
        seed: int,
        sizes: dict[str, int] | None = None,
        positive: dict[str, int] | None = None,
    ) -> None:
        super().__init__()
        for least, values in (
            (1, {"batch_size": batch_size, **(positive or {})}),
            (0, {"seed": seed, **(sizes or {})}),
        ):
            for name, value in values.items():
                if value < least:
                    raise ValueError(f"{name}={value} must be at least {least}.")
        self.batch_size, self.seed = batch_size, seed

    @abstractmethod
    def read(self) -> dict[str, Source]:
        """Reads, or draws, the data and splits it."""

    def setup(self, stage: str | None = None) -> None:
        """Reads and splits the data, once.

        Raises:
            DataNotFoundError: If the data is nowhere.
            ValueError: If a file is damaged, or too short for what was asked.
        """
        if not self.sources:
            self.sources = self.read()

    def sequences(self, split: str) -> tuple[Tensor, Tensor]:
        """All sequences of a split as they are yielded, with the noise that the loaders of "val" and "test" give.

        Args:
            split: "train" (as it is stored, before anything is drawn for an epoch), "val" or "test".

        Returns:
            Sequences, padded to the longest, and their lengths, int64 (N,).

        Raises:
            ValueError: If ``split`` is none of these, or empty.
        """
        source = self.source(split)
        if len(source) == 0:
            raise ValueError(f"There are no {split} sequences in {self.spec.name}.")
        everything = torch.arange(len(source))
        raw = next(iter(source.stream([everything])))
        noise = fixed_noise(0, len(source), source.shape, *self.noise_key(split)) if self.noise else None
        return self.transform(raw, noise) if self.transform else raw, source.beside(everything)[0]


def to_float(raw: Tensor, noise: Tensor | None = None) -> Tensor:
    """Stored numbers as float32."""
    return raw.to(torch.float32)


def to_tokens(raw: Tensor, noise: Tensor | None = None) -> Tensor:
    """Stored indices as int64."""
    return raw.to(torch.int64)


def binarized_tokens(pixels: Tensor, uniform: Tensor | None = None) -> Tensor:
    """Draws bits that are 1 with probability v / 255, int64, by the rule of ``Pixels(binarize=True)``.

    Args:
        pixels: uint8, any shape.
        uniform: Draws in [0, 1) of the same shape.
    """
    assert uniform is not None, "pixels are drawn by noise"
    return (uniform * 255 < pixels).to(torch.int64)
