"""Images pixel by pixel: data for an autoregressive model that knows nothing about space."""

import torch

from datamodules.images.public_images import FashionMNIST
from datamodules.loader import Source, TensorSource
from datamodules.sequences.sequence_base import SequenceDataModule, binarized_tokens
from datamodules.spec import DataSpec


class PixelSequence(SequenceDataModule):
    """Binarized Fashion-MNIST as 784 tokens in {0, 1}, row by row from the top left.

    Batches are tokens, int64 (N, 784), and their lengths, which are all 784. The bits are those of
    ``FashionMNIST(binarize=True)`` with the same arguments: sampled afresh in training, and fixed in validation and
    test. So likelihoods can be compared with those of models of binarized images.

    Args:
        data_dir: Folder to look in first, and to write to if the data has to be fetched; see
            ``datamodules.sources.find``.
        batch_size: Images per process and batch.
        val_size: Training examples held out for validation; 0 for none.
        seed: Seed of split, order and bits.

    Attributes:
        fashion_mnist: The datamodule of the images, which are not binarized.

    Raises:
        ValueError: If an argument is out of range.
    """

    name = "fashion_mnist_pixels"

    def __init__(self, data_dir: str | None = None, batch_size: int = 64, val_size: int = 5000, seed: int = 0) -> None:
        super().__init__(batch_size, seed, sizes={"val_size": val_size})
        self.save_hyperparameters(logger=False)
        self.fashion_mnist = FashionMNIST(data_dir, batch_size, val_size, seed)
        num_pixels = torch.Size(self.fashion_mnist.spec.shape).numel()
        self.spec = DataSpec(
            name=self.name, kind="tokens", shape=(num_pixels,), vocabulary=("0", "1"), preprocessing="binarized"
        )
        self.transform, self.noise = binarized_tokens, True

    def prepare_data(self) -> None:
        """Finds the files, or fetches them.

        Raises:
            DataNotFoundError: If the data was not found.
            DamagedDataError: If a file is truncated or changed.
        """
        self.fashion_mnist.prepare_data()

    def read(self) -> dict[str, Source]:
        """Reads the images and joins their rows.

        Raises:
            ValueError: If a file is damaged, or ``val_size`` leaves nothing to train on.
        """
        sources = {}
        for split in ("train", "val", "test"):
            if split == "val" and not self.hparams["val_size"]:
                pixels = torch.empty(0, *self.spec.shape, dtype=torch.uint8)
            else:
                pixels = self.fashion_mnist.images(split)[0].flatten(1)
            sources[split] = TensorSource(pixels, torch.full((len(pixels),), pixels.shape[1]), "lengths")
        return {**sources}
