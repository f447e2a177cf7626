"""What is measured of images: a checkpoint's samples and means beside real ones, and real ones as their reference."""

import sys
import warnings
from typing import Any

from torch import Generator, Tensor, nn

from datamodules.sources.find import DataNotFoundError
from lightning_modules.latent.latent_variable import LatentVariableModule
from lightning_modules.metrics.classifier import Classifier
from lightning_modules.metrics.feature_metrics import IMAGE_METRICS, NEIGHBOURS, check_enough_for_fid
from lightning_modules.metrics.names import metric_name, short_count
from lightning_modules.metrics.protocol import check_extractor_fits
from lightning_modules.metrics.reference_statistics import RealStatistics, real_statistics
from lightning_modules.metrics.sample_evaluation import evaluate_classes, evaluate_samples, train_fid
from zoo.data import SPLIT, as_images, compared_with
from zoo.data_record import is_own
from zoo.errors import ZooError
from zoo.evaluation_request import Request

NUM_IMAGES, NUM_OF_SLOW, NUM_OF_FEW = 10_000, 2000, 1000


def references(request: Request) -> dict[str, float]:
    """Returns metrics of real and binarised images with a classifier, as reference values for models."""
    values: dict[str, float] = {}
    split = compared_with(request.card)
    is_grey = request.module.data_spec.shape[0] == 1
    for real in (request.datamodule, request.datamodule.binarized()) if is_grey else (request.datamodule,):
        statistics = real_statistics(request.module, real.spec, split, real)
        name = request.module.extractor_name
        # These keys are older than the library's present terms; they stay, because cards contain them.
        key = metric_name(split, "inception_score_of_real_pictures", name, statistics.num_samples, real.spec)
        values[key.replace(f"-{short_count(statistics.num_samples)}", "")] = float(statistics.inception_score.mean)
        for num in (NUM_IMAGES, NUM_OF_SLOW, NUM_OF_FEW):
            if len(real.images("train")[0]) < num:
                continue
            key = metric_name(split, "fid_of_training_pictures", name, num, real.spec)
            values[key] = train_fid(
                request.module,
                real,
                num_samples=num,
                split=split,
                statistics=statistics,
                progress=sys.stdout.isatty(),
            )
    return values


def samples_of_images(request: Request) -> dict[str, float]:
    """Returns FID, also over that of real images, Inception Score, KID, precision and recall."""
    return compared_with_images(request, request.images[0])


def means_of_images(request: Request) -> dict[str, float]:
    """Returns the same of the means E[x|z], under names of their own: their pixels have no noise, as samples have."""
    values = compared_with_images(request, Means(request.images[0]))
    return {name.replace("-", "_of_means-", 1): value for name, value in values.items()}


class Means(nn.Module):
    """A model with codes z, whose samples are the means E[x|z]."""

    def __init__(self, module: LatentVariableModule) -> None:
        super().__init__()
        self.module, self.num_evaluated = module, module.num_evaluated

    def sample(self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        """Returns E[x|z] of codes that are drawn from the prior, (num_samples, *shape)."""
        return self.module.sample(num_samples, labels=labels, generator=generator, mean=True)


def compared_with_images(request: Request, module: Any) -> dict[str, float]:
    """Returns the metrics of ``samples_of_images`` of any module that samples such images."""
    spec, extractor = request.images[1], request.feature_extractor
    check_extractor_fits(extractor, spec)
    num_samples, split = request.num_samples or module.num_evaluated, compared_with(request.card)
    check_enough_for_fid(extractor, num_samples)
    try:
        # Two users' folders may have one name: their statistics are found by the images themselves.
        real = as_images(request.datamodule) if is_own(request.card) else None
        statistics = real_statistics(extractor, spec, split, real)
    except ValueError:  # neither shipped nor cached: the data are needed
        real = as_images(request.datamodule)
        statistics = real_statistics(extractor, spec, split, real, progress=True)
    metrics = list(IMAGE_METRICS)
    if statistics.num_samples <= NEIGHBOURS:  # a small folder of the user's own
        metrics.remove("precision_recall")
        warnings.warn(f"Precision and recall need more than {statistics.num_samples} real images.", stacklevel=2)
    values = evaluate_samples(
        module,
        extractor,
        spec=spec,
        num_samples=num_samples,
        split=split,
        seed=request.seed,
        statistics=statistics,
        metrics=metrics,
    )
    fid, over_real, of_real = (
        metric_name(split, name, extractor.extractor_name, num_samples, spec)
        for name in ("fid", "fid_over_real", "fid_of_training_pictures")
    )
    reference = request.reference_metrics.get(of_real)
    if reference is None:
        reference = computed_train_fid(request, num_samples, statistics, split)
    return values if not reference else {**values, over_real: values[fid] / reference}


def computed_train_fid(request: Request, num_samples: int, statistics: RealStatistics, split: str) -> float | None:
    """Returns the FID of as many training images; ``None`` without the data, or with fewer of them."""
    if request.samples_only:
        return None
    try:
        real = as_images(request.datamodule)
        return train_fid(request.feature_extractor, real, num_samples=num_samples, split=split, statistics=statistics)
    except (DataNotFoundError, ValueError, ZooError):
        return None


def classes(request: Request) -> dict[str, float]:
    """Returns how often a classifier of the same classes predicts that which a class-conditional model was given."""
    module, spec = request.images
    if not isinstance(request.feature_extractor, Classifier):
        return {}
    return evaluate_classes(module, request.feature_extractor, spec=spec, split=SPLIT, seed=request.seed)
