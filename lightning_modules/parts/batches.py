"""Converts any form of batch that loaders yield to a ``Batch``; lengths and masks of sequences."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from datamodules.spec import Batch

NAMES = {
    "x": ("x", "image", "images", "pixel_values", "input", "inputs", "input_ids"),
    "labels": ("labels", "label", "y", "target", "targets"),
    "tokens": ("tokens",),
    "lengths": ("lengths", "length"),
    "continues": ("continues",),
}
"""Maps a field of ``Batch`` to the keys under which dictionaries may hold it."""


def read_batch(batch: Any, positions: tuple[str, ...]) -> Batch:
    """Returns a batch as a ``Batch``.

    Args:
        batch: A ``Batch``, a tensor of examples, a list or tuple, or a dictionary with one of the ``NAMES`` of each
            field.
        positions: The fields of a list or tuple, in order: ``("x", "labels")``.

    Raises:
        ValueError: If it has another form; the message names the supported ones.
    """
    if isinstance(batch, Batch):
        return batch
    values: dict[str, Any] = {}
    if isinstance(batch, Tensor):
        values = {"x": batch}
    elif isinstance(batch, Mapping):
        for field, keys in NAMES.items():
            if found := [key for key in keys if key in batch]:
                values[field] = batch[found[0]]
    elif isinstance(batch, (list, tuple)) and 1 <= len(batch) <= len(positions):
        values = dict(zip(positions, batch, strict=False))
    values = {field: value for field, value in values.items() if value is not None}
    if not isinstance(values.get("x"), Tensor) or not all(isinstance(value, Tensor) for value in values.values()):
        shown = sorted(map(str, batch)) if isinstance(batch, Mapping) else type(batch).__name__
        raise ValueError(
            f"A batch must be a tensor x, [x], ({', '.join(positions)}) or a dictionary such as "
            f"{{'x': x, 'labels': y}} of tensors, not {shown}."
        )
    return Batch(**values)


def lengths_of(batch: Batch) -> Tensor:
    """Returns the number of steps of each sequence, int64 (N,); without ``lengths`` all steps count."""
    if batch.lengths is not None:
        return batch.lengths
    return torch.full((len(batch.x),), batch.x.shape[1], device=batch.x.device)


def step_mask(lengths: Tensor, steps: int) -> Tensor:
    """Returns 1 where a step lies within its sequence and 0 on the padding, float (N, steps)."""
    return (torch.arange(steps, device=lengths.device) < lengths[:, None]).float()
