"""How many steps fit into the time, and which tiles into the memory, for the methods that optimize pixels."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from lightning_modules.image.feature_statistics import FeatureStatistics
from lightning_modules.networks.feature_networks import FeatureNetwork
from lightning_modules.networks.hourglass import Hourglass
from lightning_modules.parts.tiles import ALIGNMENT, OVERLAP
from lightning_modules.runtime.memory import available_bytes, saved_bytes
from zoo.image_runs import OVERHEAD, check_memory

PROBE = 128
"""Side of the image by which time and memory per pixel are measured."""
EVALUATIONS = 1.3
"""Evaluations of the loss per iteration of L-BFGS, about."""
TILES = (512, 256, 128)
SHARE = 0.5
"""Part of the free memory that is taken without tiles."""
BYTES_PER_FLOAT = 4
OVER_SAVED = 1.9
"""Memory over that of the saved features, as measured: 1.4 for gradients beside a few of them, the rest for what lies
between the blocks that the process keeps; see ``freed_memory``."""


@dataclass(frozen=True)
class Plan:
    """How pixels are optimized.

    Args:
        steps: Number of steps in all.
        coarse_steps: Number of steps at each scale but the last.
        tile: Side of the tiles, or ``None`` for the whole image at once.
    """

    steps: int
    coarse_steps: int
    tile: int | None


class Costs:
    """Time and memory of one evaluation of a network's features and their gradient, measured on a small image.

    Args:
        network: The network.
        layers: The layers that are compared.
        device: Where it is computed.
    """

    def __init__(self, network: FeatureNetwork, layers: Sequence[str], device: torch.device) -> None:
        network = network.to(device)
        statistics = FeatureStatistics(network, layers)
        x = torch.zeros(1, 3, PROBE, PROBE, device=device, requires_grad=True)
        self.bytes_per_pixel = saved_bytes(lambda: statistics.grams(x)) / PROBE**2
        self._evaluate(statistics, x)  # the first time is slower
        start = time.perf_counter()
        self._evaluate(statistics, x)
        self.seconds_per_pixel = (time.perf_counter() - start) / PROBE**2

    @staticmethod
    def _evaluate(statistics: FeatureStatistics, x: torch.Tensor) -> None:
        total = torch.stack([gram.sum() for gram in statistics.grams(x).values()]).sum()
        (gradient,) = torch.autograd.grad(total, x)
        gradient.sum().item()  # waits for the device

    def memory(
        self, size: tuple[int, int], tile: int | None, history_size: int, compared: Sequence[tuple[int, int]] = ()
    ) -> float:
        """Returns the bytes that an image takes.

        Args:
            size: Its height and width.
            tile: Side of the tiles, or ``None``.
            history_size: Steps of which L-BFGS keeps the curvature.
            compared: Heights and widths of images whose features it is compared with, such as styles.
        """
        most = math.inf if tile is None else (tile + 2 * OVERLAP + ALIGNMENT) ** 2
        at_once = max(min(most, height * width) for height, width in (size, *compared))
        optimizer = (2 * history_size + 8) * 3 * size[0] * size[1] * BYTES_PER_FLOAT
        return OVER_SAVED * self.bytes_per_pixel * at_once + optimizer + OVERHEAD

    def tile(
        self,
        size: tuple[int, int],
        history_size: int,
        device: torch.device,
        compared: Sequence[tuple[int, int]] = (),
        wanted: int | None = None,
    ) -> int | None:
        """Returns the largest tile that fits into the memory, ``None`` for the whole image.

        Args:
            size: As in ``memory``.
            history_size: As in ``memory``.
            device: Where it is computed.
            compared: As in ``memory``.
            wanted: A tile that is taken if it fits into the memory.

        Raises:
            ZooError: If it does not, or not even the smallest does.
        """
        free = available_bytes(device)
        choices = (None, *TILES) if wanted is None else (wanted,)
        for tile in choices:
            if self.memory(size, tile, history_size, compared) <= SHARE * free:
                return tile
        last = choices[-1]
        named = size
        if compared and self.memory(size, last, history_size) <= free:
            named = max(compared, key=lambda each: each[0] * each[1])
        needed = self.memory(size, last, history_size, compared)
        if needed > free and self.memory(size, TILES[-1], history_size, compared) <= free:
            check_memory(needed, device, named, f"tiles of {TILES[-1]} pixels would fit (--tile {TILES[-1]})")
        check_memory(needed, device, named, self._remedy(size, history_size, free))
        return last

    def _remedy(self, size: tuple[int, int], history_size: int, free: int) -> str:
        longest = max(size)
        while longest > PROBE and self.memory((longest, longest), TILES[-1], history_size) > free:
            longest = int(0.9 * longest)
        return f"a size of {longest} would fit (--size {longest})"

    def plan(self, size: tuple[int, int], scales: int, steps: int, tile: int | None, seconds: float) -> Plan:
        """Returns a plan with as many steps at each scale, at most ``steps`` in all, that fits into the time."""
        extra = 1.0 if tile is None else (4 / 3) * (1 + OVERLAP / tile) ** 2
        at_full_size = EVALUATIONS * extra * self.seconds_per_pixel * size[0] * size[1]
        at_all_scales = at_full_size * sum(4.0**-halvings for halvings in range(scales))
        fitting = seconds / at_all_scales
        each = max(1, int(min(steps / scales, fitting)))
        return Plan(steps if fitting >= steps / scales else min(steps, scales * each), each, tile)


def hourglass_memory(width: int, depth: int, size: tuple[int, int], window: int) -> float:
    """Returns the bytes that deep image prior takes for an image of this size."""
    side = 2 ** (depth + 2)
    with torch.device("meta"):  # the network itself may not fit into the memory
        network: nn.Module = Hourglass(width=width, depth=depth)
        z = torch.zeros(1, 32, side, side)
    per_pixel = saved_bytes(lambda: network(z)) / side**2
    weights = 4 * BYTES_PER_FLOAT * sum(p.numel() for p in network.parameters())
    images = (2 * window + (2 * 32 + 12) * BYTES_PER_FLOAT) * size[0] * size[1] * 3
    return OVER_SAVED * per_pixel * size[0] * size[1] + images + weights + OVERHEAD
