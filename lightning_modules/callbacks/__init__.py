"""What happens around training: averages, random states, measures and pictures."""

from lightning_modules.callbacks.ema import EMA, averaged_weights, synchronize_buffers
from lightning_modules.callbacks.random_states import RandomStates

__all__ = ["EMA", "RandomStates", "averaged_weights", "synchronize_buffers"]
