"""Gradients of input gradients without the work that torch does in vain, for penalties on them.

A penalty on the gradient of a network by its input is itself differentiated by the weights. In a network that is
piecewise linear (convolutions, ReLU, leaky ReLU) this second gradient depends on the activations of the forward pass
only through the slopes of the activation functions, which are constant almost everywhere. torch propagates zeros
through the whole forward pass nevertheless, computes the gradients of kernels in the first backward pass too, although
only that by the input is asked for, and those of the second one by convolutions of unfavourable shapes. A network that
runs inside of ``fast_double_backward``, and is differentiated by ``input_gradient``, avoids all three; values and
gradients are the same up to rounding, and a critic step with a gradient penalty takes a third less time.

NOTE: Other functions, such as tanh or a batch norm, are left to torch, and are correct with it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

aten = torch.ops.aten
Settings = tuple[Any, ...]
"""Stride, padding, dilation, transposed, output padding and groups, as a convolution's backward pass takes them."""


class Passes:
    """Which backward pass runs; not a context variable, because torch runs those on GPUs in threads of its own."""

    by_input = False


passes = Passes()


def input_gradient(value: Tensor, x: Tensor) -> Tensor:
    """Returns the gradient of a scalar by x alone, of the shape of x, differentiable in everything it depends on.

    Afterwards x, if it is a leaf, requires no gradient: a second backward pass would compute one that nobody reads.
    """
    passes.by_input = True
    try:
        (gradient,) = torch.autograd.grad(value, x, create_graph=True)
    finally:
        passes.by_input = False
    if x.is_leaf:
        x.requires_grad_(False)
    return gradient


class Convolution(torch.autograd.Function):
    """A convolution of images (N, C, H, W) whose backward pass by the input is ``InputGradient``."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, settings: Settings, are_parameters: bool
    ) -> Tensor:
        """Convolves; ``are_parameters`` tells that neither kernel nor bias is computed, perhaps from the input."""
        ctx.save_for_backward(x, weight)
        ctx.settings, ctx.are_parameters = settings, are_parameters
        output: Tensor = aten.convolution(x, weight, bias, *settings)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients by input, kernel and bias."""
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        # needs_input_grad tells which inputs require gradients, not which of them are asked for.
        by_x, by_weight, by_bias, *_ = ctx.needs_input_grad
        asked = not (passes.by_input and ctx.are_parameters)
        return (
            InputGradient.apply(gradient, weight, x.detach(), ctx.settings) if by_x and x.requires_grad else None,
            kernel_gradient(gradient, x, weight, ctx.settings) if by_weight and asked else None,
            gradient.sum((0, 2, 3)) if by_bias and asked else None,
            None,
            None,
        )


class InputGradient(torch.autograd.Function):
    """The gradient of a convolution by its input, a bilinear function of the incoming gradient and the kernel."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, x: Tensor, settings: Settings) -> Tensor:
        """Returns the gradient by an input of the shape of x."""
        ctx.save_for_backward(gradient, weight)
        ctx.settings = settings
        by_x: Tensor = aten.convolution_backward(gradient, x, weight, None, *settings, [True, False, False])[0]
        return by_x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients by the incoming gradient and by the kernel."""
        (second,), (gradient, weight) = gradients, ctx.saved_tensors
        by_gradient, by_weight, *_ = ctx.needs_input_grad
        return (
            aten.convolution(second, weight, None, *ctx.settings) if by_gradient else None,
            kernel_gradient(gradient, second, weight, ctx.settings) if by_weight else None,
            None,
            None,
        )


def kernel_gradient(gradient: Tensor, x: Tensor, weight: Tensor, settings: Settings) -> Tensor:
    """Returns the gradient of a convolution of x by its kernel."""
    by_weight: Tensor = aten.convolution_backward(gradient, x, weight, None, *settings, [False, True, False])[1]
    return by_weight


class LeakyReLU(torch.autograd.Function):
    """max(x, 0) + slope min(x, 0), whose backward pass takes the slopes as constants."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, slope: float) -> Tensor:
        """Applies the function to each entry."""
        ctx.save_for_backward(x)
        ctx.slope = slope  # type: ignore[attr-defined]
        return F.leaky_relu(x, slope) if slope else torch.relu(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None]:
        """Returns the gradient by the input."""
        (gradient,), (x,) = gradients, ctx.saved_tensors
        return Slopes.apply(gradient, x.detach(), ctx.slope), None


class Slopes(torch.autograd.Function):
    """Multiplies a gradient by the slopes of a leaky ReLU."""

    @staticmethod
    def forward(ctx: FunctionCtx, gradient: Tensor, x: Tensor, slope: float) -> Tensor:
        """Multiplies."""
        ctx.save_for_backward(x)
        ctx.slope = slope  # type: ignore[attr-defined]
        return through_slopes(gradient, x, slope)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Returns the gradient by the incoming gradient."""
        (second,), (x,) = gradients, ctx.saved_tensors
        return through_slopes(second, x, ctx.slope), None, None


def through_slopes(gradient: Tensor, x: Tensor, slope: float) -> Tensor:
    """Returns the gradient where x > 0, and the slope times the gradient elsewhere."""
    by_x: Tensor = (
        aten.leaky_relu_backward(gradient, x, slope, False) if slope else aten.threshold_backward(gradient, x, 0.0)
    )
    return by_x


def convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Stands for ``torch.conv2d``, which takes the same arguments."""
    if isinstance(padding, str) or input.ndim != 4:
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    settings = (*(pair(value) for value in (stride, padding, dilation)), False, [0, 0], groups)
    are_parameters = weight.is_leaf and (bias is None or bias.is_leaf)
    return Convolution.apply(input, weight, bias, settings, are_parameters)


def pair(value: int | Sequence[int]) -> list[int]:
    """Returns a setting as one number for each direction."""
    return [value, value] if isinstance(value, int) else list(value) * (3 - len(value))


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """Stands for ``leaky_relu``, never in place."""
    return LeakyReLU.apply(input, negative_slope)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """Stands for ``relu``, never in place."""
    return LeakyReLU.apply(input, 0.0)


REPLACED: Mapping[Callable[..., Any], Callable[..., Tensor]] = {
    torch.conv2d: convolution,
    F.conv2d: convolution,
    F.leaky_relu: leaky_relu,
    F.relu: relu,
    torch.relu: relu,
}


class fast_double_backward(TorchFunctionMode):  # noqa: N801 (a context manager)
    """Inside of it, convolutions and (leaky) ReLUs are prepared for a second differentiation."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Calls the replacement of a function, if it has one."""
        return REPLACED.get(func, func)(*args, **(kwargs or {}))
