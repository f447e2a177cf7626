"""Pen drawings as sequences of strokes: where the pen goes next, and whether it is lifted then."""

from typing import ClassVar

import torch
from torch import Tensor

from datamodules import public_files
from datamodules.find import find
from datamodules.formats import read_strokes
from datamodules.loader import Source
from datamodules.public_files import PublicDataset
from datamodules.sequence_base import SequenceDataModule
from datamodules.sequences import SequenceSource
from datamodules.spec import DataSpec

PADDING = -1


class Offsets:
    """Maps stored drawings to floats: offsets divided by ``scale``, the pen as it is, zeros where a drawing has ended.

    Args:
        scale: Pixels in one unit of the result.
        dequantize: Add noise, uniform in [-1/2, 1/2) pixels, to each offset, so that a density is well defined: the
            offsets are whole numbers, a quarter of them 0 (Theis et al., 2016, https://arxiv.org/abs/1511.01844).
    """

    def __init__(self, scale: float, dequantize: bool) -> None:
        self.scale, self.dequantize = scale, dequantize

    def __call__(self, strokes: Tensor, uniform: Tensor | None = None) -> Tensor:
        """Converts a batch.

        Args:
            strokes: Shape (N, T, 3), int16; where a drawing has ended, all are ``PADDING``.
            uniform: Draws in [0, 1), where ``dequantize``: shape (N, S, 3) with S at least T.

        Returns:
            Shape (N, T, 3), float32.
        """
        result = strokes.to(torch.float32)
        if uniform is not None:
            result[..., :2] += uniform[:, : strokes.shape[1], :2] - 0.5
        result[..., :2] /= self.scale
        return result.masked_fill_(strokes[..., 2:] == PADDING, 0.0)


class Strokes(SequenceDataModule):
    """Drawings by people, (dx, dy, pen lifted after it), simplified to few points (D. Ha's stroke-3 form).

    Examples are float32 (N, T, 3), padded with zeros, beside their lengths. x grows to the right and y downwards.
    Offsets are in units of ``spec.scale`` pixels: a density in these units is worth log(scale) nats more per number in
    pixels, so nats a step in pixels are nats a step + 2 log(scale).

    "omniglot" holds 30 000, 1000 and 1000 symbols of 50 alphabets (Lake et al., 2015,
    https://github.com/brendenlake/omniglot; drawings and not characters were split, so every alphabet is in each
    part), and "aaron_sheep" 7400, 300 and 300 sheep (Koblin, 2006, http://www.aaronkoblin.com/work/thesheepmarket;
    CC BY-NC 4.0, so not for commercial use). Both from https://github.com/hardmaru/sketch-rnn-datasets.

    Args:
        dataset: "omniglot" or "aaron_sheep".
        data_dir: Folder to look in first, and to write to if the data has to be fetched; see ``datamodules.find``.
        batch_size: Drawings per process and batch.
        dequantize: Add uniform noise to the offsets; see ``Offsets``. Fresh in training, fixed for held-out drawings.
        scale: Pixels in one unit; None for the root mean square of the training offsets.
        seed: Seed of order and noise.

    Raises:
        ValueError: If an argument is out of range.
    """

    datasets: ClassVar[dict[str, tuple[PublicDataset, int, float]]] = {
        "omniglot": (public_files.OMNIGLOT_STROKES, 157, 53.6),
        "aaron_sheep": (public_files.AARON_SHEEP_STROKES, 250, 18.5),
    }
    """Name -> the public files, the longest drawing's steps, and root mean square of the training offsets."""

    def __init__(
        self,
        dataset: str = "omniglot",
        data_dir: str | None = None,
        batch_size: int = 64,
        dequantize: bool = True,
        scale: float | None = None,
        seed: int = 0,
    ) -> None:
        if dataset not in self.datasets:
            raise ValueError(f"dataset={dataset!r} is not one of {', '.join(self.datasets)}.")
        super().__init__(batch_size, seed)
        self.save_hyperparameters(logger=False)
        self.public, longest, spread = self.datasets[dataset]
        self.data_dir, scale = data_dir, spread if scale is None else scale
        self.spec = DataSpec(
            name=f"{dataset}_strokes",
            kind="strokes",
            shape=(longest, 3),
            preprocessing="dequantized" if dequantize else "",
            scale=scale,
        )
        self.transform, self.noise = Offsets(scale, dequantize), dequantize

    def prepare_data(self) -> None:
        """Finds the file, or fetches it."""
        find(self.public, self.data_dir)

    def read(self) -> dict[str, Source]:
        """Reads the file; its splits are the published ones."""
        drawings = read_strokes(find(self.public, self.data_dir)[0], self.public.files[0].sha256)
        return {split: SequenceSource.of(part, padding=PADDING) for split, part in drawings.items()}
