"""Datamodules: each yields batches (``spec.Batch``) and describes its data in ``.spec`` (``spec.DataSpec``).

Batches of images and of points have the fields ``x`` and ``labels``, and unpack as ``x, labels = batch``. Images are
float32 (N, C, H, W) in ``spec.value_range``, which is [-1, 1] unless they are binarized. Points are float32 (N, 2).
Labels are int64 (N,), all 0 where there are no classes. Batches of images with captions have a third field, ``tokens``,
int64 (N, S): the words of each caption, padded with 0; ``spec.tokens(caption)`` makes them. Batches of a damaged image
have further fields; see ``SingleImage``.

Batches of sequences have the fields ``x`` and ``lengths``. ``lengths`` is int64 (N,): the first ``lengths[i]`` steps of
``x[i]`` are data, and the rest is padding, zeros up to the longest sequence of the batch. ``x`` is int64 tokens (N, T),
piano rolls (N, T, 88) of zeros and ones, strokes (N, T, 3) or video (N, T, C, H, W) in [0, 1]. Batches of text that is
read in streams have a third field, ``continues``, bool (N,). Where it is true, row i continues row i of the previous
batch, and a method carries its state over; elsewhere a row begins anew.

``images(split)``, ``points(split)`` and ``sequences(split)`` return a whole split at once.

Names are imported when they are first used. So ``datamodules.spec``, which the methods import, needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.datamodule import ZooDataModule as ZooDataModule
    from datamodules.images.captioned_folder import CaptionedFolder as CaptionedFolder
    from datamodules.images.celeba import CelebA as CelebA
    from datamodules.images.emoji import Emoji as Emoji
    from datamodules.images.folder import ImageFolder as ImageFolder
    from datamodules.images.public_images import CIFAR10 as CIFAR10
    from datamodules.images.public_images import KMNIST as KMNIST
    from datamodules.images.public_images import MNIST as MNIST
    from datamodules.images.public_images import SVHN as SVHN
    from datamodules.images.public_images import FashionMNIST as FashionMNIST
    from datamodules.images.single_image import SingleImage as SingleImage
    from datamodules.images.stacked import StackedFashionMNIST as StackedFashionMNIST
    from datamodules.images.synthetic import SyntheticImages as SyntheticImages
    from datamodules.points.toy import Grid as Grid
    from datamodules.points.toy import Ring as Ring
    from datamodules.points.toy import SwissRoll as SwissRoll
    from datamodules.points.toy import TwoMoons as TwoMoons
    from datamodules.requests import SampleRequests as SampleRequests
    from datamodules.sequences.markov import MarkovSource as MarkovSource
    from datamodules.sequences.moving_images import MovingFashionMNIST as MovingFashionMNIST
    from datamodules.sequences.music import JSBChorales as JSBChorales
    from datamodules.sequences.music import Nottingham as Nottingham
    from datamodules.sequences.pixel_sequence import PixelSequence as PixelSequence
    from datamodules.sequences.strokes import Strokes as Strokes
    from datamodules.sequences.text import TextFile as TextFile
    from datamodules.sequences.text import TinyShakespeare as TinyShakespeare
    from datamodules.sequences.vocabulary import decode as decode
    from datamodules.sequences.vocabulary import encode as encode
    from datamodules.sources.find import DamagedDataError as DamagedDataError
    from datamodules.sources.find import DataNotFoundError as DataNotFoundError
    from datamodules.spec import Batch as Batch
    from datamodules.spec import DataSpec as DataSpec

    DATAMODULES: dict[str, type[ZooDataModule]]
    """Class name to class, of every datamodule."""

LOCATIONS = {
    "FashionMNIST": "images.public_images",
    "MNIST": "images.public_images",
    "KMNIST": "images.public_images",
    "CIFAR10": "images.public_images",
    "SVHN": "images.public_images",
    "CelebA": "images.celeba",
    "ImageFolder": "images.folder",
    "CaptionedFolder": "images.captioned_folder",
    "Emoji": "images.emoji",
    "SingleImage": "images.single_image",
    "StackedFashionMNIST": "images.stacked",
    "SyntheticImages": "images.synthetic",
    "Ring": "points.toy",
    "Grid": "points.toy",
    "SwissRoll": "points.toy",
    "TwoMoons": "points.toy",
    "TextFile": "sequences.text",
    "TinyShakespeare": "sequences.text",
    "JSBChorales": "sequences.music",
    "Nottingham": "sequences.music",
    "PixelSequence": "sequences.pixel_sequence",
    "Strokes": "sequences.strokes",
    "MarkovSource": "sequences.markov",
    "MovingFashionMNIST": "sequences.moving_images",
}
"""Name of every datamodule -> its module in this package."""

OTHERS = {
    "Batch": "spec",
    "DamagedDataError": "sources.find",
    "DataNotFoundError": "sources.find",
    "DataSpec": "spec",
    "SampleRequests": "requests",
    "ZooDataModule": "datamodule",
    "decode": "sequences.vocabulary",
    "encode": "sequences.vocabulary",
}
"""The other public names -> their module in this package."""

__all__ = ["DATAMODULES", *LOCATIONS, *OTHERS]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name == "DATAMODULES":
        value: Any = {key: __getattr__(key) for key in LOCATIONS}
    elif (place := (LOCATIONS | OTHERS).get(name)) is not None:
        value = getattr(import_module(f"datamodules.{place}"), name)
    else:
        raise AttributeError(f"module 'datamodules' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
