"""Samples of sequences, shown as training goes on: text, piano rolls, drawings or clips as pictures."""

from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import Generator

from lightning_modules.callbacks.drawing import Drawing
from lightning_modules.callbacks.generation_measure import data_spec
from lightning_modules.parts.capabilities import Samples
from zoo.drawing import draw_samples


class SampleExhibits(Drawing):
    """Writes ``samples/step-<batches>.png``: what ``zoo.save`` would draw of the module as it is.

    Args:
        num_samples: How many; by default as many as make a good exhibit of the kind of data.
        every_n_batches: Batches from one picture to the next; ``None`` for one each validation.
        seed: Seed of the samples.

    Raises:
        ValueError: If a number is below 1.
    """

    name = "samples"

    def __init__(self, num_samples: int | None = None, every_n_batches: int | None = None, seed: int = 0) -> None:
        super().__init__(every_n_batches, seed)
        if num_samples is not None and num_samples < 1:
            raise ValueError(f"num_samples={num_samples} must be at least 1, or None for what fits the data.")
        self.num_samples = num_samples

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses what cannot be drawn before training starts.

        Raises:
            TypeError: If the module has no ``sample``.
            ValueError: If nothing says what the data are.
        """
        if not isinstance(pl_module, Samples):
            raise TypeError(f"SampleExhibits needs {type(pl_module).__name__}.sample(num_samples, ...).")
        if data_spec(trainer, pl_module) is None:
            raise ValueError("SampleExhibits needs a datamodule with a spec, which says what the samples are.")

    def draw(self, trainer: Trainer, module: LightningModule) -> Image.Image:
        """Draws samples from the fixed noise."""
        return draw_samples(module, self.num_samples, Generator().manual_seed(self.seed)).picture
