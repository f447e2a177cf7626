"""Pen drawings as sequences of strokes: the next movement of the pen, and whether it is lifted after that."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from datamodules.loader import Source
from datamodules.sequences.sequence_base import SequenceDataModule
from datamodules.sequences.sequence_sources import SequenceSource
from datamodules.sources import public_files
from datamodules.sources.find import find
from datamodules.sources.formats import read_strokes
from datamodules.sources.public_files import PublicDataset
from datamodules.spec import END_OF_DRAWING, DataSpec

PADDING = -1
"""Value of all three numbers of a stored step after the end of its drawing."""
BOTH = "omniglot_and_aaron_sheep"
"""The drawings of both sets, with the set as their class."""


class Offsets:
    """Converts stored drawings to float32: offsets are divided by ``scale``, and padding becomes zeros.

    Args:
        scale: Number of pixels that make one unit of the result.
        dequantize: Add noise, uniform in [-1/2, 1/2) pixels, to each offset, so that a density is well defined: the
            offsets are whole numbers, a quarter of them 0 (Theis et al., 2016, https://arxiv.org/abs/1511.01844).
    """

    def __init__(self, scale: float, dequantize: bool) -> None:
        self.scale, self.dequantize = scale, dequantize

    def __call__(self, strokes: Tensor, uniform: Tensor | None = None) -> Tensor:
        """Converts a batch.

        Args:
            strokes: Shape (N, T, 3), int16; after the end of a drawing, all values are ``PADDING``.
            uniform: Where ``dequantize``, uniform noise in [0, 1), shape (N, S, 3) with S at least T; otherwise None.

        Returns:
            Shape (N, T, 3), float32.
        """
        result = strokes.to(torch.float32)
        if uniform is not None:
            result[..., :2] += uniform[:, : strokes.shape[1], :2] - 0.5
        result[..., :2] /= self.scale
        return result.masked_fill_(strokes[..., 2:] == PADDING, 0.0)


class ClassedDrawings(SequenceSource):
    """Drawings with their classes, int64 (N,), which are the field ``labels`` of batches.

    The classes alternate, by their share, so that the first examples of a split have all of them.

    Args:
        drawings: The drawings of each class, in the order of the classes.
    """

    def __init__(self, drawings: Sequence[Sequence[Tensor]]) -> None:
        joined = SequenceSource.of([drawing for part in drawings for drawing in part])
        order = torch.cat([(torch.arange(len(part)) + 0.5) / len(part) for part in drawings]).argsort(stable=True)
        super().__init__(joined.values, joined.starts[order], joined.lengths[order], PADDING)
        classes = torch.arange(len(drawings)).repeat_interleave(torch.tensor([len(part) for part in drawings]))
        self.classes = classes[order]

    def further_targets(self, indices: Tensor) -> dict[str, Tensor]:
        """Returns the classes."""
        return {"labels": self.classes[indices]}


class Strokes(SequenceDataModule):
    """Drawings by people, simplified to few points; each step is (dx, dy, pen lifted afterwards).

    This is D. Ha's stroke-3 format. Batches are drawings, float32 (N, T, 3), padded with zeros, and their lengths. x
    grows to the right and y downwards.
    Offsets are in units of ``spec.scale`` pixels. A negative log-likelihood of offsets in pixels is 2 log(scale) nats
    per step larger than one in these units, because each step has two offsets.

    "omniglot" has 30 000 training, 1000 validation and 1000 test symbols of 50 alphabets (Lake et al., 2015,
    https://github.com/brendenlake/omniglot). Drawings were split rather than characters, so every alphabet is in each
    part. "aaron_sheep" has 7400, 300 and 300 sheep (Koblin, 2006, http://www.aaronkoblin.com/work/thesheepmarket;
    CC BY-NC 4.0, so not for commercial use). Both come from https://github.com/hardmaru/sketch-rnn-datasets.
    "omniglot_and_aaron_sheep" has the drawings of both, with the set as their class.

    Args:
        dataset: "omniglot", "aaron_sheep" or "omniglot_and_aaron_sheep".
        data_dir: Folder to look in first, and to write to if the data has to be fetched; see
            ``datamodules.sources.find``.
        batch_size: Drawings per process and batch.
        dequantize: Add uniform noise to the offsets; see ``Offsets``. Fresh in training, fixed for held-out drawings.
        scale: Number of pixels per unit, above 0; None for the root mean square of the training offsets.
        seed: Seed of order and noise.
        mark_ends: Give the pen of the last step of each drawing a third state, 2, so that a model can learn when a
            drawing ends, as sketch-rnn does (Ha and Eck, 2017, https://arxiv.org/abs/1704.03477, section 3.1).

    Raises:
        ValueError: If an argument is out of range.
    """

    datasets: ClassVar[dict[str, tuple[PublicDataset, int, float]]] = {
        "omniglot": (public_files.OMNIGLOT_STROKES, 157, 53.6),
        "aaron_sheep": (public_files.AARON_SHEEP_STROKES, 250, 18.5),
    }
    """Name -> the public files, the steps of the longest drawing, and the root mean square of the training offsets."""
    num_drawings: ClassVar[dict[str, int]] = {"omniglot": 30_000, "aaron_sheep": 7400}
    """Name -> the number of training drawings."""
    scale_of_both: ClassVar[float] = 40.2

    def __init__(
        self,
        dataset: str = "omniglot",
        data_dir: str | None = None,
        batch_size: int = 64,
        dequantize: bool = True,
        scale: float | None = None,
        seed: int = 0,
        mark_ends: bool = False,
    ) -> None:
        if dataset not in (*self.datasets, BOTH):
            raise ValueError(f"dataset={dataset!r} is not one of {', '.join((*self.datasets, BOTH))}.")
        super().__init__(batch_size, seed)
        self.save_hyperparameters(logger=False)
        self.names = tuple(self.datasets) if dataset == BOTH else (dataset,)
        spread = self.scale_of_both if dataset == BOTH else self.datasets[dataset][2]
        self.data_dir, self.mark_ends, scale = data_dir, mark_ends, spread if scale is None else scale
        self.spec = DataSpec(
            name=f"{dataset}_strokes",
            kind="strokes",
            shape=(max(self.datasets[name][1] for name in self.names), 3),
            preprocessing="-".join(["ends-marked"] * mark_ends + ["dequantized"] * dequantize),
            scale=scale,
            num_classes=len(self.names) if dataset == BOTH else None,
            class_names=self.names if dataset == BOTH else (),
            class_counts=tuple(self.num_drawings[name] for name in self.names) if dataset == BOTH else (),
        )
        self.transform, self.noise = Offsets(scale, dequantize), dequantize

    def prepare_data(self) -> None:
        """Finds the files, or fetches them.

        Raises:
            DataNotFoundError: If the data was not found.
            DamagedDataError: If a file is truncated or changed.
        """
        for name in self.names:
            find(self.datasets[name][0], self.data_dir)

    def read(self) -> dict[str, Source]:
        """Reads the files; their splits are the published ones."""
        each = [self.drawings(self.datasets[name][0]) for name in self.names]
        if len(each) == 1:
            return {split: SequenceSource.of(part, padding=PADDING) for split, part in each[0].items()}
        return {split: ClassedDrawings([drawings[split] for drawings in each]) for split in each[0]}

    def drawings(self, public: PublicDataset) -> dict[str, list[Tensor]]:
        """Reads the drawings of one set by split, and marks their ends."""
        drawings = read_strokes(find(public, self.data_dir)[0], public.files[0].sha256)
        if self.mark_ends:
            for drawing in (drawing for part in drawings.values() for drawing in part):
                drawing[-1, 2] = END_OF_DRAWING
        return drawings
