"""FID, Inception Score, KID, precision and recall of extracted features, by torchmetrics where it has them.

FID uses two moments of the features and is biased by about c / N, where c depends on the model: compare at equal N
only, with at least twice as many images as features. Inception Score uses no real images and ignores variety within a
class: one memorised image per class reaches the maximum. KID's deviation over subsets is large compared with
differences between good models. Outliers have large balls, so precision and recall both overrate a model with a few
outliers.

References:
    FID: GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017),
    https://arxiv.org/abs/1706.08500
    Inception Score: Improved Techniques for Training GANs (Salimans et al., 2016), https://arxiv.org/abs/1606.03498;
    A Note on the Inception Score (Barratt and Sharma, 2018), https://arxiv.org/abs/1801.01973
    KID: Demystifying MMD GANs (Binkowski et al., 2018), https://arxiv.org/abs/1801.01401
    Precision and recall: Improved Precision and Recall Metric for Assessing Generative Models (Kynkaanniemi et al.,
    2019), https://arxiv.org/abs/1904.06991
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance as TorchmetricsFID
from torchmetrics.image.inception import InceptionScore as TorchmetricsInceptionScore
from torchmetrics.image.kid import KernelInceptionDistance as TorchmetricsKID

from lightning_modules.metrics.image import frechet_distance, inception_score, kernel_distance, precision_recall
from lightning_modules.metrics.protocol import BLOCK_SIZE, Extracted, check_extractor
from lightning_modules.metrics.reference_statistics import RealStatistics

SUBSET_SIZE = 1000
NEIGHBOURS = 3


class PassedFeatures(nn.Module):
    """The identity, with the attribute ``num_features`` that torchmetrics needs of an extractor.

    It passes features to torchmetrics that were extracted before, once for all metrics.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        """Returns the features unchanged."""
        return features


class FrechetMetric(TorchmetricsFID):
    """torchmetrics' FID on features: its float64 sums, with real moments from a file and a faster distance.

    ``update`` takes features (N, D) in place of images. ``compute`` gives the same value as the parent's,
    by the symmetric formula of ``frechet_distance`` and without the final rounding to float32.

    Args:
        num_features: D.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(feature=PassedFeatures(num_features), sync_on_compute=False)

    def set_real(self, mu: Tensor, sigma: Tensor, num_samples: int) -> None:
        """Sets the sums to those of ``num_samples`` features with this mean and covariance."""
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


class InceptionScoreMetric(TorchmetricsInceptionScore):
    """torchmetrics' Inception Score on logits, with splits by index instead of a random permutation.

    The permutation would use the global random state: scores would differ between processes, and the random numbers
    of training would change.
    """

    def __init__(self) -> None:
        with warnings.catch_warnings():  # torchmetrics warns that it keeps all features, which is intended
            warnings.simplefilter("ignore", UserWarning)
            super().__init__(feature=PassedFeatures(0), sync_on_compute=False)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Returns mean and standard deviation over the splits, float64 scalars."""
        logits = torch.cat(self.features)
        mean, std = inception_score(logits, splits=min(self.splits, len(logits)))
        return torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)


class KernelMetric(TorchmetricsKID):
    """torchmetrics' KID on features, with subsets by index instead of at random; see ``kernel_distance``.

    Args:
        num_features: D.
        subset_size: Rows per subset.
    """

    def __init__(self, num_features: int, subset_size: int) -> None:
        with warnings.catch_warnings():  # torchmetrics warns that it keeps all features, which is intended
            warnings.simplefilter("ignore", UserWarning)
            super().__init__(feature=PassedFeatures(num_features), subset_size=subset_size, sync_on_compute=False)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Returns mean and standard deviation over the subsets, float64 scalars."""
        real, fake = torch.cat(self.real_features), torch.cat(self.fake_features)
        mean, std = kernel_distance(real, fake, self.subset_size)
        return torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)


def fid(generated: Extracted, real: RealStatistics) -> dict[str, float]:
    """Returns ``{"fid": value}``, in squared units of the features; 0 is best."""
    metric = FrechetMetric(generated.features.shape[1])
    metric.set_real(real.mu, real.sigma, real.num_samples)
    for features in generated.features.split(4 * BLOCK_SIZE):
        metric.update(features, real=False)
    return {"fid": metric.compute().item()}


def score(generated: Extracted, real: RealStatistics | None = None) -> dict[str, float]:
    """Returns the Inception Score, between 1 and the number of classes, and its standard deviation over 10 splits."""
    metric = InceptionScoreMetric()
    metric.update(generated.logits)
    mean, std = metric.compute()
    return {"inception_score": mean.item(), "inception_score_std": std.item()}


def kid(generated: Extracted, real: RealStatistics) -> dict[str, float]:
    """Returns KID on subsets of 1 000 images (of all if there are fewer), and its standard deviation over subsets."""
    subset_size = min(SUBSET_SIZE, len(generated), len(real.features))
    metric = KernelMetric(generated.features.shape[1], subset_size)
    metric.update(real.features, real=True)
    metric.update(generated.features, real=False)
    mean, std = metric.compute()
    return {"kid": mean.item(), "kid_std": std.item()}


def precision_and_recall(generated: Extracted, real: RealStatistics) -> dict[str, float]:
    """Returns precision and recall, fractions in [0, 1], by three nearest neighbours; torchmetrics has neither."""
    return precision_recall(real.features, generated.features, NEIGHBOURS)._asdict()


class ImageMetric(NamedTuple):
    """A metric of generated images, whether it needs statistics of real images, and the least number of either."""

    measure: Callable[[Extracted, Any], dict[str, float]]
    needs_real: bool = True
    least: int = 2


IMAGE_METRICS = {
    "fid": ImageMetric(fid),
    "inception_score": ImageMetric(score, needs_real=False),
    "kid": ImageMetric(kid),
    "precision_recall": ImageMetric(precision_and_recall, least=NEIGHBOURS + 1),
}


def check_metrics(names: tuple[str, ...]) -> None:
    """Raises ValueError, with the known names, if a name is unknown or there is no name."""
    if not names or (unknown := sorted(set(names) - set(IMAGE_METRICS))):
        what = f"Unknown metrics {', '.join(unknown)}" if names else "No metric is named"
        raise ValueError(f"{what}; the metrics are {', '.join(IMAGE_METRICS)}.")


def check_enough(metrics: tuple[str, ...], **numbers: int) -> None:
    """Raises ValueError if a number of images, named by its keyword, is too small for one of the metrics."""
    for metric in metrics:
        for name, number in numbers.items():
            if number < (least := IMAGE_METRICS[metric].least):
                raise ValueError(f"{name}={number} is too small for {metric}, which needs at least {least} images.")


def check_enough_for_fid(extractor: nn.Module, num_samples: int) -> None:
    """Warns when the covariance of the features would be close to singular, and FID dominated by its bias.

    Raises:
        ValueError: If the extractor has ``least_samples``, and there are fewer.
    """
    features = check_extractor(extractor).num_features
    if num_samples < (least := getattr(extractor, "least_samples", 2)):
        raise ValueError(
            f"FID of {num_samples} samples with the {features} features of {check_extractor(extractor).extractor_name} "
            f"is mostly bias: measure at least {least} samples."
        )
    if num_samples < 2 * features:
        rank_zero_warn(
            f"FID of {num_samples} samples with {features} features is mostly bias; use at least {2 * features}."
        )
