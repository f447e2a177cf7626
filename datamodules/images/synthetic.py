"""Synthetic images with a little structure: for tests and dry runs, without any file."""

import math

import torch
from torch import Tensor

from datamodules.images.image_base import ImageDataModule
from datamodules.images.pixels import Pixels
from datamodules.loader import SAMPLES, Source, TensorSource, seeded
from datamodules.spec import DataSpec

SLANTS = 4
"""Number of directions of the bars where there are no classes."""


class SyntheticImages(ImageDataModule):
    """Soft bars on black: the class is the bar's direction; place, width, length and tint are random.

    The images of a split are a function of the seed, the split, its size, ``shape`` and ``num_classes``.

    Args:
        shape: (C, H, W), C being 1 or 3.
        num_classes: Number of directions; None for four directions without labels.
        size: Number of training examples.
        val_size: Number of validation examples; 0 for none.
        test_size: Number of test examples; 0 for none.
        batch_size: Examples per process and batch.
        seed: Seed of images, order and noise.
        binarize: As in ``PublicImages``.
        dequantize: As in ``PublicImages``.
        channels_last: As in ``PublicImages``.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        shape: list[int] | tuple[int, ...] = (1, 28, 28),
        num_classes: int | None = None,
        size: int = 1024,
        val_size: int = 256,
        test_size: int = 256,
        batch_size: int = 64,
        seed: int = 0,
        binarize: bool = False,
        dequantize: bool = False,
        channels_last: bool = False,
    ) -> None:
        if len(shape) != 3 or shape[0] not in (1, 3) or min(shape) < 1:
            raise ValueError(f"shape={list(shape)} must be [channels, height, width] with 1 or 3 channels.")
        for name, value in (("size", size), ("num_classes", 1 if num_classes is None else num_classes)):
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if test_size < 0:
            raise ValueError(f"test_size={test_size} must be at least 0.")
        spec = DataSpec(name="synthetic", kind="image", shape=tuple(shape), num_classes=num_classes)
        super().__init__(spec, batch_size, val_size, seed, Pixels(binarize, dequantize, channels_last))
        shape = list(shape)
        self.save_hyperparameters(logger=False)
        self.size, self.test_size = size, test_size

    def read(self) -> dict[str, Source]:
        """Makes the images of each split."""
        return {
            split: TensorSource(*self._bars(size, seeded(SAMPLES, self.seed, number)))
            for number, (split, size) in enumerate(
                (("train", self.size), ("val", self.val_size), ("test", self.test_size))
            )
        }

    def _bars(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        channels, height, width = self.spec.shape
        classes = self.spec.num_classes or SLANTS
        labels = torch.randint(classes, (size,), generator=generator)
        angle = (math.pi * labels / classes)[:, None, None]
        row, column, thickness, length = torch.rand(4, size, 1, 1, generator=generator)
        y = torch.linspace(-1, 1, height)[:, None] - (row - 0.5)
        x = torch.linspace(-1, 1, width) - (column - 0.5)
        along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
        bar = torch.exp(-((along / (0.4 + 0.3 * length)) ** 4) - (across / (0.1 + 0.1 * thickness)) ** 2)
        tint = 1 - 0.6 * torch.rand(size, channels, 1, 1, generator=generator) * (channels > 1)
        pixels = (255 * tint * bar[:, None]).round().to(torch.uint8)
        return pixels, labels if self.spec.num_classes else torch.zeros_like(labels)
