"""Samples of a checkpoint as one picture."""

import math
from typing import Any

import torch
from PIL.Image import Image
from torch import Generator, Tensor

from lightning_modules.parts.pictures import image_grid, scatter
from zoo.errors import ZooError

NUM_POINTS = 2000
MAX_CLASS_COLUMNS = 20


def draw_samples(
    module: Any, num_samples: int, generator: Generator, labels: Tensor | None = None, **settings: float
) -> Image:
    """Samples a module and draws what came out.

    Pictures make a grid, in which a class-conditional model gets a column a class where no labels are asked for; points
    make one scatter plot of at least ``NUM_POINTS``.

    Args:
        module: Something that ``Samples`` and knows its ``data_spec``.
        num_samples: How many.
        generator: Source of all randomness.
        labels: Classes to draw, int64 (num_samples,).
        settings: Further arguments of the method's ``sample``, as ``temperature``.

    Raises:
        ZooError: If the samples are neither pictures nor points.
    """
    spec = getattr(module, "data_spec", None)
    if spec is not None and spec.kind == "points":
        num_samples = num_samples if labels is not None else max(num_samples, NUM_POINTS)
    num_classes, columns = getattr(module, "num_classes", None), None
    if num_classes is not None and labels is None:
        columns = min(num_classes, MAX_CLASS_COLUMNS)
        labels = torch.arange(num_samples) % num_classes
    samples = module.sample(num_samples, labels=labels, generator=generator, **settings).float().cpu()
    if samples.ndim == 2 and samples.shape[1] == 2:
        return scatter(samples)
    if samples.ndim != 4:
        raise ZooError(f"Samples of shape {list(samples.shape[1:])} are neither pictures nor points: nothing to draw.")
    value_range = (-1.0, 1.0) if spec is None or spec.value_range is None else spec.value_range
    return image_grid(samples, value_range, columns or math.ceil(math.sqrt(num_samples)))
