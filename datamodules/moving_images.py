"""Clips for video prediction, made of real pictures that move and bounce (Srivastava et al., 2015).

The protocol is that of Moving MNIST (https://arxiv.org/abs/1502.04681) at half its size: two pictures in a canvas,
each moving in a straight line at a constant speed and reflected at the borders, ten frames to see and ten to predict.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from datamodules.base import SPLITS
from datamodules.images import FashionMNIST, resized
from datamodules.loader import DRAWS, Source, seeded
from datamodules.sequence_base import SequenceDataModule
from datamodules.spec import DataSpec

NUM_FRAMES, CANVAS, SIDE = 20, 32, 14
SPEED = 0.1  # of the way from border to border, per frame: Srivastava's step_length


class Clips:
    """Moving pictures that are drawn when they are asked for, float32 (20, 1, 32, 32) in [0, 1].

    Args:
        pictures: The pictures, uint8 (M, 14, 14).
        num_clips: How many clips there are.
        num_objects: Pictures in each.
        key: Which clips: they are a function of this and of their index.
        fresh: Whether other clips are drawn in every epoch.
        epoch: The epoch that these are of.
    """

    def __init__(
        self, pictures: Tensor, num_clips: int, num_objects: int, key: tuple[int, int], fresh: bool, epoch: int = 0
    ) -> None:
        self.pictures, self.num_objects, self.key, self.fresh = pictures, num_objects, key, fresh
        self.labels = torch.full((num_clips,), NUM_FRAMES)
        self.shape: tuple[int, ...] = (NUM_FRAMES, 1, CANVAS, CANVAS)
        # One row of draws a clip: it then does not depend on how many clips there are.
        draws = torch.rand(num_clips, num_objects, 4, dtype=torch.float64, generator=seeded(DRAWS, *key, epoch))
        self.chosen = (draws[..., 0] * len(pictures)).to(torch.int64)
        angle = 2 * math.pi * draws[..., 1:2]
        velocity = SPEED * torch.stack([angle.sin(), angle.cos()], -1)
        path = reflected(draws[..., None, 2:] + velocity * torch.arange(NUM_FRAMES)[:, None])
        self.places = (path * (CANVAS - SIDE)).round().to(torch.int64)  # (num_clips, num_objects, 20, 2): row, column

    def __len__(self) -> int:
        return len(self.labels)

    def for_epoch(self, epoch: int) -> "Clips":
        """The clips of this epoch, a function of (key, epoch)."""
        if not self.fresh:
            return self
        return Clips(self.pictures, len(self), self.num_objects, self.key, True, epoch)

    def order(self, generator: torch.Generator, size: int) -> Tensor:
        """Returns a permutation."""
        return torch.randperm(len(self), generator=generator)

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields the clips at each tensor of indices."""
        return (self.drawn(indices) for indices in batches)

    def drawn(self, indices: Tensor) -> Tensor:
        """The clips at ``indices``, float32 (n, 20, 1, 32, 32); where pictures overlap, the brighter pixel is seen."""
        pictures, places = self.pictures[self.chosen[indices]], self.places[indices]
        canvas = torch.zeros(len(indices), NUM_FRAMES, CANVAS * CANVAS, dtype=torch.uint8)
        rows = places[..., 0, None] + torch.arange(SIDE)
        columns = places[..., 1, None] + torch.arange(SIDE)
        pixels = (rows[..., :, None] * CANVAS + columns[..., None, :]).flatten(3)
        for place, picture in zip(pixels.unbind(1), pictures.flatten(2).unbind(1), strict=True):
            layer = torch.zeros_like(canvas).scatter_(2, place, picture[:, None].expand(-1, NUM_FRAMES, -1))
            canvas = torch.maximum(canvas, layer)
        return canvas.view(len(indices), *self.shape).to(torch.float32).mul_(1 / 255)

    def beside(self, indices: Tensor) -> tuple[Tensor, ...]:
        """Returns the numbers of frames, all 20."""
        return (self.labels[indices],)


class MovingFashionMNIST(SequenceDataModule):
    """Clips of one or two pieces of clothing that move over a black 32x32 canvas and bounce at its borders.

    Examples are float32 (N, 20, 1, 32, 32) in [0, 1] beside their lengths, all 20: ten to see and ten to predict.
    The pictures are Fashion-MNIST's, resized to 14x14: training clips show training pictures, validation clips held-out
    ones and test clips test pictures. A clip is a function of (seed, split, its index), in training also of the epoch.

    Args:
        num_objects: Pictures in each clip, 1 or 2.
        data_dir: Folder to look in first, and to write to if the data has to be fetched; see ``datamodules.find``.
        batch_size: Clips per process and batch.
        train_size: Clips of an epoch.
        val_size: Clips for validation.
        test_size: Clips for testing.
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
        self.pictures = FashionMNIST(data_dir, seed=seed)
        self.num_objects, self.fresh = num_objects, fresh
        self.sizes = dict(zip(SPLITS, (train_size, val_size, test_size), strict=True))
        self.spec = DataSpec(
            name=self.name, kind="video", shape=(NUM_FRAMES, 1, CANVAS, CANVAS), value_range=(0.0, 1.0)
        )

    def prepare_data(self) -> None:
        """Finds the files of the pictures, or fetches them."""
        self.pictures.prepare_data()

    def read(self) -> dict[str, Source]:
        """Reads the pictures and draws which go where."""
        return {
            split: Clips(
                resized(self.pictures.images(split)[0], SIDE)[:, 0],
                size,
                self.num_objects,
                self.noise_key(split),
                self.fresh and split == "train",
            )
            for split, size in self.sizes.items()
        }


def reflected(position: Tensor) -> Tensor:
    """Folds positions on a line into [0, 1], as a ball that bounces at both ends."""
    return 1 - (position.remainder(2) - 1).abs()
