"""Frechet Inception Distance: how far the Gaussian of generated features is from that of real ones.

Limitation: it sees two moments of the features and is biased by about c / N, by a c that depends on the
model: compare at equal N only, never below twice as many pictures as features.

References:
    GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium
    (Heusel et al., 2017), https://arxiv.org/abs/1706.08500
"""

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance as TorchmetricsFID

from lightning_modules.callbacks.generation_measure import GenerationMeasure
from lightning_modules.callbacks.judged_blocks import BLOCK_SIZE, Judged, check_extractor
from lightning_modules.callbacks.real_statistics import RealStatistics
from lightning_modules.parts.metrics import frechet_distance


class FrechetInceptionDistance(GenerationMeasure):
    """Logs ``val/fid-<extractor>-<samples>``, in squared units of the features; 0 is best.

    Args:
        extractor: What looks at the pictures; FID is named after it, and comparable under it only.
        num_samples: Pictures judged in validation; fewer than twice the features give a warning.
        num_test_samples: Pictures judged in ``trainer.test``.
        seed: Seed of the pictures.
        cache_dir: Where statistics of real pictures are kept.

    Example:
        >>> fid = FrechetInceptionDistance(zoo.load("classifier.fashion_mnist"))     # doctest: +SKIP
        >>> Trainer(callbacks=[fid]).fit(WGANGP.for_data(data.spec), data)          # doctest: +SKIP
    """

    def __init__(
        self,
        extractor: nn.Module,
        num_samples: int = 5000,
        num_test_samples: int = 10_000,
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(extractor, num_samples, num_test_samples, seed, cache_dir)
        warn_if_few(extractor, num_samples)

    def measure(self, judged: Judged, real: RealStatistics | None) -> dict[str, float]:
        """Returns ``{"fid": value}``."""
        assert real is not None
        return fid(judged, real)


class FrechetMetric(TorchmetricsFID):
    """torchmetrics' FID on features: its float64 sums, with real moments from a file and a faster distance.

    ``update`` takes features (N, D) in place of pictures. ``compute`` gives the same number as the parent's,
    by the symmetric route of ``frechet_distance`` and without its rounding to float32 at the end.

    Args:
        num_features: D.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(feature=PassedFeatures(num_features), sync_on_compute=False)

    def set_real(self, mu: Tensor, sigma: Tensor, num_samples: int) -> None:
        """Puts the sums in place that ``num_samples`` features of this mean and covariance would have left."""
        self.real_features_sum = mu * num_samples
        self.real_features_cov_sum = sigma * (num_samples - 1) + num_samples * torch.outer(mu, mu)
        self.real_features_num_samples = torch.tensor(num_samples)

    def compute(self) -> Tensor:
        """Returns the distance as a float64 scalar."""
        sides = []
        for side in ("real", "fake"):
            count = getattr(self, f"{side}_features_num_samples")
            mean = getattr(self, f"{side}_features_sum") / count
            outer = getattr(self, f"{side}_features_cov_sum")
            sides += [mean, (outer - count * torch.outer(mean, mean)) / (count - 1)]
        return torch.tensor(frechet_distance(*sides), dtype=torch.float64)


class PassedFeatures(nn.Module):
    """The identity, with the ``num_features`` that torchmetrics asks an extractor for.

    Features reach torchmetrics through it: the pictures were looked at before, once for all measures.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        """Returns the features as they came."""
        return features


def fid(judged: Judged, real: RealStatistics) -> dict[str, float]:
    """Returns ``{"fid": value}`` of generated features against real statistics."""
    metric = FrechetMetric(judged.features.shape[1])
    metric.set_real(real.mu, real.sigma, real.num_samples)
    for features in judged.features.split(4 * BLOCK_SIZE):
        metric.update(features, real=False)
    return {"fid": metric.compute().item()}


def warn_if_few(extractor: nn.Module, num_samples: int) -> None:
    """Warns when the covariance of the features would be close to singular, and FID dominated by its bias."""
    features = check_extractor(extractor).num_features
    if num_samples < 2 * features:
        rank_zero_warn(
            f"FID of {num_samples} samples with {features} features is mostly bias; use at least {2 * features}."
        )
