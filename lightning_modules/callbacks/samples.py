"""Callbacks that render samples from fixed noise during training."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from PIL import Image
from torch import Generator, Tensor

from datamodules.spec import DataSpec
from lightning_modules.callbacks.ema import averaged_weights
from lightning_modules.callbacks.run import spec_of, value_range_of
from lightning_modules.metrics.protocol import undisturbed
from lightning_modules.parts.capabilities import SupportsInterpolation, SupportsSampling
from lightning_modules.parts.interpolation import linear_interpolation, spherical_interpolation
from lightning_modules.parts.sampling import drawable_classes
from lightning_modules.rendering.images import image_grid, save_png
from lightning_modules.rendering.modules import render_samples, rendered_as

PATHS = {"spherical": spherical_interpolation, "linear": linear_interpolation}
NUM_REAL_POINTS = 2000


class RenderingCallback(Callback, ABC):
    """Abstract: renders one image from fixed noise, at every validation or after a number of batches.

    Process 0 renders alone, in eval mode, with averaged weights if an ``EMA`` callback keeps them; no random state
    changes. The PNG is ``<log dir>/<name>/step-<batches>.png``, and every logger that takes images gets it: Weights &
    Biases, ``Tracking``, TensorBoard.

    Args:
        every_n_batches: Batches between two images; ``None`` for one image per validation.
        seed: Seed of the noise, the same each time, so that images differ only by changes of the model.

    Raises:
        ValueError: If ``every_n_batches`` is below 1.
    """

    name: str

    def __init__(self, every_n_batches: int | None, seed: int) -> None:
        if every_n_batches is not None and every_n_batches < 1:
            raise ValueError(f"every_n_batches={every_n_batches} must be at least 1, or None for each validation.")
        self.every_n_batches = every_n_batches
        self.seed = seed

    @abstractmethod
    def render(self, trainer: Trainer, module: LightningModule) -> Image.Image:
        """Renders an image; called on process 0 only, in eval mode and with averaged weights."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Renders every ``every_n_batches``."""
        if self.every_n_batches is not None and trainer.global_step % self.every_n_batches == 0:
            self._record(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Renders if ``every_n_batches`` is ``None``, except in the sanity check."""
        if self.every_n_batches is None and not trainer.sanity_checking:
            self._record(trainer, pl_module)

    def _record(self, trainer: Trainer, module: LightningModule) -> None:
        folder = Path(trainer.log_dir or trainer.default_root_dir) / self.name  # a collective call
        if not trainer.is_global_zero:
            return
        with undisturbed(module), averaged_weights(trainer, module):
            image = self.render(trainer, module)
        save_png(image, folder / f"step-{trainer.global_step:08d}.png")
        for logger in trainer.loggers:
            log_image(logger, self.name, image, trainer.global_step)


class SampleGrid(RenderingCallback):
    """Writes ``samples/step-<batches>.png``: samples, rendered by their kind of data.

    It is a grid of images, generated points over real ones, or text, piano rolls, drawings or clips.

    Args:
        num_samples: Number of samples; the default depends on the kind of data and is 64 for images.
        columns: Images per row. By default a class-conditional model has one column per class (up to 20), and
            any other a square grid.
        every_n_batches: Batches between two images; ``None`` for one image per validation.
        seed: Seed of the samples.

    Raises:
        ValueError: If a number is below 1.
    """

    name = "samples"

    def __init__(
        self,
        num_samples: int | None = None,
        columns: int | None = None,
        every_n_batches: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(every_n_batches, seed)
        if min(num_samples or 1, columns or 1) < 1 or 0 in (num_samples, columns):
            raise ValueError(f"num_samples={num_samples} and columns={columns} must be at least 1.")
        self.num_samples = num_samples
        self.columns = columns

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses unsupported modules and data before training starts.

        Raises:
            TypeError: If the module has no ``sample``.
            ValueError: If the kind of its samples is not known, or they are images of other than one or three channels.
        """
        if not isinstance(pl_module, SupportsSampling):
            raise TypeError(f"SampleGrid needs {type(pl_module).__name__}.sample(num_samples, ...).")
        spec = spec_of(trainer, pl_module)
        rendered_as(pl_module, spec)
        check_channels(spec)

    def render(self, trainer: Trainer, module: LightningModule) -> Image.Image:
        """Renders samples from the fixed noise."""
        generator, spec = Generator().manual_seed(self.seed), spec_of(trainer, module)
        points = spec is not None and spec.kind == "points"
        num_samples = None if points else self.num_samples
        real = real_points(trainer) if points else ()
        return render_samples(module, num_samples, generator, columns=self.columns, real=real, spec=spec).image


def log_image(logger: Logger, name: str, image: Image.Image, step: int) -> None:
    """Gives an image to a logger; one that takes none is left alone.

    Args:
        logger: A logger with ``log_image``, as Weights & Biases has it, or whose experiment has ``add_image``, as
            TensorBoard's ``SummaryWriter`` has it.
        name: Name of the series of images.
        image: The image.
        step: Batches trained so far.
    """
    if hasattr(logger, "log_image"):
        logger.log_image(name, [image], step=step)
    elif (add_image := getattr(getattr(logger, "experiment", None), "add_image", None)) is not None:
        add_image(name, np.array(image.convert("RGB")), global_step=step, dataformats="HWC")


def check_channels(spec: DataSpec | None) -> None:
    """Raises ValueError if the data are images that cannot be rendered."""
    if spec is not None and spec.kind == "image" and spec.shape[0] not in (1, 3):
        raise ValueError(
            f"{spec.name} has images of {spec.shape[0]} channels, but only images of 1 or 3 can be rendered: leave out "
            "the callbacks that render samples."
        )


def real_points(trainer: Trainer) -> Sequence[Tensor]:
    """Returns the first validation points, if the trainer's datamodule has any."""
    datamodule = getattr(trainer, "datamodule", None)
    return (
        () if datamodule is None or not hasattr(datamodule, "points") else datamodule.points("val")[0][:NUM_REAL_POINTS]
    )


class LatentInterpolation(RenderingCallback):
    """Writes ``interpolation/step-<batches>.png``: each row interpolates between two codes.

    The images of a row change abruptly if the model has memorised its data, and gradually if it has learned a manifold.
    Each row of a class-conditional model has one class, and successive rows have successive classes; each row of a
    model of captions has one of the training captions.

    Args:
        rows: Number of pairs of codes.
        steps: Images per row, both ends included.
        path: ``"spherical"`` for a Gaussian prior, ``"linear"`` for any other.
        every_n_batches: Batches between two images; ``None`` for one image per validation.
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
        """Refuses unsupported modules and data before training starts.

        Raises:
            TypeError: If the module has no latent codes.
            ValueError: If the data are not images of one or three channels.
        """
        if not isinstance(pl_module, SupportsInterpolation):
            raise TypeError(
                f"LatentInterpolation needs sample_latent and decode; {type(pl_module).__name__} lacks them."
            )
        spec = spec_of(trainer, pl_module)
        if spec is not None and spec.kind != "image":
            raise ValueError(f"LatentInterpolation renders images, but {spec.name} has kind={spec.kind!r}.")
        check_channels(spec)

    def render(self, trainer: Trainer, module: LightningModule) -> Image.Image:
        """Decodes codes along the paths."""
        generator = Generator().manual_seed(self.seed)
        start, end = module.sample_latent(2 * self.rows, generator=generator).chunk(2)  # type: ignore[operator]
        codes = PATHS[self.path](start, end, self.steps).flatten(0, 1)
        classes = drawable_classes(module, getattr(module, "num_classes", None))
        labels = None if classes is None else classes[torch.arange(self.rows) % len(classes)].to(codes.device)
        if getattr(module, "num_words", None) is not None:
            labels = module.choose_condition(self.rows, labels, None, generator)  # type: ignore[operator]
        labels = None if labels is None else labels.repeat_interleave(self.steps, 0)
        images = module.decode(codes, labels=labels)  # type: ignore[operator]
        return image_grid(images, value_range_of(trainer, module), self.steps)
