"""Samples from fixed noise, drawn as training goes on."""

import math

import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import Generator, Tensor

from lightning_modules.callbacks.drawing import Drawing
from lightning_modules.callbacks.generation_measure import data_spec
from lightning_modules.parts.capabilities import Samples
from lightning_modules.parts.pictures import image_grid, scatter

NUM_POINTS = 2000
MAX_CLASS_COLUMNS = 20


class SampleGrid(Drawing):
    """Writes ``samples/step-<batches>.png``: a grid of pictures, or generated points over real ones.

    Args:
        num_samples: Pictures in the grid; points are drawn 2 000 at a time.
        columns: Pictures a row. By default a class-conditional model gets a column a class (up to 20), and
            any other a square grid.
        every_n_batches: Batches from one grid to the next; ``None`` for one each validation.
        seed: Seed of the samples.

    Raises:
        ValueError: If a number is below 1.
    """

    name = "samples"

    def __init__(
        self, num_samples: int = 64, columns: int | None = None, every_n_batches: int | None = None, seed: int = 0
    ) -> None:
        super().__init__(every_n_batches, seed)
        if num_samples < 1 or (columns is not None and columns < 1):
            raise ValueError(f"num_samples={num_samples} and columns={columns} must be at least 1.")
        self.num_samples = num_samples
        self.columns = columns

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses what cannot be drawn before training starts.

        Raises:
            TypeError: If the module has no ``sample``.
            ValueError: If the data are neither pictures nor points.
        """
        if not isinstance(pl_module, Samples):
            raise TypeError(f"SampleGrid needs {type(pl_module).__name__}.sample(num_samples, ...).")
        spec = data_spec(trainer, pl_module)
        if spec is not None and spec.kind not in ("image", "points"):
            raise ValueError(f"SampleGrid draws data of kind 'image' or 'points', not {spec.kind!r} ({spec.name}).")

    def draw(self, trainer: Trainer, module: LightningModule) -> Image.Image:
        """Draws samples from the fixed noise."""
        spec = data_spec(trainer, module)
        generator = Generator().manual_seed(self.seed)
        if spec is not None and spec.kind == "points":
            points = module.sample(NUM_POINTS, generator=generator)  # type: ignore[operator]
            return scatter(points.float().cpu(), real_points(trainer, NUM_POINTS))
        num_classes = getattr(module, "num_classes", None)
        labels, columns = None, self.columns
        if num_classes is not None:
            columns = columns or min(num_classes, MAX_CLASS_COLUMNS)
            labels = torch.arange(self.num_samples) % num_classes
        columns = columns or math.ceil(math.sqrt(self.num_samples))
        images = module.sample(self.num_samples, labels=labels, generator=generator)  # type: ignore[operator]
        return image_grid(images, value_range_of(trainer, module), columns)


def value_range_of(trainer: Trainer, module: LightningModule) -> tuple[float, float]:
    """Returns the range of the data's values, [-1, 1] where no spec says another."""
    spec = data_spec(trainer, module)
    return (-1.0, 1.0) if spec is None or spec.value_range is None else spec.value_range


def real_points(trainer: Trainer, num_points: int) -> Tensor | None:
    """Returns the first validation points, (at most ``num_points``, 2), if the trainer's datamodule has any."""
    datamodule = getattr(trainer, "datamodule", None)
    if datamodule is None or not hasattr(datamodule, "points"):
        return None
    return datamodule.points("val")[0][:num_points].float()
