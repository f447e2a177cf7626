"""What happens around training: averages, random states, measures and pictures."""

from lightning_modules.callbacks.ema import EMA, averaged_weights, synchronize_buffers
from lightning_modules.callbacks.evaluation import evaluate_classes, evaluate_samples, train_fid
from lightning_modules.callbacks.exposure_bias import ExposureBias, exposure_curves
from lightning_modules.callbacks.fid import FrechetInceptionDistance
from lightning_modules.callbacks.inception_score import InceptionScore
from lightning_modules.callbacks.interpolation import LatentInterpolation
from lightning_modules.callbacks.kid import KernelInceptionDistance
from lightning_modules.callbacks.mode_coverage import ModeCoverage, evaluate_points
from lightning_modules.callbacks.precision_recall import PrecisionRecall
from lightning_modules.callbacks.random_states import RandomStates
from lightning_modules.callbacks.real_statistics import real_statistics, ship_statistics
from lightning_modules.callbacks.samples import SampleGrid

__all__ = [
    "EMA",
    "ExposureBias",
    "FrechetInceptionDistance",
    "InceptionScore",
    "KernelInceptionDistance",
    "LatentInterpolation",
    "ModeCoverage",
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
