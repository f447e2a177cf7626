"""The learning rates that a run really used, and those that it should have used."""

import math

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer


class RecordedRates(Callback):
    """Remembers the learning rates of every step, by optimizer, as they are when it steps."""

    def __init__(self) -> None:
        self.rates: dict[int, list[float]] = {}

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        index = trainer.optimizers.index(optimizer)
        (rate,) = {group["lr"] for group in optimizer.param_groups}
        self.rates.setdefault(index, []).append(rate)


def warmed_up(peak: float, warmup: int, decay: int | None, steps: int) -> list[float]:
    """A rate that rises in ``warmup`` equal steps to its peak, and falls along half a cosine to zero at ``decay``."""
    rising = [peak * (step + 1) / warmup for step in range(warmup)]
    if decay is None:
        return rising + [peak] * (steps - warmup)
    falling = [peak * math.cos(math.pi / 2 * (step - warmup) / (decay - warmup)) ** 2 for step in range(warmup, steps)]
    return rising + falling
