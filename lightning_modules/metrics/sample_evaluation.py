"""Metrics of images without a trainer, for ``python -m zoo evaluate`` and the tables.

The values are those that the callbacks log in ``trainer.test``.
"""

from collections.abc import Sequence

import torch
from torch import nn

from datamodules.spec import DataSpec
from lightning_modules.metrics.feature_metrics import (
    IMAGE_METRICS,
    check_enough,
    check_enough_for_fid,
    check_metrics,
    fid,
)
from lightning_modules.metrics.names import metric_name
from lightning_modules.metrics.protocol import (
    BLOCK_SIZE,
    at_least_two,
    check_extractor,
    check_extractor_fits,
    check_image_spec,
    extract_images,
    extract_samples,
    same_everywhere,
)
from lightning_modules.metrics.reference_statistics import HoldsImages, RealStatistics, real_statistics
from lightning_modules.parts.sampling import drawable_classes


def evaluate_samples(
    module: nn.Module,
    extractor: nn.Module,
    *,
    spec: DataSpec,
    num_samples: int = 10_000,
    split: str = "test",
    seed: int = 0,
    statistics: RealStatistics | None = None,
    metrics: Sequence[str] = tuple(IMAGE_METRICS),
    progress: bool = True,
) -> dict[str, float]:
    """Measures what a module samples, with the weights it has, by the block protocol.

    Args:
        module: A module that ``SupportsSampling``.
        extractor: A ``FeatureExtractor``; it is moved to the module's device.
        spec: Spec of the data that the module models.
        num_samples: Number of sampled images, at least 2.
        split: Split of the real images; also the first word of the names.
        seed: Seed of the protocol.
        statistics: Statistics of the real images; by default those that ship with the extractor or are cached.
        metrics: Any of ``IMAGE_METRICS``.
        progress: Whether to show a progress bar.

    Returns:
        Values by names that contain the protocol: ``"test/fid-fashion_mnist-10k"``.

    Raises:
        ValueError: If a metric or split is unknown, ``num_samples`` too small, the data are not images, the extractor
            does not take them, a sample is not finite, or there are no real statistics.
    """
    num_samples = at_least_two("num_samples", num_samples)
    check_metrics(tuple(metrics))
    check_enough(tuple(metrics), num_samples=num_samples)
    check_image_spec(spec)
    check_extractor_fits(extractor, spec)
    if "fid" in metrics:
        check_enough_for_fid(extractor, num_samples)
    if statistics is None and any(IMAGE_METRICS[name].needs_real for name in metrics):
        statistics = real_statistics(extractor, spec, split)
    title = "samples" if progress else None
    generated = extract_samples(module, extractor, num_samples, spec, seed=seed, progress=title)
    values: dict[str, float] = {}
    for name in metrics:
        values |= IMAGE_METRICS[name].measure(generated, statistics)
    extractor_name = check_extractor(extractor).extractor_name
    return {
        metric_name(split, name, extractor_name, num_samples, spec): value
        for name, value in same_everywhere(values).items()
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
    """Measures how often the classifier predicts the class that a conditional module was given.

    Args:
        module: A class-conditional module that ``SupportsSampling``; its labels are 0, 1, ..., K - 1 in turn, of those
            that have captions for a model of these.
        extractor: A ``FeatureExtractor`` whose logits are of the same classes.
        spec: Spec of the data that the module models.
        num_samples: Number of sampled images, at least 2.
        split: First word of the name.
        seed: Seed of the protocol.

    Returns:
        ``{"test/class_accuracy-fashion_mnist-2k": share in [0, 1]}``.

    Raises:
        ValueError: If the data have no classes, or ``num_samples`` is too small.
    """
    num_samples = at_least_two("num_samples", num_samples)
    if (known := drawable_classes(module, spec.num_classes)) is None:
        raise ValueError(f"{spec.name} has no classes.")
    check_extractor_fits(extractor, spec)
    labels = known[torch.arange(BLOCK_SIZE) % len(known)]
    generated = extract_samples(module, extractor, num_samples, spec, seed=seed, labels=labels)
    targets = labels.repeat(-(-num_samples // BLOCK_SIZE))[:num_samples]
    share = (generated.logits.argmax(1) == targets).float().mean().item()
    extractor_name = check_extractor(extractor).extractor_name
    return {metric_name(split, "class_accuracy", extractor_name, num_samples, spec): share}


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
    """Returns the FID of training images against another split: that of a model that reproduces the training data.

    Every table of FIDs shows it as a reference.

    Args:
        extractor: A ``FeatureExtractor``.
        datamodule: Datamodule with both splits.
        num_samples: Number of training images, a subset without repetition.
        split: The other split.
        seed: Seed of the subset.
        statistics: Statistics of the other split, if available.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If there are fewer training images than ``num_samples``.
    """
    num_samples = at_least_two("num_samples", num_samples)
    images = datamodule.images("train")[0]
    if len(images) < num_samples:
        raise ValueError(f"num_samples={num_samples}, but {datamodule.spec.name} has {len(images)} training images.")
    if statistics is None:
        statistics = real_statistics(extractor, datamodule.spec, split, datamodule)
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:num_samples]
    extracted = extract_images(extractor, images[chosen], progress="training images" if progress else None)
    return same_everywhere(fid(extracted, statistics))["fid"]
