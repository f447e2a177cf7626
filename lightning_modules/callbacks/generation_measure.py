"""The base of all measures of generated pictures: when they are taken, of what, and under which name."""

from abc import ABC, abstractmethod
from typing import Any

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from lightning_modules.callbacks.ema import averaged_weights
from lightning_modules.callbacks.judged_blocks import Judged, check_extractor, check_image_spec, judge_samples
from lightning_modules.callbacks.real_statistics import RealStatistics, extractor_digest, real_statistics
from lightning_modules.parts.capabilities import DataSpec, Samples
from lightning_modules.parts.distributed import world_size


class GenerationMeasure(Callback, ABC):
    """Abstract: measures what the module samples at the end of every validation and test.

    Against the validation split in ``trainer.fit`` and ``trainer.validate`` (keys ``val/...``), against the
    test split in ``trainer.test`` (``test/...``). Averaged weights are used where an ``EMA`` callback keeps
    them. Several measures with the same extractor, number of samples and seed share one pass of pictures.
    The extractor belongs to the callback, never to the module: it is in no checkpoint.

    Args:
        extractor: What looks at the pictures (``Extracts``), with weights of its own; it is not looked for.
        num_samples: Pictures judged in validation.
        num_test_samples: Pictures judged in ``trainer.test``.
        seed: Seed of the pictures; part of the protocol.
        cache_dir: Where statistics of real pictures are kept; by default ``statistics_cache()``.

    Raises:
        ValueError: If a number of samples is below 2, or the extractor cannot extract.
    """

    needs_real = True

    def __init__(
        self,
        extractor: nn.Module,
        num_samples: int = 5000,
        num_test_samples: int = 10_000,
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        check_extractor(extractor)
        check_num_judged(num_samples=num_samples, num_test_samples=num_test_samples)
        self.extractor = extractor
        self.num_samples = num_samples
        self.num_test_samples = num_test_samples
        self.seed = seed
        self.cache_dir = cache_dir
        self._judged: Judged | None = None
        self._real: dict[str, RealStatistics] = {}

    @abstractmethod
    def measure(self, judged: Judged, real: RealStatistics | None) -> dict[str, float]:
        """Returns named values of generated pictures; ``real`` is ``None`` only if not ``needs_real``."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses what cannot be measured before training starts.

        Raises:
            ValueError: If the data are no pictures.
            TypeError: If the module has no ``sample``.
        """
        self._real.clear()  # of another datamodule, perhaps
        if not isinstance(pl_module, Samples):
            raise TypeError(f"{type(self).__name__} needs {type(pl_module).__name__}.sample(num_samples, ...).")
        spec = data_spec(trainer, pl_module)
        if spec is not None:
            check_image_spec(spec)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the pictures of the last time: the weights have changed."""
        self._judged = None

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As for validation."""
        self._judged = None

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs ``val/...``, except in the sanity check, whose networks know nothing yet."""
        if not trainer.sanity_checking:
            self._measure(trainer, pl_module, "val", self.num_samples)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs ``test/...``."""
        self._measure(trainer, pl_module, "test", self.num_test_samples)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets go of the pictures; training needs the memory."""
        self._judged = None

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As after validation."""
        self._judged = None

    def _measure(self, trainer: Trainer, module: LightningModule, split: str, num_samples: int) -> None:
        spec = data_spec(trainer, module)
        if spec is None:
            raise ValueError(
                f"{type(self).__name__} must know the value range of the pictures: train with a datamodule that "
                f"has a spec, or build the module with {type(module).__name__}.for_data(spec)."
            )
        keeper = self._keeper(trainer)
        real = keeper._real_statistics(trainer, spec, split) if self.needs_real else None
        judged = keeper._judge(trainer, module, spec, num_samples)
        values = same_everywhere(self.measure(judged, real))
        for name, value in values.items():
            module.log(metric_name(split, name, self.extractor, num_samples, spec), value, rank_zero_only=False)

    def _keeper(self, trainer: Trainer) -> "GenerationMeasure":
        """Returns the first callback of the same protocol: it keeps what all of them look at."""
        return next(
            callback
            for callback in trainer.callbacks  # type: ignore[attr-defined]
            if isinstance(callback, GenerationMeasure) and callback._protocol() == self._protocol()
        )

    def _protocol(self) -> tuple[Any, ...]:
        digest = extractor_digest(self.extractor)
        return digest, self.num_samples, self.num_test_samples, self.seed, self.cache_dir

    def _judge(self, trainer: Trainer, module: LightningModule, spec: DataSpec, num_samples: int) -> Judged:
        if self._judged is None:
            with averaged_weights(trainer, module):
                self._judged = judge_samples(module, self.extractor, num_samples, spec, seed=self.seed)
        return self._judged

    def _real_statistics(self, trainer: Trainer, spec: DataSpec, split: str) -> RealStatistics:
        if split not in self._real:
            self.extractor.to(trainer.strategy.root_device)
            datamodule = getattr(trainer, "datamodule", None)
            self._real[split] = real_statistics(
                self.extractor, spec, split, datamodule, cache_dir=self.cache_dir, progress=True
            )
        return self._real[split]


def data_spec(trainer: Trainer, module: LightningModule) -> DataSpec | None:
    """Returns the spec of the trainer's datamodule, or the one the module remembers."""
    spec = getattr(getattr(trainer, "datamodule", None), "spec", None)
    return spec if spec is not None else getattr(module, "data_spec", None)


def metric_name(stage: str, name: str, extractor: nn.Module, num_samples: int, spec: DataSpec | None = None) -> str:
    """Returns a name that carries the protocol: ``"val/fid-fashion_mnist-5k"``.

    Draws of a binarised model are compared with binarised pictures, another task with a name of its own:
    ``"val/fid-fashion_mnist_binarized-5k"``.
    """
    looks = check_extractor(extractor).extractor_name
    if spec is not None and spec.preprocessing.endswith("binarized"):
        looks += "_binarized"
    return f"{stage}/{name}-{looks}-{short_count(num_samples)}"


def short_count(number: int) -> str:
    """Returns 10000 as ``"10k"`` and 2500 as ``"2500"``."""
    return f"{number // 1000}k" if number % 1000 == 0 else str(number)


def check_num_judged(**numbers: int) -> None:
    """Raises ValueError unless every number, named by its keyword, is an integer of at least 2."""
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 2:
            raise ValueError(f"{name}={number!r} must be an integer of at least 2: one sample has no covariance.")


def same_everywhere(values: dict[str, float]) -> dict[str, float]:
    """Returns process 0's values on every process.

    All have computed them from the same features; but a checkpoint that is kept for its score must be
    kept by all, and two kinds of CPU may differ in the last digit.
    """
    if world_size() > 1:
        shared = [values]
        dist.broadcast_object_list(shared)
        return shared[0]
    return values
