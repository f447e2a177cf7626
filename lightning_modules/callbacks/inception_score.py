"""Inception Score: are pictures of one clear class each, and of all classes together?

Limitation: it never looks at real pictures, nor inside a class: one memorised picture a class reaches
the maximum K, and so do pictures that only fool the classifier. Read it beside FID.

References:
    Improved Techniques for Training GANs (Salimans et al., 2016), https://arxiv.org/abs/1606.03498
    A Note on the Inception Score (Barratt and Sharma, 2018), https://arxiv.org/abs/1801.01973
"""

import warnings

import torch
from torch import Tensor
from torchmetrics.image.inception import InceptionScore as TorchmetricsInceptionScore

from lightning_modules.callbacks.fid import PassedFeatures
from lightning_modules.callbacks.generation_measure import GenerationMeasure
from lightning_modules.callbacks.judged_blocks import Judged
from lightning_modules.callbacks.real_statistics import RealStatistics
from lightning_modules.parts.metrics import inception_score


class InceptionScore(GenerationMeasure):
    """Logs ``val/inception_score-...``, between 1 and the number of classes K, and ``val/inception_score_std-...``.

    The arguments are those of ``GenerationMeasure``.
    """

    needs_real = False

    def measure(self, judged: Judged, real: RealStatistics | None) -> dict[str, float]:
        """Returns ``{"inception_score": mean over 10 splits, "inception_score_std": deviation over them}``."""
        return score(judged)


class InceptionScoreMetric(TorchmetricsInceptionScore):
    """torchmetrics' Inception Score on logits, its splits taken by index instead of a random permutation.

    The permutation comes from the global random state: it would give every process another score, and
    training another sequence of random numbers.
    """

    def __init__(self) -> None:
        with warnings.catch_warnings():  # that features are kept; so they are, once for all measures
            warnings.simplefilter("ignore", UserWarning)
            super().__init__(feature=PassedFeatures(0), sync_on_compute=False)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Returns mean and standard deviation over the splits, float64 scalars."""
        logits = torch.cat(self.features)
        mean, std = inception_score(logits, splits=min(self.splits, len(logits)))
        return torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)


def score(judged: Judged) -> dict[str, float]:
    """Returns the Inception Score of generated pictures, and its deviation over 10 splits."""
    metric = InceptionScoreMetric()
    metric.update(judged.logits)
    mean, std = metric.compute()
    return {"inception_score": mean.item(), "inception_score_std": std.item()}
