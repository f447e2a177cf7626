"""Datamodules: every one yields ``(x, labels)`` and says what that is in ``.spec``."""

from datamodules.images import CIFAR10, KMNIST, MNIST, SVHN, FashionMNIST
from datamodules.spec import DataSpec

DATAMODULES: dict[str, type] = {cls.__name__: cls for cls in (FashionMNIST, MNIST, KMNIST, CIFAR10, SVHN)}
"""Class name -> class, of every datamodule."""

__all__ = ["CIFAR10", "DATAMODULES", "KMNIST", "MNIST", "SVHN", "DataSpec", "FashionMNIST"]
