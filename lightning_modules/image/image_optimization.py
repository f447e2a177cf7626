"""What methods share whose result is one image: a single image as data, one process, and the image so far.

They have no density and no samples, so they are no models: a gallery takes the place of checkpoints with a card. They
train, log, resume and are saved by ``Trainer.fit`` like all other modules.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from datamodules.spec import Batch
from lightning_modules.base import ZooModule


class ImageOptimization(ZooModule):
    """Abstract: a module that is fitted to one image, which every batch has; see ``datamodules.SingleImage``."""

    kinds = ("image",)
    value_range = (-1.0, 1.0)
    batch_fields = ("x", "labels", "mask", "target")

    @abstractmethod
    def image(self) -> Tensor:
        """Returns the result so far, (1, 3, H, W) in [-1, 1]."""

    def batch_problem(self, batch: Batch) -> str | None:
        """Refuses several images: there is one set of parameters, which is fitted to one image."""
        if len(batch.x) != 1:
            return f"it is fitted to one image, but a batch has {len(batch.x)}: use batch_size=1."
        return self.field_problem(batch)

    def field_problem(self, batch: Batch) -> str | None:
        """Hook: returns a reason why mask or target do not fit, as a sentence."""
        return None

    def half_precision_problem(self) -> str | None:
        """Names the small changes that an image comes about by."""
        return "an image, or the average of images, is changed in steps that 16 bits would round away."

    def setup(self, stage: str) -> None:
        """Refuses several processes.

        Raises:
            ValueError: If there are several.
        """
        super().setup(stage)
        if self.trainer.world_size > 1:
            raise ValueError(
                f"{type(self).__name__} is fitted to one image, which {self.trainer.world_size} processes cannot "
                "share: use Trainer(devices=1)."
            )

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Returns the result, (1, 3, H, W) in [-1, 1]."""
        return self.image()


def check_rgb(shape: Any) -> tuple[int, int]:
    """Returns height and width of a shape (3, H, W).

    Raises:
        ValueError: If it is another form.
    """
    if len(shape) != 3 or shape[0] != 3 or min(shape) < 1:
        raise ValueError(f"shape={list(shape)} must be [3, height, width]: repeat the channel of a grey image.")
    return int(shape[1]), int(shape[2])


def in_range(x: Tensor) -> Tensor:
    """Returns a detached copy whose values are clamped to [-1, 1]."""
    with torch.no_grad():
        return x.detach().clamp(-1, 1).clone()
