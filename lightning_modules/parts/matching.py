"""Wrong conditions for the examples of a batch: those of other examples."""

import torch
from torch import Tensor

from lightning_modules.parts.noise import Draws


def wrong_conditions(conditions: Tensor, noise: Draws) -> tuple[Tensor, Tensor]:
    """Draws for each example the condition of another one in the batch, uniformly among those that differ from its own.

    If all conditions of the batch are the same, there is no wrong one; each example then gets its own.

    Args:
        conditions: Captions, or captions with classes, int64 (N, S).
        noise: Source of one uniform number per example.

    Returns:
        Wrong conditions, int64 (N, S), and whether there are any, bool, without dimensions.
    """
    different = (conditions[:, None] != conditions).any(2)  # (N, N)
    ranks = noise.uniform(len(conditions), device=conditions.device) * different.sum(1)
    chosen = (different.cumsum(1) > ranks.long()[:, None]).int().argmax(1)  # the first that is true
    wrong = torch.where(different.any(1), chosen, torch.arange(len(chosen), device=chosen.device))
    return conditions[wrong], different.any()
