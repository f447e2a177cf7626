"""Two batches under the same batch normalisation: the second is normalised by the statistics of the first.

A difference of two outputs is then one of their inputs alone, however many examples each batch has. Gradients flow back
into the statistics, and the running averages see the first batch only.

Batch Normalization (Ioffe and Szegedy, 2015), https://arxiv.org/abs/1502.03167
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_modules.parts.processes import summed, world_size

aten = torch.ops.aten
Statistics = tuple[Tensor, Tensor]
"""Mean and inverse standard deviation, 1 / sqrt(variance + eps), of each channel, (C,)."""


@dataclass(frozen=True)
class BatchStatistics:
    """The statistics by which a network's batch normalisation has normalised a batch.

    Args:
        network: The network.
        found: Those of each layer, in the order of its calls.
    """

    network: nn.Module
    found: dict[_BatchNorm, list[Statistics]] = field(default_factory=dict)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Records the statistics of the batches that pass through the network, outside of ``torch.compile``."""
        layers = [layer for layer in self.network.modules() if isinstance(layer, _BatchNorm)]
        # Without running averages, a layer takes the statistics of a batch in evaluation, too.
        layers = [layer for layer in layers if layer.training or layer.running_mean is None]
        with calling({layer: partial(self._record, layer) for layer in layers}):
            yield

    def _record(self, layer: _BatchNorm, x: Tensor) -> Tensor:
        y, statistics = normalised(layer, x)
        self.found.setdefault(layer, []).append(statistics)
        return y

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Normalises one batch by these statistics; of several that were recorded, by those of the first."""
        with calling({layer: partial(normalised_by, layer, iter(found)) for layer, found in self.found.items()}):
            yield


@contextmanager
def calling(functions: dict[_BatchNorm, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Calls a function in place of each layer."""
    for layer, function in functions.items():
        layer.forward = function  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        for layer in functions:
            del layer.forward


def normalised(layer: _BatchNorm, x: Tensor) -> tuple[Tensor, Statistics]:
    """Returns what the layer makes of x (N, C, ...), and the statistics of this batch, with gradients."""
    if x.numel() == x.shape[1] or (isinstance(layer, nn.SyncBatchNorm) and world_size() > 1):
        # One value has no variance, which the layer says; a layer of several processes takes the batches of all.
        return type(layer).forward(layer, x), statistics_over_processes(x, layer.eps)
    tracks = layer.track_running_stats and layer.training
    momentum = layer.momentum
    if tracks and layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        momentum = 1 / layer.num_batches_tracked.item() if momentum is None else momentum
    averages = (layer.running_mean, layer.running_var) if tracks else (None, None)
    y, *statistics = Normalised.apply(x, layer.weight, layer.bias, *averages, momentum or 0.0, layer.eps)
    return y, (statistics[0], statistics[1])


def normalised_by(layer: _BatchNorm, found: Iterator[Statistics], x: Tensor) -> Tensor:
    """Returns what the layer makes of x (N, C, ...) by the next of these statistics in place of those of x."""
    y: Tensor = NormalisedBy.apply(x, layer.weight, layer.bias, *next(found), layer.eps)
    return y


def statistics_over_processes(x: Tensor, eps: float) -> Statistics:
    """Returns those of the examples x (N, C, ...) of all processes together."""
    variance, mean = torch.var_mean(x, [dim for dim in range(x.ndim) if dim != 1], correction=0)
    count = mean.new_full((1,), x.numel() // x.shape[1])
    totals = summed(torch.cat([count, count * mean, count * (variance + mean.square())]))
    mean, square = (totals[1:] / totals[0]).chunk(2)
    return mean, torch.rsqrt(square - mean.square() + eps)


class Normalised(torch.autograd.Function):
    """Batch normalisation that also returns its statistics, which cost one pass over x in the backward pass alone."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the normalised x, (N, C, ...), and its statistics, (C,) and (C,); updates the averages."""
        y, mean, inverse = torch.native_batch_norm(x, weight, bias, running_mean, running_var, True, momentum, eps)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.eps = eps
        return y, mean, inverse

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients by x, weight and bias.

        Of mean m and inverse deviation s they are, with n values of a channel, (g_m - s^3 g_s (x - m)) / n.
        """
        (by_y, by_mean, by_inverse), (x, weight, mean, inverse) = gradients, ctx.saved_tensors
        asked = [True, weight is not None, weight is not None]
        by_x, by_weight, by_bias = aten.native_batch_norm_backward(
            by_y, x, weight, None, None, mean, inverse, True, ctx.eps, asked
        )
        count = x.numel() // x.shape[1]
        channels = (1, -1) + (1,) * (x.ndim - 2)
        slope = -by_inverse * inverse**3 / count
        offset = by_mean / count - slope * mean
        by_x.addcmul_(x, slope.view(channels)).add_(offset.view(channels))
        return by_x, by_weight, by_bias, None, None, None, None


class NormalisedBy(torch.autograd.Function):
    """Batch normalisation by given statistics, with gradients by these."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, inverse: Tensor, eps: float
    ) -> Tensor:
        """Returns the normalised x, (N, C, ...), given mean and inverse deviation, (C,) and (C,)."""
        variance = inverse**-2 - eps
        ctx.save_for_backward(x, weight, mean, inverse, variance)
        ctx.eps = eps
        return torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradients by x, weight, bias, mean and inverse deviation."""
        x, weight, mean, inverse, variance = ctx.saved_tensors
        scale = torch.ones_like(mean) if weight is None else weight
        by_x, by_scale, by_shift = aten.native_batch_norm_backward(
            gradients[0], x, scale, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        of_weight = (None, None) if weight is None else (by_scale, by_shift)
        return by_x, *of_weight, -scale * inverse * by_shift, scale * by_scale / inverse, None
