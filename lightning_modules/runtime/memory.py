"""How much memory a computation keeps for its gradient, and how much there is."""

from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from torch import Tensor

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files in which Linux says how much memory a container may take, in both versions of its interface."""


def saved_bytes(compute: Callable[[], object]) -> int:
    """Returns the bytes of all tensors that a computation saves for its backward pass, each storage counted once.

    On the device ``"meta"`` nothing is computed, and the bytes are those that it would save elsewhere.
    """
    found: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        found[tensor.untyped_storage()._cdata] = tensor  # all data of meta tensors are at 0
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = compute()  # kept until the end, so that no address is used twice
        total = sum(tensor.untyped_storage().nbytes() for tensor in found.values())
        del result
    return total


def available_bytes(device: torch.device) -> int:
    """Returns the memory that can be taken on a device: free memory, or what the container may still take."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    available = int(psutil.virtual_memory().available)
    own = int(psutil.Process().memory_info().rss)
    for path in LIMITS:
        try:
            limit = int(Path(path).read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        available = min(available, max(0, limit - own))
    return available
