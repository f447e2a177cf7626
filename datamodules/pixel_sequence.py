"""Pictures pixel by pixel: the text's example of an autoregressive model that knows nothing of space."""

import torch

from datamodules.images import FashionMNIST
from datamodules.loader import Source, TensorSource
from datamodules.sequence_base import SequenceDataModule, binarized_tokens
from datamodules.spec import DataSpec


class PixelSequence(SequenceDataModule):
    """Binarised Fashion-MNIST as 784 tokens in {0, 1}, row by row from the top left.

    Examples are int64 (N, 784) beside their lengths, all 784. The bits are those of ``FashionMNIST(binarize=True)``
    with the same arguments: drawn afresh in training, fixed for held-out pictures and there equal bit by bit, so that
    likelihoods compare with those of models of pictures.

    Args:
        data_dir: Folder to look in first, and to write to if the data has to be fetched; see ``datamodules.find``.
        batch_size: Pictures per process and batch.
        val_size: Training examples held out for validation; 0 for none.
        seed: Seed of split, order and draws.

    Raises:
        ValueError: If an argument is out of range.
    """

    name = "fashion_mnist_pixels"

    def __init__(self, data_dir: str | None = None, batch_size: int = 64, val_size: int = 5000, seed: int = 0) -> None:
        super().__init__(batch_size, seed, sizes={"val_size": val_size})
        self.save_hyperparameters(logger=False)
        self.pictures = FashionMNIST(data_dir, batch_size, val_size, seed)
        num_pixels = torch.Size(self.pictures.spec.shape).numel()
        self.spec = DataSpec(
            name=self.name, kind="tokens", shape=(num_pixels,), vocabulary=("0", "1"), preprocessing="binarized"
        )
        self.transform, self.noise = binarized_tokens, True

    def prepare_data(self) -> None:
        """Finds the files, or fetches them."""
        self.pictures.prepare_data()

    def read(self) -> dict[str, Source]:
        """Reads the pictures and lays their rows one after another."""
        sources = {}
        for split in ("train", "val", "test"):
            pixels = self.pictures.images(split)[0].flatten(1) if self.hparams["val_size"] or split != "val" else None
            if pixels is None:
                pixels = torch.empty(0, *self.spec.shape, dtype=torch.uint8)
            sources[split] = TensorSource(pixels, torch.full((len(pixels),), pixels.shape[1]))
        return {**sources}
