"""What all sequence datamodules share: arguments, checks, and a whole split at once."""

from abc import abstractmethod

import torch
from torch import Tensor

from datamodules.datamodule import ZooDataModule
from datamodules.loader import Source, fixed_noise


class SequenceDataModule(ZooDataModule):
    """Abstract: batches of sequences, padded at the end, and their lengths; with ``continues`` for streams.

    A subclass sets ``spec`` and, where stored values have to be converted, ``transform``. It calls
    ``save_hyperparameters(logger=False)``, for the reason given in ``ImageDataModule``.

    Args:
        batch_size: Sequences per process and batch.
        seed: Seed of order, noise and samples.
        sizes: Further arguments by name, to be checked: each at least 0.
        positive: Further arguments by name, to be checked: each at least 1.

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
        """Reads or samples the data, and returns the splits by name: "train", "val" and "test"."""

    def setup(self, stage: str | None = None) -> None:
        """Reads and splits the data, once.

        Raises:
            DataNotFoundError: If the data was not found.
            ValueError: If a file is damaged, or too short for the arguments.
        """
        if not self.sources:
            self.sources = self.read()

    def sequences(self, split: str) -> tuple[Tensor, Tensor]:
        """Returns all sequences of a split, with the noise that the loaders of "val" and "test" give.

        Args:
            split: "train" (as stored, without what changes from epoch to epoch), "val" or "test".

        Returns:
            Sequences (N, T, ...), padded to the longest, and their lengths, int64 (N,).

        Raises:
            ValueError: If ``split`` is none of these, or empty.
        """
        source = self.source(split)
        if len(source) == 0:
            raise ValueError(f"There are no {split} sequences in {self.spec.name}.")
        everything = torch.arange(len(source))
        raw = next(iter(source.stream([everything])))
        noise = fixed_noise(0, len(source), source.shape, *self.noise_key(split)) if self.noise else None
        return self.transform(raw, noise) if self.transform else raw, source.targets(everything)["lengths"]


def to_float(raw: Tensor, noise: Tensor | None = None) -> Tensor:
    """Converts stored numbers to float32; any shape."""
    return raw.to(torch.float32)


def to_tokens(raw: Tensor, noise: Tensor | None = None) -> Tensor:
    """Converts stored indices to int64; any shape."""
    return raw.to(torch.int64)


def binarized_tokens(pixels: Tensor, uniform: Tensor | None = None) -> Tensor:
    """Samples bits that are 1 with probability v / 255, as ``Pixels(binarize=True)`` does.

    Args:
        pixels: Values v, uint8, any shape.
        uniform: Uniform noise in [0, 1) of the same shape.

    Returns:
        Bits of the same shape, int64.
    """
    assert uniform is not None, "bits are sampled with noise"
    return (uniform * 255 < pixels).to(torch.int64)
