"""Networks of a velocity v(x, t), by name: all have the same signature.

A velocity network maps examples (N, *shape), times in [0, 1], (N,), a condition, and which conditions are dropped, to
velocities (N, *shape). The condition is class labels, int64 (N,), or ``None``: for a network with classes that is the
velocity without a condition. Time and condition enter all of them by one vector, see ``TimeAndCondition``.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_FREQUENCIES = 32
HIGHEST_FREQUENCY = {"mlp": 10.0, "unet": 1000.0}
"""Radians per unit of time that a network can follow: details of images are a thousandth of their range."""


class TimeAndCondition(nn.Module):
    """The vector by which a network is told the time and the condition: the sum of an embedding of each.

    Args:
        size: Size of the vector.
        highest_frequency: Of the sines and cosines of the time, in radians per unit of time.
        num_classes: Number of classes, or ``None``.
        droppable: Whether there is a vector for no condition, which takes the place of those that are dropped.
    """

    def __init__(self, size: int, highest_frequency: float, num_classes: int | None, droppable: bool) -> None:
        super().__init__()
        self.highest_frequency = highest_frequency
        self.time = nn.Sequential(nn.Linear(2 * NUM_FREQUENCIES, size), nn.SiLU(), nn.Linear(size, size))
        self.condition = None if num_classes is None else nn.Embedding(num_classes, size)
        self.without = nn.Parameter(torch.zeros(size)) if num_classes is not None and droppable else None

    def forward(self, time: Tensor, condition: Tensor | None, dropped: Tensor | None) -> Tensor:
        """Maps times (N,), class labels (int64 (N,), or ``None``) and bool (N,) or ``None`` to (N, size)."""
        frequencies = torch.logspace(
            0, math.log10(self.highest_frequency), NUM_FREQUENCIES, dtype=time.dtype, device=time.device
        )
        angles = time[:, None] * frequencies
        waves = torch.cat([angles.sin(), angles.cos()], 1)
        vector = self.time(waves.to(next(self.time.parameters()).dtype))
        if self.condition is None:
            return vector
        if self.without is None:
            return vector + self.condition(condition)
        if condition is None:
            return vector + self.without
        given = self.condition(condition)
        return vector + (given if dropped is None else torch.where(dropped[:, None], self.without, given))


class MLP(nn.Module):
    """Three hidden layers of 4 * width units, for points and for images flattened to vectors.

    The vector of time and condition is added to the first layer, and scales and shifts the others: beside two
    coordinates in one input, it would drown them.

    Args:
        shape: Shape of an example.
        width: A quarter of the units of a layer.
        num_classes: Number of classes, or ``None``.
        droppable: As in ``TimeAndCondition``.
    """

    def __init__(self, shape: Sequence[int], width: int, num_classes: int | None, droppable: bool) -> None:
        super().__init__()
        size, units = math.prod(shape), 4 * width
        self.embedding = TimeAndCondition(units, HIGHEST_FREQUENCY["mlp"], num_classes, droppable)
        self.input, self.output = nn.Linear(size, units), nn.Linear(units, size)
        self.hidden = nn.ModuleList(nn.Linear(units, units) for _ in range(2))
        self.scale_shift = nn.ModuleList(nn.Linear(units, 2 * units) for _ in range(2))
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(
        self, x: Tensor, time: Tensor, condition: Tensor | None = None, dropped: Tensor | None = None
    ) -> Tensor:
        """Maps examples, times (N,), class labels and dropped ones (bool (N,)) to velocities (N, *shape)."""
        vector = self.embedding(time, condition, dropped)
        h = F.silu(self.input(x.flatten(1)) + vector)
        vector = F.silu(vector)
        for layer, scale_shift in zip(self.hidden, self.scale_shift, strict=True):
            scale, shift = scale_shift(vector).chunk(2, dim=1)
            h = F.silu(layer(h) * (1 + scale) + shift)
        return self.output(h).view_as(x)
