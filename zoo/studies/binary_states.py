"""All states of a few binary units, over which exact sums are taken."""

import torch
from torch import Tensor


def binary_states(num: int) -> Tensor:
    """Returns all states of ``num`` units in {0, 1}, float64 (2 ** num, num)."""
    return (torch.arange(2**num)[:, None] >> torch.arange(num) & 1).double()
