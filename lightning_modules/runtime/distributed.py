"""Gradients and buffers over several processes, for methods that have more than one optimizer.

``DistributedDataParallel`` requires every parameter to take part in every backward pass, which is not so when
players alternate. So the adversarial loop blocks DDP's own reduction (``strategy.block_backward_sync()``) and
averages the gradients of the optimizer that is about to step itself, in one flat reduction: the result is the
gradient of the mean loss over the union of all batches, under plain ``strategy="ddp"``.

NOTE: Equality with one process on the union batch holds for losses that are means over examples, and
for networks without batch statistics (batch norm keeps statistics per process unless
``sync_batchnorm=True``).
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor, nn

from lightning_modules.parts.processes import world_size


@torch.no_grad()
def all_reduce_gradients(parameters: Iterable[nn.Parameter], *extra: Tensor) -> tuple[Tensor, ...]:
    """Averages gradients over processes, in one reduction for each device and dtype.

    A gradient that is missing on some processes counts as zero there and is divided by the number of
    all processes, as it would be in the mean over the union batch; one that is missing on every process
    stays ``None``. Every process must call this with the same parameters in the same order.

    Args:
        parameters: Those of the optimizer that is about to step.
        *extra: Floating-point tensors that are averaged in the same reduction, such as the stacked terms of the
            loss: decisions (a stop at a non-finite loss) must be based on the same value on every process, or one
            process leaves the others waiting.

    Returns:
        The extra tensors, averaged over processes and detached. With a single process, themselves.
    """
    carried = tuple(tensor.detach() for tensor in extra)
    processes = world_size()
    if processes == 1:
        return carried

    carried = tuple(tensor.clone() for tensor in carried)
    parameters = list(parameters)
    for kind in _kinds([*parameters, *carried]):
        members = [parameter for parameter in parameters if _kind(parameter) == kind]
        extras = [tensor for tensor in carried if _kind(tensor) == kind]
        absent = [parameter.grad is None for parameter in members]
        gradients = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in members]
        present = torch.tensor([float(not missing) for missing in absent], device=kind[0], dtype=kind[1])

        tensors = [present, *gradients, *extras]
        flat = _flatten(tensors)
        dist.all_reduce(flat)
        _unflatten(flat.div_(processes), tensors)

        # Only a process that lacks a gradient has to check whether another process has it.
        if any(absent):
            for parameter, missing, gradient, count in zip(members, absent, gradients, present.tolist(), strict=True):
                if missing and count > 0:
                    parameter.grad = gradient
    return carried


def without_gradient_sync(trainer: Trainer) -> AbstractContextManager[None]:
    """Keeps DDP from reducing gradients inside the backward pass."""
    strategy = trainer.strategy
    return strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) else nullcontext()


def raise_together(problem: str | None) -> None:
    """Raises an error on all processes if one of them has found a problem; every process must call it.

    A process that stops alone leaves the others waiting for it in their next reduction.

    Args:
        problem: The problem that this process has found, or ``None``.

    Raises:
        ValueError: With the first problem that was found, in the order of processes.
    """
    problems: list[str | None] = [problem]
    if world_size() > 1:
        problems = [None] * world_size()
        dist.all_gather_object(problems, problem)
    for found in problems:
        if found is not None:
            raise ValueError(found)


@torch.no_grad()
def gather_objects(own: Any) -> list[Any]:
    """Returns the objects that all processes pass, in the order of processes; all must call it together."""
    gathered: list[Any] = [own] * world_size()
    if world_size() > 1:
        dist.all_gather_object(gathered, own)
    return gathered


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Sums a tensor over processes, in place; all must call it together."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def largest_over_processes(numbers: Sequence[int], device: torch.device) -> list[int]:
    """Returns the largest of each of several numbers over processes; all must call it together.

    Args:
        numbers: As many on every process.
        device: Where the backend of the process group reduces.
    """
    tensor = torch.tensor(numbers, dtype=torch.int64, device=device)
    if world_size() > 1:
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return [int(number) for number in tensor.tolist()]


def broadcast_buffers(module: nn.Module) -> None:
    """Gives every process the buffers of process 0, in one broadcast for each device and dtype.

    Under manual optimization Lightning does not synchronise buffers: running statistics of batch norm differ between
    processes, and so do the samples. Every process must call this.

    Args:
        module: The module whose buffers are overwritten in place.
    """
    broadcast_tensors(list(module.buffers()))


@torch.no_grad()
def broadcast_tensors(tensors: Sequence[Tensor]) -> None:
    """Overwrites tensors in place by those of process 0, in one broadcast for each device and dtype."""
    if world_size() == 1:
        return
    for kind in _kinds(tensors):
        members = [tensor for tensor in tensors if _kind(tensor) == kind]
        flat = _flatten(members)
        # Not every backend supports booleans.
        carrier = flat.to(torch.uint8) if flat.dtype == torch.bool else flat
        dist.broadcast(carrier, src=0)
        _unflatten(carrier.to(flat.dtype), members)


def _kind(tensor: Tensor) -> tuple[torch.device, torch.dtype]:
    return tensor.device, tensor.dtype


def _kinds(tensors: Iterable[Tensor]) -> list[tuple[torch.device, torch.dtype]]:
    # In order of first appearance: every process has to reduce the groups in the same order.
    return list(dict.fromkeys(_kind(tensor) for tensor in tensors))


def _flatten(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _unflatten(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    parts = flat.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view(tensor.shape))
