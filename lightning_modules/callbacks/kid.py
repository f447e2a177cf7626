"""Kernel Inception Distance: an unbiased two-sample statistic of the features.

Limitation: its spread over subsets is large next to the differences of good models. At most 5 000 real
pictures take part, those whose features the statistics hold.

References:
    Demystifying MMD GANs (Binkowski et al., 2018), https://arxiv.org/abs/1801.01401
"""

import warnings

import torch
from torch import Tensor
from torchmetrics.image.kid import KernelInceptionDistance as TorchmetricsKID

from lightning_modules.callbacks.fid import PassedFeatures
from lightning_modules.callbacks.generation_measure import GenerationMeasure
from lightning_modules.callbacks.judged_blocks import Judged
from lightning_modules.callbacks.real_statistics import RealStatistics
from lightning_modules.parts.metrics import kernel_distance

SUBSET_SIZE = 1000


class KernelInceptionDistance(GenerationMeasure):
    """Logs ``val/kid-...``, the mean over subsets of 1 000 pictures, and ``val/kid_std-...``; about 0 is best.

    The arguments are those of ``GenerationMeasure``.
    """

    def measure(self, judged: Judged, real: RealStatistics | None) -> dict[str, float]:
        """Returns ``{"kid": mean, "kid_std": standard deviation over the subsets}``."""
        assert real is not None
        return kid(judged, real)


class KernelMetric(TorchmetricsKID):
    """torchmetrics' KID on features, its subsets taken by index instead of at random; see ``kernel_distance``.

    Args:
        num_features: D.
        subset_size: Rows a subset.
    """

    def __init__(self, num_features: int, subset_size: int) -> None:
        with warnings.catch_warnings():  # that features are kept; so they are, once for all measures
            warnings.simplefilter("ignore", UserWarning)
            super().__init__(feature=PassedFeatures(num_features), subset_size=subset_size, sync_on_compute=False)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Returns mean and standard deviation over the subsets, float64 scalars."""
        real, fake = torch.cat(self.real_features), torch.cat(self.fake_features)
        mean, std = kernel_distance(real, fake, self.subset_size)
        return torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)


def kid(judged: Judged, real: RealStatistics) -> dict[str, float]:
    """Returns KID on subsets of 1 000 pictures, or of all where there are fewer."""
    subset_size = min(SUBSET_SIZE, len(judged), len(real.features))
    metric = KernelMetric(judged.features.shape[1], subset_size)
    metric.update(real.features, real=True)
    metric.update(judged.features, real=False)
    mean, std = metric.compute()
    return {"kid": mean.item(), "kid_std": std.item()}
