"""Samples of a density without classes, drawn in one pass."""

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor

from lightning_modules.likelihood import LikelihoodModule
from lightning_modules.parts.noise import new_generator
from lightning_modules.parts.sampling import check_num_samples, choose_labels, evaluating


class UnconditionalSamples(LikelihoodModule, ABC):
    """Abstract: a density that is sampled without labels."""

    @abstractmethod
    def draw_flat(self, num: int, generator: Generator) -> Tensor:
        """Draws examples as vectors, (num, D), in evaluation mode without gradients, by random numbers of a source."""

    def sample(self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        """Samples examples, shape (num_samples, *shape); images are clipped to [-1, 1], points are not.

        Args:
            num_samples: Number of samples, at least 1.
            labels: Must be ``None``: there are no classes.
            generator: Source of all random numbers; ``None`` takes a fresh seed from the system.

        Raises:
            ValueError: If ``num_samples`` is not positive, or labels are given.
        """
        num_samples, generator = check_num_samples(num_samples), generator or new_generator()
        choose_labels(labels, num_samples, None, generator)
        with evaluating(self):
            x = self.draw_flat(num_samples, generator)
        return clipped(x.view(num_samples, *torch.Size(self.hparams["shape"])))


def clipped(x: Tensor) -> Tensor:
    """Clips images to [-1, 1], and returns points unchanged."""
    return x.clamp(-1, 1) if x.ndim == 4 else x
