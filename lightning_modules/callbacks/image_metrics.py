"""FID, Inception Score, KID, precision and recall of samples of a module, as callbacks."""

from collections.abc import Sequence
from typing import ClassVar

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from datamodules.spec import DataSpec
from lightning_modules.callbacks.ema import averaged_weights
from lightning_modules.callbacks.run import spec_of, split_to_measure
from lightning_modules.metrics.feature_metrics import IMAGE_METRICS, check_enough, check_enough_for_fid, check_metrics
from lightning_modules.metrics.names import metric_name
from lightning_modules.metrics.protocol import (
    check_extractor,
    check_extractor_fits,
    check_image_spec,
    check_num_samples_at_least_two,
    extract_samples,
    same_everywhere,
)
from lightning_modules.metrics.reference_statistics import RealStatistics, real_statistics
from lightning_modules.parts.capabilities import SupportsSampling


class ImageMetrics(Callback):
    """Computes metrics of samples at the end of every validation and test, all of them in one pass.

    Samples are compared with the validation split in ``trainer.fit`` and ``trainer.validate`` (keys
    ``val/fid-<extractor>-<samples>``), and with the test split in ``trainer.test`` (``test/...``). Averaged weights are
    used if an ``EMA`` callback keeps them. Values are the same on any number of processes and at any batch size; see
    ``metrics.protocol``. The extractor is part of the callback, not of the module or its checkpoints.

    Args:
        extractor: A ``FeatureExtractor`` with trained weights: ``zoo.load_extractor(...)`` or ``Inception(...)``. Its
            name is part of the keys, and values are comparable for one extractor only.
        metrics: Any of ``"fid"`` (0 is best), ``"inception_score"`` (up to the number of classes), ``"kid"`` (about 0
            is best), ``"precision_recall"`` (fractions in [0, 1]).
        num_samples: Number of images sampled in validation; a warning is issued if FID has fewer than twice the number
            of features.
        num_test_samples: Number of images sampled in ``trainer.test``.
        seed: Seed of the samples; part of the protocol.
        cache_dir: Folder in which statistics of real images are stored; by default ``statistics_cache()``.

    Raises:
        ValueError: If a number of samples is too small, a metric is unknown, or ``extractor`` is not a feature
            extractor.

    Example:
        >>> metrics = ImageMetrics(zoo.load_classifier("classifier.fashion_mnist"))     # doctest: +SKIP
        >>> Trainer(callbacks=[metrics]).fit(WGANGP.for_data(data.spec), data)          # doctest: +SKIP
    """

    def __init__(
        self,
        extractor: nn.Module,
        metrics: Sequence[str] = tuple(IMAGE_METRICS),
        num_samples: int = 5000,
        num_test_samples: int = 10_000,
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        check_extractor(extractor)
        check_metrics(tuple(metrics))
        check_num_samples_at_least_two(num_samples=num_samples, num_test_samples=num_test_samples)
        check_enough(tuple(metrics), num_samples=num_samples, num_test_samples=num_test_samples)
        self.extractor, self.metrics = extractor, tuple(metrics)
        self.num_samples, self.num_test_samples = num_samples, num_test_samples
        self.seed, self.cache_dir = seed, cache_dir
        self._real: dict[str, RealStatistics] = {}
        if "fid" in self.metrics:
            check_enough_for_fid(extractor, min(num_samples, num_test_samples))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses, before the first step, what could not be measured, and computes statistics of the real images.

        Raises:
            ValueError: If the data are not images or not described, the extractor does not take such images, or there
                are no real images to compare with.
            TypeError: If the module has no ``sample``.
        """
        self._real.clear()  # it may be of another datamodule
        if not isinstance(pl_module, SupportsSampling):
            raise TypeError(f"{type(self).__name__} needs {type(pl_module).__name__}.sample(num_samples, ...).")
        spec = spec_of(trainer, pl_module)
        if spec is not None:
            check_image_spec(spec)
        if (split := split_to_measure(trainer, stage, type(self).__name__)) is None:
            return
        if spec is None:
            raise ValueError(
                f"{type(self).__name__} needs the value range of the images: train with a datamodule that "
                f"has a spec, or build the module with {type(pl_module).__name__}.for_data(spec)."
            )
        self.extractor.to(trainer.strategy.root_device)
        check_extractor_fits(self.extractor, spec)
        if any(IMAGE_METRICS[name].needs_real for name in self.metrics):
            real = self._real_statistics(trainer, spec, split)
            check_enough(self.metrics, **{f"number of real images ({split})": real.num_samples})

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs ``val/...``, except in the sanity check before training."""
        if not trainer.sanity_checking:
            self._measure(trainer, pl_module, "val", self.num_samples)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs ``test/...``."""
        self._measure(trainer, pl_module, "test", self.num_test_samples)

    def _measure(self, trainer: Trainer, module: LightningModule, split: str, num_samples: int) -> None:
        spec = spec_of(trainer, module)
        assert spec is not None, "setup has refused a run without"
        needs_real = any(IMAGE_METRICS[name].needs_real for name in self.metrics)
        real = self._real_statistics(trainer, spec, split) if needs_real else None
        with averaged_weights(trainer, module):
            generated = extract_samples(module, self.extractor, num_samples, spec, seed=self.seed)
        values: dict[str, float] = {}
        for name in self.metrics:
            values |= IMAGE_METRICS[name].measure(generated, real)
        extractor = check_extractor(self.extractor).extractor_name
        for name, value in same_everywhere(values).items():
            full_name = metric_name(split, name, extractor, num_samples, spec)
            module.log(full_name, value, prog_bar=name == "fid", rank_zero_only=False)

    def _real_statistics(self, trainer: Trainer, spec: DataSpec, split: str) -> RealStatistics:
        if split not in self._real:
            datamodule = getattr(trainer, "datamodule", None)
            self._real[split] = real_statistics(
                self.extractor, spec, split, datamodule, cache_dir=self.cache_dir, progress=True
            )
        return self._real[split]


class SingleMetric(ImageMetrics):
    """Abstract: ``ImageMetrics`` with one metric, which a subclass names; arguments as there."""

    metric: ClassVar[str]

    def __init__(
        self,
        extractor: nn.Module,
        num_samples: int = 5000,
        num_test_samples: int = 10_000,
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(extractor, (self.metric,), num_samples, num_test_samples, seed, cache_dir)


class FrechetInceptionDistance(SingleMetric):
    """``ImageMetrics`` with FID alone; arguments as in ``ImageMetrics``."""

    metric = "fid"


class InceptionScore(SingleMetric):
    """``ImageMetrics`` with the Inception Score alone; arguments as in ``ImageMetrics``."""

    metric = "inception_score"


class KernelInceptionDistance(SingleMetric):
    """``ImageMetrics`` with KID alone; arguments as in ``ImageMetrics``."""

    metric = "kid"


class PrecisionRecall(SingleMetric):
    """``ImageMetrics`` with precision and recall alone; arguments as in ``ImageMetrics``."""

    metric = "precision_recall"
