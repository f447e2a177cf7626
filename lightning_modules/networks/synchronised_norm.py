"""Batch normalisation by the batches of all processes together, on every device.

``nn.SyncBatchNorm`` does this on GPUs alone.

Batch Normalization (Ioffe and Szegedy, 2015), https://arxiv.org/abs/1502.03167
"""

import torch
from torch import Tensor, nn

from lightning_modules.parts.processes import summed, world_size


class SynchronisedBatchNorm(nn.Module):
    """Batch normalisation of vectors, without scale and offset.

    In evaluation, and for a single example, it takes running averages. The constant in its root is small, so that it
    normalises codes that differ little, too, as those of a new encoder do. While ``track_running_stats`` is false, the
    running averages stay what they are, as those of torch's layers do.

    Args:
        features: Number of features.
        momentum: Weight of a batch in the running averages.
        eps: Added to the variance.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, momentum: float = 0.1, eps: float = 1e-8) -> None:
        super().__init__()
        self.momentum, self.eps, self.track_running_stats = momentum, eps, True
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalises (N, features), not in half precision."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        mean, var = self.running_mean, self.running_var
        if self.training and (len(x) > 1 or world_size() > 1):
            count = summed(x.new_full((), len(x)))
            mean = summed(x.sum(0)) / count
            var = summed((x - mean).square().sum(0)) / count
            if self.track_running_stats:
                for average, found in ((self.running_mean, mean), (self.running_var, var)):
                    average.lerp_(found.detach().to(average.dtype), self.momentum)
        return (x - mean) * torch.rsqrt(var + self.eps)
