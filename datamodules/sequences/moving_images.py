"""Clips for video prediction, made of real images that move and bounce (Srivastava et al., 2015).

The protocol is that of Moving MNIST (https://arxiv.org/abs/1502.04681) at half its size: two images on a canvas,
each moving in a straight line at constant speed and reflected at the borders, ten frames as context and ten to predict.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from datamodules.datamodule import SPLITS
from datamodules.images.public_images import FashionMNIST, resized
from datamodules.loader import SAMPLES, Source, seeded
from datamodules.sequences.sequence_base import SequenceDataModule
from datamodules.spec import DataSpec

NUM_FRAMES, CANVAS, SIDE = 20, 32, 14
SPEED = 0.1  # of the way from border to border, per frame: Srivastava's step_length


class Clips:
    """Clips of moving images that are rendered when they are read, float32 (20, 1, 32, 32) in [0, 1].

    Args:
        images: The images, uint8 (M, 14, 14).
        num_clips: Number of clips.
        num_objects: Number of images in each clip.
        key: Seed of the clips, non-negative integers; a clip is a function of this, the epoch and its index.
        fresh: Whether every epoch has clips of its own.
        epoch: The epoch of these clips.
    """

    def __init__(
        self, images: Tensor, num_clips: int, num_objects: int, key: tuple[int, int], fresh: bool, epoch: int = 0
    ) -> None:
        self.images, self.num_objects, self.key, self.fresh = images, num_objects, key, fresh
        self.labels = torch.full((num_clips,), NUM_FRAMES)
        self.shape: tuple[int, ...] = (NUM_FRAMES, 1, CANVAS, CANVAS)
        # One row of random numbers per clip, so that a clip does not depend on the number of clips.
        uniform = torch.rand(num_clips, num_objects, 4, dtype=torch.float64, generator=seeded(SAMPLES, *key, epoch))
        self.chosen = (uniform[..., 0] * len(images)).to(torch.int64)
        angle = 2 * math.pi * uniform[..., 1:2]
        velocity = SPEED * torch.stack([angle.sin(), angle.cos()], -1)
        path = reflected(uniform[..., None, 2:] + velocity * torch.arange(NUM_FRAMES)[:, None])
        self.places = (path * (CANVAS - SIDE)).round().to(torch.int64)  # (num_clips, num_objects, 20, 2): row, column

    def __len__(self) -> int:
        return len(self.labels)

    def for_epoch(self, epoch: int) -> "Clips":
        """Returns the clips of this epoch, a function of (key, epoch)."""
        if not self.fresh:
            return self
        return Clips(self.images, len(self), self.num_objects, self.key, True, epoch)

    def order(self, generator: torch.Generator, size: int) -> Tensor:
        """Returns a permutation."""
        return torch.randperm(len(self), generator=generator)

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields the clips at each tensor of indices, float32 (n, 20, 1, 32, 32)."""
        return (self.rendered(indices) for indices in batches)

    def rendered(self, indices: Tensor) -> Tensor:
        """Returns the clips at ``indices``, float32 (n, 20, 1, 32, 32); images that overlap show the brighter pixel."""
        images, places = self.images[self.chosen[indices]], self.places[indices]
        canvas = torch.zeros(len(indices), NUM_FRAMES, CANVAS * CANVAS, dtype=torch.uint8)
        rows = places[..., 0, None] + torch.arange(SIDE)
        columns = places[..., 1, None] + torch.arange(SIDE)
        pixels = (rows[..., :, None] * CANVAS + columns[..., None, :]).flatten(3)
        for place, image in zip(pixels.unbind(1), images.flatten(2).unbind(1), strict=True):
            layer = torch.zeros_like(canvas).scatter_(2, place, image[:, None].expand(-1, NUM_FRAMES, -1))
            canvas = torch.maximum(canvas, layer)
        return canvas.view(len(indices), *self.shape).to(torch.float32).mul_(1 / 255)

    def targets(self, indices: Tensor) -> dict[str, Tensor]:
        """Returns the lengths, int64 (n,), which are all 20."""
        return {"lengths": self.labels[indices]}


class MovingFashionMNIST(SequenceDataModule):
    """Clips of one or two pieces of clothing that move over a black 32x32 canvas and bounce at its borders.

    Batches are clips, float32 (N, 20, 1, 32, 32) in [0, 1], and their lengths, which are all 20: ten frames as context
    and ten to predict. The images are Fashion-MNIST's, resized to 14x14, and each split shows images of its own split.
    A clip is a function of the seed, the split and its index, and in training of the epoch.

    Args:
        num_objects: Number of images in each clip, 1 or 2.
        data_dir: Folder to look in first, and to write to if the data has to be fetched; see
            ``datamodules.sources.find``.
        batch_size: Clips per process and batch.
        train_size: Number of clips per epoch.
        val_size: Number of clips for validation; 0 for none.
        test_size: Number of clips for testing; 0 for none.
        fresh: Make new training clips for every epoch, instead of one fixed set.
        seed: Seed of clips and order.

    Raises:
        ValueError: If an argument is out of range.
    """

    name = "moving_fashion_mnist"

    def __init__(
        self,
        num_objects: int = 2,
        data_dir: str | None = None,
        batch_size: int = 16,
        train_size: int = 10_000,
        val_size: int = 1000,
        test_size: int = 1000,
        fresh: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(
            batch_size, seed, sizes={"val_size": val_size, "test_size": test_size}, positive={"train_size": train_size}
        )
        if num_objects not in (1, 2):
            raise ValueError(f"num_objects={num_objects} must be 1 or 2.")
        self.save_hyperparameters(logger=False)
        self.fashion_mnist = FashionMNIST(data_dir, seed=seed)
        self.num_objects, self.fresh = num_objects, fresh
        self.sizes = dict(zip(SPLITS, (train_size, val_size, test_size), strict=True))
        self.spec = DataSpec(
            name=self.name, kind="video", shape=(NUM_FRAMES, 1, CANVAS, CANVAS), value_range=(0.0, 1.0)
        )

    def prepare_data(self) -> None:
        """Finds the files of Fashion-MNIST, or fetches them.

        Raises:
            DataNotFoundError: If the data was not found.
            DamagedDataError: If a file is truncated or changed.
        """
        self.fashion_mnist.prepare_data()

    def read(self) -> dict[str, Source]:
        """Reads the images, and samples which of them move in which clip and how."""
        return {
            split: Clips(
                resized(self.fashion_mnist.images(split)[0], SIDE)[:, 0],
                size,
                self.num_objects,
                self.noise_key(split),
                self.fresh and split == "train",
            )
            for split, size in self.sizes.items()
        }


def reflected(position: Tensor) -> Tensor:
    """Folds positions on a line into [0, 1], like a ball that bounces at both ends; any shape."""
    return 1 - (position.remainder(2) - 1).abs()
