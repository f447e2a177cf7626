"""The data that a checkpoint was trained on, rebuilt from its card."""

import warnings
from collections.abc import Sequence
from typing import Any

from torch import Tensor

import datamodules
from datamodules.images.image_base import ImageDataModule
from datamodules.sequences.pixel_sequence import PixelSequence
from datamodules.spec import Batch
from lightning_modules.metrics.exposure_bias import real_sequences
from zoo.cards import Card
from zoo.compatibility import current_config
from zoo.data_record import is_own, rebuilt, rebuilt_from_spec
from zoo.errors import ZooError
from zoo.paths import recipe_names
from zoo.recipe import read_recipe

SPLIT = "test"


def datamodule_of(card: Card, data_dir: str | None = None) -> Any:
    """Builds the datamodule that the card describes, or for a card of a former version that of its recipe or name.

    Args:
        card: The checkpoint.
        data_dir: Where the data lie: the folder, or the file of a text. Without it, public data are searched, and the
            user's own are taken from where they lay in training; see ``data_record``.

    Raises:
        ZooError: If no datamodule yields such data, or the user's own are not known here.
    """
    if card.datamodule is not None:
        return rebuilt(card, data_dir)
    if (datamodule := recipe_datamodule(card, data_dir)) is not None:
        return datamodule
    where = {} if data_dir is None else {"data_dir": data_dir}
    for candidate in datamodules.DATAMODULES.values():
        if card.data is not None and getattr(candidate, "name", None) == card.data:
            return candidate(**where)
    if data_dir is not None and (datamodule := rebuilt_from_spec(card, data_dir)) is not None:
        return datamodule
    raise ZooError(
        f"{card.name} was trained on {card.data!r}, for which there is no datamodule here; if they are images in a "
        "folder, or a text, name them with --data-dir."
    )


def recipe_datamodule(card: Card, data_dir: str | None = None) -> Any:
    """Builds the datamodule of the checkpoint's recipe; ``None`` without one, or if an override chose other data."""
    if card.recipe not in recipe_names():
        return None
    data = current_config(read_recipe(card.recipe)["data"])
    datamodule_class: Any = datamodules.DATAMODULES[data["class_path"].rpartition(".")[2]]
    where = {} if data_dir is None else {"data_dir": data_dir}
    datamodule = datamodule_class(**data.get("init_args", {}), **where)
    return datamodule if _yields_data_of(datamodule, card) else None


def compared_with(card: Card) -> str:
    """Returns the real images that samples of a checkpoint are compared with: the test split, or ``"all"``."""
    kinds = [] if is_own(card) else [kind for kind in datamodules.DATAMODULES.values() if _name_of(kind) == card.data]
    return next((kind.compared_with for kind in kinds if issubclass(kind, ImageDataModule)), SPLIT)


def _name_of(kind: Any) -> str | None:
    return getattr(kind, "name", None)


def _yields_data_of(datamodule: Any, card: Card) -> bool:
    """Returns whether a datamodule yields the data of a checkpoint, which may know them by their former name."""
    names = (datamodule.spec.name, getattr(datamodule, "former_name", None))
    scale = None if card.data_spec is None else card.data_spec.get("mode_scale")
    return card.data in names and scale in (None, datamodule.spec.mode_scale)


def images_of(card: Card, data_dir: str | None = None) -> Any:
    """Builds the datamodule of a checkpoint's images, also if its data are images as sequences of pixels."""
    return as_images(datamodule_of(card, data_dir))


def as_images(datamodule: Any) -> Any:
    """Returns the datamodule of the images that a datamodule yields, whole or as sequences of pixels."""
    return datamodule.fashion_mnist.binarized() if isinstance(datamodule, PixelSequence) else datamodule


def held_out_batch(card: Card, num: int, data_dir: str | None = None) -> Batch:
    """Returns the first test images of a checkpoint's data, in the model's range, (num, C, H, W), and their labels.

    Warns of a model that was trained on all of its images: they are then of these.
    """
    datamodule = datamodule_of(card, data_dir)
    datamodule.batch_size = num
    batch: Batch = next(iter(datamodule.test_dataloader()))
    if getattr(datamodule, "tests_on_training", False):
        warnings.warn(f"{card.name} was trained on all of its images: none of these is held out.", stacklevel=2)
    return batch


def held_out_sequences(card: Card, num: int, longer_than: int = 0, data_dir: str | None = None) -> list[Tensor]:
    """Returns the first test sequences of a checkpoint's data with more than ``longer_than`` steps, (T, ...) each.

    Raises:
        ZooError: If there is none.
    """
    x, lengths = datamodule_of(card, data_dir).sequences(SPLIT)
    if not len(chosen := (lengths > longer_than).nonzero().flatten()[:num]):
        raise ZooError(
            f"The longest test sequence of {card.data} has {int(lengths.max())} steps: to continue {longer_than} it "
            "must be longer. Give fewer."
        )
    return [x[i, : int(lengths[i])] for i in chosen.tolist()]


def compared_sequences(card: Card, steps: int, num: int, data_dir: str | None = None) -> Sequence[Tensor]:
    """Returns the test sequences for exposure bias, (``steps``, ...) each, at most twice ``num`` of them."""
    return real_sequences(datamodule_of(card, data_dir), SPLIT, steps, num).unbind()
