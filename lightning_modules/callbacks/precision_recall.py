"""Improved precision and recall: fidelity and diversity as two numbers, where FID mixes them.

All generated pictures are compared with the real features that the statistics hold (at most 5 000).

Limitation: single outliers make large balls, so both flatter a model with a few wild samples.

References:
    Improved Precision and Recall Metric for Assessing Generative Models (Kynkaanniemi et al., 2019),
    https://arxiv.org/abs/1904.06991
"""

from lightning_modules.callbacks.generation_measure import GenerationMeasure
from lightning_modules.callbacks.judged_blocks import Judged
from lightning_modules.callbacks.real_statistics import RealStatistics
from lightning_modules.parts.metrics import precision_recall

NEIGHBOURS = 3


class PrecisionRecall(GenerationMeasure):
    """Logs ``val/precision-...`` and ``val/recall-...``, fractions in [0, 1]; torchmetrics has no such metric.

    The arguments are those of ``GenerationMeasure``.
    """

    def measure(self, judged: Judged, real: RealStatistics | None) -> dict[str, float]:
        """Returns ``{"precision": ..., "recall": ...}`` with three nearest neighbours."""
        assert real is not None
        return precision_and_recall(judged, real)


def precision_and_recall(judged: Judged, real: RealStatistics) -> dict[str, float]:
    """Returns precision and recall of generated pictures with three nearest neighbours."""
    return precision_recall(real.features, judged.features, NEIGHBOURS)._asdict()
