"""What a checkpoint is measured with: its module, its data, and a feature extractor for metrics of images."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from datamodules.spec import DataSpec
from lightning_modules.autoregressive.sequence_module import SequenceModule
from lightning_modules.metrics.classifier import Classifier
from zoo.cards import Card, card
from zoo.data import as_images, datamodule_of, recipe_datamodule
from zoo.errors import ZooError
from zoo.features import EXTRACTORS, load_extractor
from zoo.paths import checkpoint_names
from zoo.recipe import extractor_of
from zoo.sequence_evaluation import AsImages


class LeftOut(ZooError):
    """Some metrics of a checkpoint cannot be measured, while others can; the message says which, and why."""


class NoExtractor(LeftOut):
    """There is no feature extractor for metrics of images, unless the user names one."""


@dataclass(frozen=True)
class Request:
    """A request to measure a checkpoint.

    Attributes:
        card: The checkpoint.
        module: Its module, on the device.
        num_samples: Number of samples, or ``None`` for the default of each metric.
        extractor: Name of the feature extractor for metrics of images, or ``None`` for the recipe's own.
        data_dir: Folder of the data, or ``None`` to search.
        seed: Seed of the samples.
        device: Device of the computation.
        samples_only: Whether nothing may be computed that needs the data.
    """

    card: Card
    module: Any
    num_samples: int | None = None
    extractor: str | None = None
    data_dir: str | None = None
    seed: int = 0
    device: str = "cpu"
    samples_only: bool = False

    @cached_property
    def datamodule(self) -> Any:
        """The data that the checkpoint was trained on."""
        return datamodule_of(self.card, self.data_dir)

    @cached_property
    def images(self) -> tuple[Any, DataSpec]:
        """A module that samples images, and their spec; a sequence of pixels is reshaped to an image."""
        if isinstance(self.module, SequenceModule):
            spec: DataSpec = as_images(self.datamodule).spec
            return AsImages(self.module, spec.shape), spec
        return self.module, self.module.data_spec

    @cached_property
    def feature_extractor(self) -> Any:
        """The feature extractor, a classifier of such images or another."""
        return load_extractor(self.extractor_name, device=self.device)

    @cached_property
    def extractor_name(self) -> str:
        """The name of the feature extractor, or of its checkpoint."""
        return self.extractor or default_extractor(self.card, self.images[1])

    @property
    def reference_metrics(self) -> Mapping[str, float]:
        """Metrics of real images with the feature extractor, which are in the card of a classifier."""
        return {} if self.extractor_name in EXTRACTORS else card(self.extractor_name).metrics


def default_extractor(of: Card, spec: DataSpec) -> str:
    """Returns the classifier that the recipe names, if its data are the checkpoint's, else one of the same data.

    A card names none, because whoever writes a card must not choose what is loaded.

    Raises:
        ZooError: If there is none.
    """
    if of.recipe is not None and recipe_datamodule(of) is not None and (named := extractor_of(of.recipe)) is not None:
        return named
    cards = {name: card(name) for name in checkpoint_names()}
    fitting = [name for name, c in cards.items() if c.method == Classifier.__name__ and c.data == spec.name]
    if len(fitting) == 1 or f"classifier.{spec.name}" in fitting:
        return fitting[0] if len(fitting) == 1 else f"classifier.{spec.name}"
    reason = f"has several classifiers of {spec.name!r}: {', '.join(fitting)}" if fitting else ""
    raise NoExtractor(
        f"The zoo {reason or f'has no classifier of {spec.name!r}'}. Give one with --extractor: the name, folder or "
        f"Hub id of a Classifier that was trained on such images, or {' or '.join(EXTRACTORS)} for photographs."
    )
