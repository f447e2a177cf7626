"""Public data sets of small images, each held in memory as one tensor."""

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from datamodules.images.image_base import ImageDataModule, split_indices
from datamodules.images.pixels import Pixels, as_pixels
from datamodules.loader import Source, TensorSource
from datamodules.sources import public_files
from datamodules.sources.find import find
from datamodules.sources.formats import read_cifar_binary, read_idx, read_svhn
from datamodules.sources.public_files import PublicDataset
from datamodules.spec import DataSpec

Examples = tuple[Tensor, Tensor]
RESIZE_CHUNK = 4096


class PublicImages(ImageDataModule):
    """Abstract: a public data set of small images; a subclass names the files and reads them.

    Batches are ``(x, labels)``: float32 (N, C, H, W) in [-1, 1], or {0, 1} with ``binarize``, and int64 (N,).
    ``val_size`` training examples, chosen by ``seed`` alone, are held out of training. All arguments are JSON values.

    Args:
        data_dir: Folder to look in first, and to write to if the data has to be fetched; see
            ``datamodules.sources.find``.
        batch_size: Examples per process and batch.
        val_size: Training examples held out for validation; 0 for none.
        seed: Seed of split, order and noise.
        binarize: Replace each pixel by a Bernoulli sample in {0, 1}; see ``Pixels``. Fresh samples in training,
            fixed ones in validation and test.
        dequantize: Add uniform noise to each pixel; see ``Pixels``. Fresh in training, fixed in validation and test.
        image_size: Height and width to resize to, once, when the data is read; None keeps the data set's own.
        channels_last: Give batches this memory format.

    Raises:
        ValueError: If an argument is out of range, or both ``binarize`` and ``dequantize`` are asked for.
    """

    name: str
    dataset: ClassVar[PublicDataset]
    shape: ClassVar[tuple[int, int, int]]
    class_names: ClassVar[tuple[str, ...]]
    stored_channels: ClassVar[int | None] = None  # of the files' images, where examples are made of several
    unnamed_classes: ClassVar[int] = 0  # number of classes that have no names

    def __init__(
        self,
        data_dir: str | None = None,
        batch_size: int = 64,
        val_size: int = 5000,
        seed: int = 0,
        binarize: bool = False,
        dequantize: bool = False,
        image_size: int | None = None,
        channels_last: bool = False,
    ) -> None:
        if image_size is not None and image_size < 1:
            raise ValueError(f"image_size={image_size} must be at least 1.")
        channels, height, width = self.shape
        spec = DataSpec(
            name=self.name,
            kind="image",
            shape=(channels, image_size or height, image_size or width),
            num_classes=len(self.class_names) or self.unnamed_classes,
            class_names=self.class_names,
            preprocessing=f"resized-{image_size}" if image_size not in (None, height) else "",
        )
        super().__init__(spec, batch_size, val_size, seed, Pixels(binarize, dequantize, channels_last))
        self.save_hyperparameters(logger=False)
        self.data_dir = data_dir

    @abstractmethod
    def parse(self, paths: list[Path]) -> tuple[Examples, Examples]:
        """Returns (images, labels) of the training and of the test files: uint8 (N, C, H, W) and int64 (N,)."""

    def prepare_data(self) -> None:
        """Finds the files, or fetches them.

        Raises:
            DataNotFoundError: If the data was not found.
            DamagedDataError: If a file is truncated or changed.
        """
        find(self.dataset, self.data_dir)

    def read(self) -> dict[str, Source]:
        """Reads the data, resizes it if asked, and splits it.

        Raises:
            ValueError: If a file is damaged, or ``val_size`` leaves nothing to train on.
        """
        (images, labels), (test_images, test_labels) = self.parse(find(self.dataset, self.data_dir))
        images, test_images = self._fitted(images), self._fitted(test_images)
        train, val = split_indices(len(images), self.val_size, self.seed)
        found = {
            "train": TensorSource(images[train], labels[train]),
            "val": TensorSource(images[val], labels[val]),
            "test": TensorSource(test_images, test_labels),
        }
        return {split: self.arranged(source, split) for split, source in found.items()}

    def arranged(self, source: TensorSource, split: str) -> TensorSource:
        """Hook: returns the examples that are made of the images of a split; these themselves, unless overridden."""
        return source

    def _fitted(self, images: Tensor) -> Tensor:
        images = as_pixels(images, self.stored_channels or self.shape[0], self.dataset.title)
        return images if images.shape[2:] == self.spec.shape[1:] else resized(images, self.spec.shape[-1])


def resized(images: Tensor, size: int) -> Tensor:
    """Resizes square images, bilinear and antialiased.

    Args:
        images: Shape (N, C, H, H), uint8.
        size: Height and width of the result.

    Returns:
        Shape (N, C, size, size), uint8.
    """
    parts = [functional.resize(part, [size, size], antialias=True) for part in images.split(RESIZE_CHUNK)]
    return torch.cat(parts)


class IDXImages(PublicImages):
    """Abstract: 60 000 training and 10 000 test images, 28x28 and grey, in files of MNIST's format."""

    shape = (1, 28, 28)

    def parse(self, paths: list[Path]) -> tuple[Examples, Examples]:
        """Reads the four IDX files; see ``read_idx``."""
        train_images, train_labels, test_images, test_labels = map(read_idx, paths)
        return (train_images[:, None], train_labels.long()), (test_images[:, None], test_labels.long())


class FashionMNIST(IDXImages):
    """Zalando's articles: 10 classes of clothing (Xiao et al., 2017, https://arxiv.org/abs/1708.07747)."""

    name = "fashion_mnist"
    dataset = public_files.FASHION_MNIST
    class_names: ClassVar[tuple[str, ...]] = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )


class MNIST(IDXImages):
    """Handwritten digits (LeCun et al., 1998, http://yann.lecun.com/exdb/mnist/)."""

    name = "mnist"
    dataset = public_files.MNIST
    class_names = tuple("0123456789")


class KMNIST(IDXImages):
    """Cursive Japanese characters, 10 classes (Clanuwat et al., 2018, https://arxiv.org/abs/1812.01718)."""

    name = "kmnist"
    dataset = public_files.KMNIST
    class_names = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


class CIFAR10(PublicImages):
    """Small colour photographs of 10 classes (Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html)."""

    name = "cifar10"
    dataset = public_files.CIFAR10
    shape = (3, 32, 32)
    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    def parse(self, paths: list[Path]) -> tuple[Examples, Examples]:
        """Reads the archive of the binary version; see ``read_cifar_binary``."""
        splits = read_cifar_binary(paths[0])
        return splits["train"], splits["test"]


class SVHN(PublicImages):
    """House numbers, one digit in the centre (Netzer et al., 2011, http://ufldl.stanford.edu/housenumbers)."""

    name = "svhn"
    dataset = public_files.SVHN
    shape = (3, 32, 32)
    class_names = tuple("0123456789")

    def parse(self, paths: list[Path]) -> tuple[Examples, Examples]:
        """Reads the two MATLAB files; see ``read_svhn``."""
        return read_svhn(paths[0]), read_svhn(paths[1])
