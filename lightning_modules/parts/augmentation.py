"""Differentiable augmentation of all inputs of a discriminator, real and generated (DiffAugment).

With few data a discriminator memorises them. This is harder if all its inputs are augmented. Gradients reach the
generator through the augmentation, and the generator does not learn to imitate the augmentation: if the effect of a
transformation on the distribution of images is invertible, the optimum does not change.

NOTE: All examples are transformed in one pass, each with its own random numbers. The paper's colour changes are left
out: grey images have no colour, and garments differ in brightness.

Differentiable Augmentation for Data-Efficient GAN Training (Zhao et al., 2020), https://arxiv.org/abs/2006.10738
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.parts.noise import Noise

Augmentation = Callable[[Tensor, int, Noise], Tensor]
"""Maps examples and the number of earlier batches to augmented or corrupted examples."""


def unchanged(x: Tensor, step: int, noise: Noise) -> Tensor:
    """Returns the examples unchanged."""
    return x


def translate(x: Tensor, noise: Noise, ratio: float = 1 / 8) -> Tensor:
    """Shifts each image by up to ``ratio`` of its side in both directions, and fills with the lowest value, -1."""
    num, _, height, width = x.shape
    reach = round(height * ratio), round(width * ratio)
    padded = F.pad(x, (reach[1], reach[1], reach[0], reach[0]), value=-1.0)
    rows = torch.arange(height, device=x.device) + noise.integers(2 * reach[0] + 1, num, x.device)[:, None]
    columns = torch.arange(width, device=x.device) + noise.integers(2 * reach[1] + 1, num, x.device)[:, None]
    picked = torch.arange(num, device=x.device)[:, None, None], rows[:, :, None], columns[:, None, :]
    return padded.permute(0, 2, 3, 1)[picked].permute(0, 3, 1, 2)


def cutout(x: Tensor, noise: Noise, ratio: float = 1 / 2) -> Tensor:
    """Sets a square of ``ratio`` of the side, with its centre anywhere, to 0 in each image."""
    num, _, height, width = x.shape
    half = round(height * ratio / 2), round(width * ratio / 2)
    row = torch.arange(height, device=x.device) - noise.integers(height, num, x.device)[:, None]
    column = torch.arange(width, device=x.device) - noise.integers(width, num, x.device)[:, None]
    inside_rows = (row >= -half[0]) & (row < half[0])
    inside_columns = (column >= -half[1]) & (column < half[1])
    hidden = inside_rows[:, :, None] & inside_columns[:, None, :]
    return x * ~hidden[:, None]


LEAST_SIDE = {"translation": 5, "cutout": 3}
"""The least side of images that each policy changes."""
POLICIES: dict[str, Callable[[Tensor, Noise], Tensor]] = {"translation": translate, "cutout": cutout}


class DiffAugment:
    """Applies each policy to each image with a probability that may change during training.

    Args:
        policies: Any of ``POLICIES``, applied in this order.
        probability: In [0, 1], or a function of the number of earlier batches.

    Raises:
        ValueError: If a policy is unknown, or the probability out of range.
    """

    def __init__(self, policies: Sequence[str], probability: float | Callable[[int], float] = 1.0) -> None:
        if unknown := [name for name in policies if not isinstance(name, str) or name not in POLICIES]:
            names = ", ".join(map(str, unknown))
            raise ValueError(f"augment={list(policies)}: {names} is not one of {', '.join(POLICIES)}.")
        if len({*policies}) < len(policies):
            raise ValueError(f"augment={list(policies)} names a policy twice.")
        if not callable(probability) and not 0 <= probability <= 1:
            raise ValueError(f"probability={probability} must lie in [0, 1].")
        self.policies, self.probability = tuple(policies), probability

    def __call__(self, x: Tensor, step: int, noise: Noise) -> Tensor:
        """Returns augmented images, of the shape of x (N, C, H, W).

        Raises:
            ValueError: If x are not images.
        """
        if x.ndim != 4:
            raise ValueError(f"DiffAugment transforms images of shape (N, C, H, W), not examples of {list(x.shape)}.")
        probability = self.probability(step) if callable(self.probability) else self.probability
        for name in self.policies:
            chosen = noise.uniform(len(x), device=x.device) < probability
            x = torch.where(chosen.view(-1, 1, 1, 1), POLICIES[name](x, noise), x)
        return x
