"""Callbacks for training: weight averages, metrics and rendered samples.

The functions that compute metrics outside of training are in ``metrics``; they can also be imported from here, as in
former versions.
"""

from lightning_modules.callbacks.announce import AnnounceMetrics
from lightning_modules.callbacks.conditioning import GeneratorConditioning
from lightning_modules.callbacks.ema import EMA, averaged_weights, synchronize_buffers
from lightning_modules.callbacks.image_metrics import (
    FrechetInceptionDistance,
    ImageMetrics,
    InceptionScore,
    KernelInceptionDistance,
    PrecisionRecall,
)
from lightning_modules.callbacks.image_progress import OptimizedImage
from lightning_modules.callbacks.point_metrics import ModeCoverage
from lightning_modules.callbacks.samples import LatentInterpolation, SampleGrid
from lightning_modules.callbacks.sequence_metrics import ExposureBias
from lightning_modules.metrics.exposure_bias import exposure_curves
from lightning_modules.metrics.modes import evaluate_points
from lightning_modules.metrics.reference_statistics import real_statistics, ship_statistics
from lightning_modules.metrics.sample_evaluation import evaluate_classes, evaluate_samples, train_fid
from lightning_modules.runtime.random_states import RandomStates

__all__ = [
    "EMA",
    "AnnounceMetrics",
    "ExposureBias",
    "FrechetInceptionDistance",
    "GeneratorConditioning",
    "ImageMetrics",
    "InceptionScore",
    "KernelInceptionDistance",
    "LatentInterpolation",
    "ModeCoverage",
    "OptimizedImage",
    "PrecisionRecall",
    "RandomStates",
    "SampleGrid",
    "averaged_weights",
    "evaluate_classes",
    "evaluate_points",
    "evaluate_samples",
    "exposure_curves",
    "real_statistics",
    "ship_statistics",
    "synchronize_buffers",
    "train_fid",
]
