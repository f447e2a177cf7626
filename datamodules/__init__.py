"""Datamodules: every one yields ``(x, labels)`` and says in ``.spec`` what that is.

Pictures are float32 (N, C, H, W) in [-1, 1] (or as ``spec.value_range`` says), points (N, 2) float32; labels are
int64 (N,), zeros where there are no classes. ``images(split)`` and ``points(split)`` give a whole split at once.
"""

from datamodules.base import ZooDataModule
from datamodules.celeba import CelebA
from datamodules.find import DamagedDataError, DataNotFoundError
from datamodules.folder import ImageFolder
from datamodules.images import CIFAR10, KMNIST, MNIST, SVHN, FashionMNIST
from datamodules.points import Grid, Ring, SwissRoll, TwoMoons
from datamodules.spec import DataSpec
from datamodules.synthetic import SyntheticImages

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
}
"""Class name -> class, of every datamodule."""

__all__ = [
    "CIFAR10",
    "DATAMODULES",
    "KMNIST",
    "MNIST",
    "SVHN",
    "CelebA",
    "DamagedDataError",
    "DataNotFoundError",
    "DataSpec",
    "FashionMNIST",
    "Grid",
    "ImageFolder",
    "Ring",
    "SwissRoll",
    "SyntheticImages",
    "TwoMoons",
    "ZooDataModule",
]
