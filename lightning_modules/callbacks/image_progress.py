"""Shows how the image of an ``ImageOptimization`` comes about: in the logger, and as frames of an animation."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from lightning_modules.callbacks.samples import RenderingCallback
from lightning_modules.parts.quantization import to_uint8


def rendered(module: Any, longest: int | None = None) -> Image.Image:
    """Returns ``module.image()`` as a picture, reduced to ``longest`` pixels if it is larger."""
    pixels = to_uint8(module.image().cpu(), (-1.0, 1.0))[0]
    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    if longest is not None and max(picture.size) > longest:
        picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return picture


def check_has_image(callback: Callback, module: LightningModule) -> None:
    """Raises TypeError unless a module has the method ``image``."""
    if not callable(getattr(module, "image", None)):
        raise TypeError(f"{type(callback).__name__} needs {type(module).__name__}.image(), as StyleTransfer has it.")


class OptimizedImage(RenderingCallback):
    """Writes ``image/step-<batches>.png``, the result so far, and gives it to the loggers.

    Args:
        every_n_batches: Batches between two images; ``None`` for one image per validation.

    Raises:
        ValueError: If ``every_n_batches`` is below 1.
    """

    name = "image"

    def __init__(self, every_n_batches: int | None = 50) -> None:
        super().__init__(every_n_batches, seed=0)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses modules whose result is no image.

        Raises:
            TypeError: If the module has no method ``image``.
        """
        check_has_image(self, pl_module)

    def render(self, trainer: Trainer, module: LightningModule) -> Image.Image:
        """Renders the result so far."""
        return rendered(module)


class Frames(Callback):
    """Keeps the result of every ``every_n_batches`` batches in ``frames``, at most ``2 * most`` of them.

    Where there are more, every other one is dropped, and from then on half as many are kept: the length of a run may
    not be known. The last one is the result of the run.

    Args:
        most: Number of frames that are kept at least, once there have been as many batches.
        longest: Longer side of a frame in pixels; larger images are reduced.
    """

    def __init__(self, most: int = 30, longest: int = 320) -> None:
        self.most, self.longest = most, longest
        self.every_n_batches = 1
        self.frames: list[Image.Image] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses modules whose result is no image.

        Raises:
            TypeError: If the module has no method ``image``.
        """
        check_has_image(self, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keeps a frame if one is due."""
        if trainer.global_step % self.every_n_batches:
            return
        self.frames.append(rendered(pl_module, self.longest))
        if len(self.frames) >= 2 * self.most:
            self.frames, self.every_n_batches = self.frames[1::2], 2 * self.every_n_batches

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the result, if the last batch has no frame."""
        if trainer.global_step % self.every_n_batches:
            self.frames.append(rendered(pl_module, self.longest))
