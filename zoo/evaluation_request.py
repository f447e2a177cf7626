"""What a checkpoint is measured with: its module, its data, and a feature extractor for metrics of images."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from datamodules.spec import DataSpec
from lightning_modules.autoregressive.sequence_module import SequenceModule
from lightning_modules.metrics.classifier import Classifier
from zoo.cards import Card, card
from zoo.data import as_images, datamodule_of, recipe_datamodule
from zoo.errors import ZooError
from zoo.loading import load_classifier
from zoo.paths import checkpoint_names
from zoo.recipe import extractor_of
from zoo.sequence_evaluation import AsImages


class NoExtractor(ZooError):
    """There is no feature extractor for metrics of images, unless the user names one."""


@dataclass(frozen=True)
class Request:
    """A request to measure a checkpoint.

    Attributes:
        card: The checkpoint.
        module: Its module, on the device.
        num_samples: Number of samples, or ``None`` for the default of each metric.
        extractor: Name of the classifier for metrics of images, or ``None`` for the recipe's own.
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
    def classifier(self) -> Classifier:
        """The feature extractor."""
        return load_classifier(self.classifier_name, device=self.device)

    @cached_property
    def classifier_name(self) -> str:
        """The checkpoint of the feature extractor."""
        return self.extractor or default_extractor(self.card, self.images[1])


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
        "Hub id of a Classifier that was trained on such images."
    )
