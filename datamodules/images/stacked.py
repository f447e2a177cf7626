"""Stacked Fashion-MNIST: three garments in the three channels of an image, which makes 1 000 equally likely classes.

A generator that misses modes shows it here by counting, because a classifier of garments names the class of each
channel. Metz et al. (2017), Unrolled Generative Adversarial Networks, https://arxiv.org/abs/1611.02163, did so with
digits.

NOTE: Stacks are made once, as many as there are garments: each channel holds all garments of the split in an order of
its own. So a garment is in three stacks, and no garment is in two splits.
"""

import torch

from datamodules.images.public_images import FashionMNIST
from datamodules.loader import STACKS, TensorSource, seeded

CHANNELS = 3
SPLITS = ("train", "val", "test")


class StackedFashionMNIST(FashionMNIST):
    """Three garments in the channels of an image, (3, 28, 28); the label is 100 a + 10 b + c, 1 000 classes."""

    name = "stacked_fashion_mnist"
    shape = (CHANNELS, 28, 28)
    class_names = ()
    stored_channels = 1
    unnamed_classes = 10**CHANNELS

    def arranged(self, source: TensorSource, split: str) -> TensorSource:
        """Returns one stack for every garment of a split, each in one channel of three stacks."""
        return stacked(source, self.seed, SPLITS.index(split))


def stacked(source: TensorSource, seed: int, split: int) -> TensorSource:
    """Returns one stack for every example of a split.

    Args:
        source: Examples (N, 1, H, W) of 10 classes.
        seed: Seed of the three orders.
        split: Number of the split, so that the orders of splits differ.

    Returns:
        Stacks (N, 3, H, W), and labels 100 a + 10 b + c.
    """
    images, labels = source.data, source.labels
    orders = [torch.randperm(len(source), generator=seeded(STACKS, seed, split, c)) for c in range(CHANNELS)]
    digits = torch.stack([labels[order] for order in orders], 1)
    weights = torch.tensor([10**power for power in reversed(range(CHANNELS))])
    return TensorSource(torch.cat([images[order] for order in orders], 1), (digits * weights).sum(1))
