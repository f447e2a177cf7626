"""Walks from one latent code to another, drawn as rows of pictures.

A model that has memorised its data jumps from one picture to the next; one that has learnt a manifold
walks on it.
"""

from typing import Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import Generator

from lightning_modules.callbacks.drawing import Drawing
from lightning_modules.callbacks.generation_measure import data_spec
from lightning_modules.callbacks.samples import value_range_of
from lightning_modules.parts.capabilities import Interpolates
from lightning_modules.parts.interpolation import linear_interpolation, spherical_interpolation
from lightning_modules.parts.pictures import image_grid

PATHS = {"spherical": spherical_interpolation, "linear": linear_interpolation}


class LatentInterpolation(Drawing):
    """Writes ``interpolation/step-<batches>.png``: each row leads from one code to another.

    The rows of a class-conditional model go through the classes; a row is of one class.

    Args:
        rows: Pairs of codes.
        steps: Pictures a row, both ends included.
        path: ``"spherical"`` for a Gaussian prior, ``"linear"`` for any other.
        every_n_batches: Batches from one picture to the next; ``None`` for one each validation.
        seed: Seed of the codes.

    Raises:
        ValueError: If a number is too small or the path unknown.
    """

    name = "interpolation"

    def __init__(
        self,
        rows: int = 8,
        steps: int = 10,
        path: Literal["spherical", "linear"] = "spherical",
        every_n_batches: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(every_n_batches, seed)
        if rows < 1 or steps < 2:
            raise ValueError(f"rows={rows} must be at least 1 and steps={steps} at least 2.")
        if path not in PATHS:
            raise ValueError(f"path={path!r} is not one of {', '.join(PATHS)}.")
        self.rows = rows
        self.steps = steps
        self.path = path

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses what cannot be drawn before training starts.

        Raises:
            TypeError: If the module has no latent codes.
            ValueError: If the data are no pictures.
        """
        if not isinstance(pl_module, Interpolates):
            raise TypeError(
                f"LatentInterpolation needs sample_latent and decode; {type(pl_module).__name__} lacks them."
            )
        spec = data_spec(trainer, pl_module)
        if spec is not None and spec.kind != "image":
            raise ValueError(f"LatentInterpolation draws pictures, but {spec.name} has kind={spec.kind!r}.")

    def draw(self, trainer: Trainer, module: LightningModule) -> Image.Image:
        """Decodes codes along the paths."""
        generator = Generator().manual_seed(self.seed)
        start, end = module.sample_latent(2 * self.rows, generator=generator).chunk(2)  # type: ignore[operator]
        codes = PATHS[self.path](start, end, self.steps).flatten(0, 1)
        num_classes = getattr(module, "num_classes", None)
        labels = None
        if num_classes is not None:
            labels = (torch.arange(self.rows, device=codes.device) % num_classes).repeat_interleave(self.steps)
        images = module.decode(codes, labels=labels)  # type: ignore[operator]
        return image_grid(images, value_range_of(trainer, module), self.steps)
