"""What all image datamodules share: arguments, splits, preprocessing, and a whole split at once."""

from abc import abstractmethod
from copy import copy
from dataclasses import replace
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from datamodules.captions import CaptionedSource
from datamodules.datamodule import SPLITS, ZooDataModule
from datamodules.images.pixels import Pixels
from datamodules.loader import SPLIT, Source, fixed_noise, seeded
from datamodules.spec import DataSpec

READ_CHUNK = 1024
ALL = "all"
"""What ``images`` calls the splits together."""

Module = TypeVar("Module", bound="ImageDataModule")


class ImageDataModule(ZooDataModule):
    """Abstract: images, stored as uint8 and converted one batch at a time.

    A subclass calls ``save_hyperparameters(logger=False)``. The hyperparameters are then in every checkpoint, but not
    in the log, where Lightning would refuse those that a module has under the same name (``seed``, ``num_classes``).

    Args:
        spec: What is known before the data is read; ``value_range`` and ``preprocessing`` are filled in here.
        batch_size: Examples per process and batch.
        val_size: Examples held out for validation; 0 for none.
        seed: Seed of split, order and noise.
        pixels: Converts stored pixels to the values of a batch.

    Raises:
        ValueError: If an argument is out of range.
    """

    transform: Pixels
    compared_with: ClassVar[str] = "test"
    """Real images that samples are compared with: those of a split, or ``"all"`` where a split has too few."""

    def __init__(self, spec: DataSpec, batch_size: int, val_size: int, seed: int, pixels: Pixels) -> None:
        super().__init__()
        for name, value, least in (("batch_size", batch_size, 1), ("val_size", val_size, 0), ("seed", seed, 0)):
            if value < least:
                raise ValueError(f"{name}={value} must be at least {least}.")
        self.batch_size, self.val_size, self.seed = batch_size, val_size, seed
        self.stored_as, self.spec = spec.preprocessing, spec
        self._yield(pixels)

    def binarized(self: Module) -> Module:
        """Returns a copy of the datamodule whose examples are bits, as ``binarize=True`` would give them."""
        other = copy(self)
        other._yield(Pixels(binarize=True))
        return other

    def _yield(self, pixels: Pixels) -> None:
        self.transform, self.noise = pixels, pixels.noisy
        steps = filter(None, (self.stored_as, pixels.name))
        self._spec = replace(self._spec, value_range=pixels.value_range, preprocessing="-".join(steps))

    @abstractmethod
    def read(self) -> dict[str, Source]:
        """Reads the data and returns the splits by name: "train", "val" and "test"."""

    def setup(self, stage: str | None = None) -> None:
        """Reads and splits the data, once.

        Raises:
            DataNotFoundError: If the data was not found.
            ValueError: If a file is damaged, or ``val_size`` leaves nothing to train on.
        """
        if self.sources:
            return
        self.sources = self.read()
        self._count_classes()
        self._keep_captions()

    def _keep_captions(self) -> None:
        """Writes the captions of the training examples, and their classes, into the spec, where there are any."""
        if isinstance(train := self.sources["train"], CaptionedSource):
            classes = tuple(train.labels.tolist()) if self.spec.num_classes is not None else ()
            self.spec = replace(self.spec, captions=train.captions, caption_classes=classes)

    def captions(self, split: str) -> tuple[str, ...]:
        """Returns the captions of a split, in the order of ``images(split)``; empty where there are none.

        Raises:
            ValueError: If ``split`` is not "train", "val" or "test".
        """
        source = self.source(split)
        return source.captions if isinstance(source, CaptionedSource) else ()

    def images(self, split: str) -> tuple[Tensor, Tensor]:
        """Returns all images of a split after the same preprocessing, for reference statistics.

        Args:
            split: "train", "val", "test", or "all" for these one after the other.

        Returns:
            Images (N, C, H, W) uint8 and labels (N,) int64. With ``binarize`` the images are Bernoulli samples, 0 or
            255: for "val" and "test" those that the loaders yield, for "train" one fixed sample of each image.

        Raises:
            ValueError: If ``split`` is none of these, or empty.
        """
        if split == ALL:
            parts = [self.images(name) for name in SPLITS if len(self.source(name))]
            pixels, labels = (torch.cat(values) for values in zip(*parts, strict=True))
            return pixels, labels
        source = self.source(split)
        if len(source) == 0:
            raise ValueError(f"There are no {split} images in {self.spec.name}: build it with {split}_size above 0.")
        pixels = torch.cat(list(source.stream(torch.arange(len(source)).split(READ_CHUNK))))
        if self.transform.binarize:
            noise = fixed_noise(0, len(source), source.shape, *self.noise_key(split))
            pixels = self.transform(pixels, noise).mul_(255).to(torch.uint8)
        return pixels, source.labels


def split_indices(total: int, val_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Returns the indices of the training part and of the held-out part, disjoint, each int64 and in rising order.

    Args:
        total: Number of examples.
        val_size: Number of examples to hold out, at least 0.
        seed: Seed of the choice, at least 0.

    Raises:
        ValueError: If nothing is left to train on.
    """
    if val_size >= total:
        raise ValueError(f"val_size={val_size} leaves nothing to train on: there are {total} training examples.")
    order = torch.randperm(total, generator=seeded(SPLIT, seed))
    return order[val_size:].sort().values, order[:val_size].sort().values
