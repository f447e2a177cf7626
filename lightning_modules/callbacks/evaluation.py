"""Measuring without a trainer: what ``python -m zoo evaluate`` and the tables call.

The numbers are those that the callbacks log in ``trainer.test``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from lightning_modules.callbacks.fid import fid, warn_if_few
from lightning_modules.callbacks.generation_measure import check_num_judged, metric_name, same_everywhere
from lightning_modules.callbacks.inception_score import score
from lightning_modules.callbacks.judged_blocks import BLOCK_SIZE, Judged, judge_images, judge_samples
from lightning_modules.callbacks.kid import kid
from lightning_modules.callbacks.precision_recall import precision_and_recall
from lightning_modules.callbacks.real_statistics import HoldsImages, RealStatistics, real_statistics
from lightning_modules.parts.capabilities import DataSpec

MEASURES: dict[str, Callable[[Judged, Any], dict[str, float]]] = {
    "fid": fid,
    "inception_score": lambda judged, real: score(judged),
    "kid": kid,
    "precision_recall": precision_and_recall,
}
WITHOUT_REAL = {"inception_score"}


def evaluate_samples(
    module: nn.Module,
    extractor: nn.Module,
    *,
    spec: DataSpec,
    num_samples: int = 10_000,
    split: str = "test",
    seed: int = 0,
    statistics: RealStatistics | None = None,
    measures: Sequence[str] = tuple(MEASURES),
    progress: bool = True,
) -> dict[str, float]:
    """Measures what a module samples, with the weights it has, by the block protocol.

    Args:
        module: Something that ``Samples``.
        extractor: Something that ``Extracts``; it is moved to the module's device.
        spec: The data the module models.
        num_samples: Pictures judged, at least 2.
        split: The real pictures compared with; also the first word of the names.
        seed: Seed of the protocol.
        statistics: Of the real pictures; by default those that ship with the extractor or are cached.
        measures: Any of ``MEASURES``.
        progress: Whether to show a progress bar.

    Returns:
        Values by names that carry the protocol: ``"test/fid-fashion_mnist-10k"``.

    Raises:
        ValueError: If a measure or split is unknown, ``num_samples`` too small, the data no pictures, a sample
            not finite, or there are no real statistics.
    """
    check_num_judged(num_samples=num_samples)
    if unknown := sorted(set(measures) - set(MEASURES)):
        raise ValueError(f"Unknown measures {', '.join(unknown)}; there are {', '.join(MEASURES)}.")
    if "fid" in measures:
        warn_if_few(extractor, num_samples)
    if statistics is None and set(measures) - WITHOUT_REAL:
        statistics = real_statistics(extractor, spec, split)
    judged = judge_samples(module, extractor, num_samples, spec, seed=seed, progress="samples" if progress else None)
    values: dict[str, float] = {}
    for measure in measures:
        values |= MEASURES[measure](judged, statistics)
    return {
        metric_name(split, name, extractor, num_samples, spec): value for name, value in same_everywhere(values).items()
    }


def evaluate_classes(
    module: nn.Module,
    extractor: nn.Module,
    *,
    spec: DataSpec,
    num_samples: int = 2000,
    split: str = "test",
    seed: int = 0,
) -> dict[str, float]:
    """Measures how often the extractor names the class that a conditional module was asked for.

    Args:
        module: A class-conditional ``Samples``, asked for classes 0, 1, ..., K - 1 in turn.
        extractor: Something that ``Extracts``, whose logits are of the same classes.
        spec: The data the module models.
        num_samples: Pictures judged, at least 2.
        split: First word of the name.
        seed: Seed of the protocol.

    Returns:
        ``{"test/class_accuracy-fashion_mnist-2k": share in [0, 1]}``.

    Raises:
        ValueError: If the data have no classes, or ``num_samples`` is too small.
    """
    check_num_judged(num_samples=num_samples)
    if spec.num_classes is None:
        raise ValueError(f"{spec.name} has no classes to ask for.")
    labels = torch.arange(BLOCK_SIZE) % spec.num_classes
    judged = judge_samples(module, extractor, num_samples, spec, seed=seed, labels=labels)
    asked = labels.repeat(-(-num_samples // BLOCK_SIZE))[:num_samples]
    share = (judged.logits.argmax(1) == asked).float().mean().item()
    return {metric_name(split, "class_accuracy", extractor, num_samples, spec): share}


def train_fid(
    extractor: nn.Module,
    datamodule: HoldsImages,
    *,
    num_samples: int = 10_000,
    split: str = "test",
    seed: int = 0,
    statistics: RealStatistics | None = None,
    progress: bool = True,
) -> float:
    """FID of training pictures against another split: what a model that has learnt all there is would score.

    Every table of FIDs shows it, so that one sees how far there is to go.

    Args:
        extractor: Something that ``Extracts``.
        datamodule: Holds both splits.
        num_samples: Training pictures, a subset chosen by ``seed`` without repetition.
        split: The split compared with.
        seed: Chooses the subset.
        statistics: Of that split, if they are at hand.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If there are fewer training pictures than ``num_samples``.
    """
    check_num_judged(num_samples=num_samples)
    images = datamodule.images("train")[0]
    if len(images) < num_samples:
        raise ValueError(f"num_samples={num_samples}, but {datamodule.spec.name} has {len(images)} training pictures.")
    if statistics is None:
        statistics = real_statistics(extractor, datamodule.spec, split, datamodule)
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:num_samples]
    judged = judge_images(extractor, images[chosen], progress="training pictures" if progress else None)
    return same_everywhere(fid(judged, statistics))["fid"]
