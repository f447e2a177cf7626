"""Datamodules: every one yields ``(x, labels)``, or ``(x, lengths)`` of sequences, and says in ``.spec`` what that is.

Pictures are float32 (N, C, H, W) in [-1, 1] (or as ``spec.value_range`` says), points (N, 2) float32; labels are
int64 (N,), zeros where there are no classes.

Sequences have ``lengths``, int64 (N,), in the place of labels: the first ``lengths[i]`` steps of ``x[i]`` are data, and
what follows is padding, zeros up to the longest sequence of the batch. ``x`` is int64 tokens (N, T), piano rolls
(N, T, 88) of zeros and ones, strokes (N, T, 3) or video (N, T, C, H, W) in [0, 1]. Text that is read in streams comes
as ``(x, lengths, continues)``: where ``continues[i]`` (bool), row i goes on from row i of the batch before, and a
method carries its state over; elsewhere it begins anew.

``images(split)``, ``points(split)`` and ``sequences(split)`` give a whole split at once.
"""

from datamodules.base import ZooDataModule
from datamodules.celeba import CelebA
from datamodules.find import DamagedDataError, DataNotFoundError
from datamodules.folder import ImageFolder
from datamodules.images import CIFAR10, KMNIST, MNIST, SVHN, FashionMNIST
from datamodules.markov import MarkovSource
from datamodules.moving_images import MovingFashionMNIST
from datamodules.music import JSBChorales, Nottingham
from datamodules.pixel_sequence import PixelSequence
from datamodules.points import Grid, Ring, SwissRoll, TwoMoons
from datamodules.spec import DataSpec
from datamodules.strokes import Strokes
from datamodules.synthetic import SyntheticImages
from datamodules.text import TextFile, TinyShakespeare
from datamodules.vocabulary import decode, encode

DATAMODULES: dict[str, type[ZooDataModule]] = {
    "FashionMNIST": FashionMNIST,
    "MNIST": MNIST,
    "KMNIST": KMNIST,
    "CIFAR10": CIFAR10,
    "SVHN": SVHN,
    "CelebA": CelebA,
    "ImageFolder": ImageFolder,
    "SyntheticImages": SyntheticImages,
    "Ring": Ring,
    "Grid": Grid,
    "SwissRoll": SwissRoll,
    "TwoMoons": TwoMoons,
    "TextFile": TextFile,
    "TinyShakespeare": TinyShakespeare,
    "JSBChorales": JSBChorales,
    "Nottingham": Nottingham,
    "PixelSequence": PixelSequence,
    "Strokes": Strokes,
    "MarkovSource": MarkovSource,
    "MovingFashionMNIST": MovingFashionMNIST,
}
"""Class name -> class, of every datamodule."""

__all__ = [
    "CIFAR10",
    "CelebA",
    "DATAMODULES",
    "DamagedDataError",
    "DataNotFoundError",
    "DataSpec",
    "FashionMNIST",
    "Grid",
    "ImageFolder",
    "JSBChorales",
    "KMNIST",
    "MNIST",
    "MarkovSource",
    "MovingFashionMNIST",
    "Nottingham",
    "PixelSequence",
    "Ring",
    "SVHN",
    "Strokes",
    "SwissRoll",
    "SyntheticImages",
    "TextFile",
    "TinyShakespeare",
    "TwoMoons",
    "ZooDataModule",
    "decode",
    "encode",
]
