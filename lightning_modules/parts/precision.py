"""Floating-point types: float64 where the device has it, and arithmetic that needs more digits than half precision."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor, nn

HALF = (torch.float16, torch.bfloat16)
"""Types of half precision."""
WITHOUT_FLOAT64 = ("mps",)
"""Types of devices that have no float64: Apple's GPU."""


class OnDevice(Protocol):
    """An object that computes on one device."""

    @property
    def device(self) -> torch.device:
        """The device."""
        ...


Model = TypeVar("Model", bound=OnDevice)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def without_autocast(
    method: Callable[Concatenate[Model, Arguments], Result],
) -> Callable[Concatenate[Model, Arguments], Result]:
    """Decorates a method that computes nats: its products have the digits of their operands under autocast too.

    Autocast rounds both operands of every product to half precision. The sum over an image's pixels is then off by half
    a nat or more, and the mean of exponentials of such sums is biased.
    """

    @wraps(method)
    def exact(self: Model, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with torch.autocast(self.device.type, enabled=False):
            return method(self, *args, **kwargs)

    return exact


def has_float64(device: torch.device) -> bool:
    """Whether tensors on the device can be float64."""
    return device.type not in WITHOUT_FLOAT64


def in_float64(x: Tensor) -> Tensor:
    """Returns a tensor in float64, on the CPU if its device has no float64, with gradients."""
    return x.double() if has_float64(x.device) else x.cpu().double()


def home_of_float64(device: torch.device) -> torch.device:
    """Returns the device on which ``in_float64`` places tensors of ``device``."""
    return device if has_float64(device) else torch.device("cpu")


def in_finest(x: Tensor) -> Tensor:
    """Returns a tensor in float64, or in float32 if its device has no float64; it stays on its device."""
    return x.double() if has_float64(x.device) else x.float()


def in_single(x: Tensor) -> Tensor:
    """Returns a tensor of half precision in float32, and any other as it is."""
    return x.float() if x.dtype in HALF else x


@contextmanager
def single_precision(module: nn.Module) -> Iterator[None]:
    """Computes with parameters and buffers of half precision in float32, in the block; they return bit by bit.

    For sums over many points, whose terms half precision would round: on a CPU it also takes many times as long.
    """
    halves = [(tensor, tensor.data) for tensor in (*module.parameters(), *module.buffers()) if tensor.dtype in HALF]
    try:
        for tensor, data in halves:
            tensor.data = data.float()
        yield
    finally:
        for tensor, data in halves:
            tensor.data = data


def device_and_type(module: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Returns the device and the floating-point type of a module's first parameter."""
    first = next(module.parameters())
    return first.device, first.dtype
