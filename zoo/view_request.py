"""What a view of a checkpoint is rendered from: its module, random numbers and data."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor, nn

from datamodules.images.emoji_attributes import Attributes


@dataclass(frozen=True)
class Request:
    """A request for a view.

    Attributes:
        module: The checkpoint's module.
        num: Number of rows (or images) of the view.
        generator: Source of all random numbers.
        real: Held-out images (num, C, H, W); empty for views that need none.
        labels: Their condition, classes int64 (num,) or captions, or ``None`` for a model without one.
        sequences: Held-out sequences (T, ...), instead of images.
        training: All training images, uint8 (T, C, H, W); empty for views that need none.
        extractor: A feature extractor of such images, or ``None``.
        extractor_name: Which one, or ``None`` for that of the checkpoint.
        asked: What held-out images show, with the captions to sample for.
    """

    module: Any
    num: int
    generator: Generator
    real: Tensor = field(default_factory=lambda: torch.empty(0))
    labels: Tensor | None = None
    sequences: Sequence[Tensor] = ()
    training: Tensor = field(default_factory=lambda: torch.empty(0))
    extractor: nn.Module | None = None
    extractor_name: str | None = None
    asked: Sequence[Attributes] = ()

    @property
    def value_range(self) -> tuple[float, float]:
        """The values that become black and white."""
        return self.module.data_spec.value_range or (-1.0, 1.0)
