"""Networks of a velocity v(x, t), by name: all have the same signature.

A velocity network maps examples (N, *shape), times in [0, 1], (N,), a condition, and which conditions are dropped, to
velocities (N, *shape). The condition is classes, captions or both, int64 (N, ...) as in ``text_encoder``, or ``None``:
for a network that takes conditions that is the velocity without one. Time and condition enter all of them by one
vector, see ``TimeAndCondition``.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.text_encoder import (
    Condition,
    ConditionEncoder,
    Words,
    condition_encoder,
    vectors_of,
)

NUM_FREQUENCIES = 32
HIGHEST_FREQUENCY = {"mlp": 10.0, "unet": 1000.0}
"""Radians per unit of time that a network can follow: details of images are a thousandth of their range."""


class TimeAndCondition(nn.Module):
    """The vector by which a network is told the time and the condition: the sum of an embedding of each.

    Args:
        size: Size of the vector.
        highest_frequency: Of the sines and cosines of the time, in radians per unit of time.
        condition: Number of classes, captions, or ``None``.
        droppable: Whether there is a vector for no condition, which takes the place of those that are dropped.
    """

    def __init__(self, size: int, highest_frequency: float, condition: Condition, droppable: bool) -> None:
        super().__init__()
        self.highest_frequency = highest_frequency
        self.time = nn.Sequential(nn.Linear(2 * NUM_FREQUENCIES, size), nn.SiLU(), nn.Linear(size, size))
        self.encoder = condition_encoder(condition)
        self.condition = vectors_of(condition, size)
        self.without = nn.Parameter(torch.zeros(size)) if condition is not None and droppable else None

    def forward(self, time: Tensor, condition: Tensor | None, dropped: Tensor | None) -> tuple[Tensor, Words | None]:
        """Maps times (N,), the condition, int64 (N, ...), and dropped ones, bool (N,), or ``None`` for either.

        Returns:
            Vectors (N, size), and the words of captions, those of dropped ones hidden; ``None`` where there are none.
        """
        frequencies = torch.logspace(
            0, math.log10(self.highest_frequency), NUM_FREQUENCIES, dtype=time.dtype, device=time.device
        )
        angles = time[:, None] * frequencies
        waves = torch.cat([angles.sin(), angles.cos()], 1)
        vector = self.time(waves.to(next(self.time.parameters()).dtype))
        if self.condition is None:
            return vector, None
        if condition is None:
            assert self.without is not None
            return vector + self.without, None
        given, words = self.read(condition)
        if dropped is not None:
            assert self.without is not None
            given = torch.where(dropped[:, None], self.without, given)
            words = None if words is None else words._replace(hidden=words.hidden | dropped[:, None])
        return vector + given, words

    def read(self, condition: Tensor) -> tuple[Tensor, Words | None]:
        """Returns the vectors of a condition, (N, size), and the words of its captions, ``None`` for classes alone."""
        assert self.condition is not None
        if not isinstance(self.encoder, ConditionEncoder):
            return self.condition(condition), None
        encoded, words = self.encoder.with_words(condition)
        return self.condition(encoded), words


class MLP(nn.Module):
    """Three hidden layers of 4 * width units, for points and for images flattened to vectors.

    The vector of time and condition is added to the first layer, and scales and shifts the others: beside two
    coordinates in one input, it would drown them.

    Args:
        shape: Shape of an example.
        width: A quarter of the units of a layer.
        condition: Number of classes, captions, or ``None``.
        droppable: As in ``TimeAndCondition``.
    """

    def __init__(self, shape: Sequence[int], width: int, condition: Condition, droppable: bool) -> None:
        super().__init__()
        size, units = math.prod(shape), 4 * width
        self.embedding = TimeAndCondition(units, HIGHEST_FREQUENCY["mlp"], condition, droppable)
        self.input, self.output = nn.Linear(size, units), nn.Linear(units, size)
        self.hidden = nn.ModuleList(nn.Linear(units, units) for _ in range(2))
        self.scale_shift = nn.ModuleList(nn.Linear(units, 2 * units) for _ in range(2))
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(
        self, x: Tensor, time: Tensor, condition: Tensor | None = None, dropped: Tensor | None = None
    ) -> Tensor:
        """Maps examples, times (N,), the condition and dropped ones (bool (N,)) to velocities (N, *shape)."""
        vector, _ = self.embedding(time, condition, dropped)
        h = F.silu(self.input(x.flatten(1)) + vector)
        vector = F.silu(vector)
        for layer, scale_shift in zip(self.hidden, self.scale_shift, strict=True):
            scale, shift = scale_shift(vector).chunk(2, dim=1)
            h = F.silu(layer(h) * (1 + scale) + shift)
        return self.output(h).view_as(x)
