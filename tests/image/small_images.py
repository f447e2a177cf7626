"""A small image on disk, and a feature network that stands in for VGG, so that a step takes milliseconds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules import SingleImage
from lightning_modules import DeepImagePrior, StyleTransfer, TextureSynthesis
from lightning_modules.image.image_optimization import ImageOptimization
from lightning_modules.networks.feature_networks import FeatureNetwork

METHODS = ("StyleTransfer", "TextureSynthesis", "DeepImagePrior")


class SmallFeatures(FeatureNetwork):
    """Two layers of random filters, with smooth activations and average pooling between them, in double precision."""

    def __init__(self, name: str = "small", dtype: torch.dtype = torch.float32) -> None:
        super().__init__(name, ("first", "second"), ("second",), ("first", "second"))
        generator = torch.Generator().manual_seed(0)
        shapes = {"first": (6, 3, 3, 3), "second": (8, 6, 3, 3)}
        self.filters = nn.ParameterDict(
            {key: 0.3 * torch.randn(shape, generator=generator, dtype=dtype) for key, shape in shapes.items()}
        )
        self.freeze()

    def compute(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Returns both layers."""
        first = F.softplus(F.conv2d(x, self.filters["first"], padding=1))
        second = F.softplus(F.conv2d(F.avg_pool2d(first, 2), self.filters["second"], padding=1))
        return {"first": first, "second": second}


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (32, 32)) -> str:
    """Writes discs and stripes of random colours, smooth with sharp edges, and returns the path."""
    generator = torch.Generator().manual_seed(seed)
    width, height = size
    values = torch.rand(40, 6, generator=generator).tolist()
    image = Image.new("RGB", size, (120, 140, 160))
    draw = ImageDraw.Draw(image)
    for x, y, radius, *colour in values[:12]:
        r = 3 + 0.25 * width * radius
        box = [x * width - r, y * height - r, x * width + r, y * height + r]
        draw.ellipse(box, fill=tuple(int(255 * c) for c in colour))
    image.save(path)
    return str(path)


def opened(path: str) -> Image.Image:
    """Returns an image that was read."""
    with Image.open(path) as image:
        image.load()
        return image


def pixels(path: str) -> np.ndarray:
    """Returns its values, (H, W) or (H, W, C)."""
    return np.asarray(opened(path)).astype(float)


def method(name: str, data: SingleImage, **overrides: Any) -> ImageOptimization:
    """Returns a small module for the data; those that compare features have ``SmallFeatures``."""
    if name == "DeepImagePrior":
        small = {"width": 4, "depth": 2, "input_depth": 4, "window": 4, "patience": 100}
        return DeepImagePrior.for_data(data.spec, **{**small, **overrides})
    kinds: dict[str, Any] = {"StyleTransfer": StyleTransfer, "TextureSynthesis": TextureSynthesis}
    module = kinds[name].for_data(data.spec, **{"num_scales": 1, "features": "random", **overrides})
    module.use_features(SmallFeatures())
    return module  # type: ignore[no-any-return]


def data_of(folder: Path, name: str, size: tuple[int, int] = (32, 32), **settings: Any) -> SingleImage:
    """Returns a small image as data, with a style for style transfer."""
    image = write_image(folder / "image.png", size=size)
    if name == "StyleTransfer":
        settings = {"styles": [write_image(folder / "style.png", 1)], **settings}
    return SingleImage(image, **{"steps_per_epoch": 5, **settings})


def fit(
    module: ImageOptimization,
    data: SingleImage,
    steps: int,
    folder: Path | str | None = None,
    every: int | None = None,
    ckpt_path: str | None = None,
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> Trainer:
    """Fits, with a checkpoint every so many batches if there is a folder."""
    saving = [] if folder is None else [
        ModelCheckpoint(dirpath=folder, filename="{step}", every_n_train_steps=every, save_top_k=-1, save_last=True)
    ]  # fmt: skip
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        callbacks=[*callbacks, *saving],
        enable_checkpointing=folder is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **settings,
    )
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return trainer
