"""Passes over data for the Gaussian and the mixture: batches of any source, and sums over processes."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from lightning_modules.density.components import LIMIT, Moments
from lightning_modules.parts.batches import read_batch
from lightning_modules.parts.processes import world_size
from lightning_modules.runtime.distributed import gather_objects


def batches_of(data: Any) -> Iterator[Tensor]:
    """Yields the examples (N, ...) of a datamodule's training split, or of batches.

    Args:
        data: A datamodule, or an iterable of examples (N, ...) or of tuples that begin with them.
    """
    batches: Iterable[Any] = data.train_dataloader() if hasattr(data, "train_dataloader") else data
    for batch in batches:
        yield read_batch(batch[:1] if isinstance(batch, (list, tuple)) else batch, ("x",)).x


def checked(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Returns examples as (N, D), in float32 or float64.

    Raises:
        ValueError: If they have another shape, are no floats, or one is not finite.
    """
    if tuple(x.shape[1:]) != shape:
        raise ValueError(f"Expected examples of shape {list(shape)}, but a batch has {list(x.shape[1:])}.")
    if not x.is_floating_point():
        raise ValueError(f"Expected floats, but a batch is of {x.dtype}; convert it.")
    if not torch.isfinite(x).all():
        raise ValueError("A batch holds NaN or infinite values.")
    return x.flatten(1).to(torch.promote_types(x.dtype, torch.float32))


def first_examples(data: Any, num: int, shape: tuple[int, ...]) -> Tensor:
    """Returns the first ``num`` or fewer training examples, (N, D), the same on every process.

    Process r's k-th batch is part r of the k-th global one, so that one process and many return the same.

    Raises:
        ValueError: If there are no examples, or ``checked`` refuses them.
    """
    own: list[Tensor] = []
    for x in batches_of(data):
        own.append(checked(x, shape).cpu())
        if sum(map(len, own)) * world_size() >= num:
            break
    if not own:
        raise ValueError("There are no training examples.")
    parts = zip(*gather_objects(own), strict=False)
    return torch.cat([x for part in parts for x in part])[:num]


def summed(*tensors: Tensor) -> list[Tensor]:
    """Returns float64 tensors summed over processes, in one reduction."""
    if world_size() == 1:
        return list(tensors)
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def summed_moments(moments: Moments) -> Moments:
    """Returns moments summed over processes."""
    return Moments(*summed(*moments))


def step_limit(optimizer: Optimizer) -> float:
    """Returns the largest gradient with which the optimizer's step stays within ``LIMIT``."""
    return LIMIT / max(optimizer.param_groups[0]["lr"], 1e-12)


def natural_descent(parameters: Iterable[Any], lr: float) -> Optimizer:
    """Returns SGD, for steps along natural gradients."""
    return torch.optim.SGD(list(parameters), lr=lr, fused=True)
