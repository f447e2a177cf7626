"""Converts any form of batch that loaders yield to a ``Batch``; lengths and masks of sequences."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from datamodules.spec import Batch

NAMES = {
    "x": ("x", "image", "images", "img", "pixel_values", "input", "inputs", "input_ids", "data"),
    "labels": ("labels", "label", "y", "target", "targets"),
    "tokens": ("tokens",),
    "lengths": ("lengths", "length"),
    "continues": ("continues",),
}
"""Maps a field of ``Batch`` to the keys under which dictionaries may hold it."""
MASK = "attention_mask"
"""Key of dictionaries for which steps are data (1) and which are padding (0), int (N, T)."""


def read_batch(batch: Any, positions: tuple[str, ...]) -> Batch:
    """Returns a batch as a ``Batch``.

    Args:
        batch: A ``Batch``, a tensor of examples, a list or tuple, or a dictionary with one of the ``NAMES`` of each
            field, and perhaps with a ``MASK`` in the place of lengths. A named tuple is read by its names if these are
            known; a list of one batch, as a list of one loader yields it, is that batch.
        positions: The fields of a list or tuple, in order: ``("x", "labels")``.

    Raises:
        ValueError: If it has another form; the message names the supported ones.
    """
    if isinstance(batch, Batch):
        return batch
    if isinstance(batch, (list, tuple)) and len(batch) == 1 and isinstance(batch[0], (Batch, Mapping, list, tuple)):
        return read_batch(batch[0], positions)
    if isinstance(batch, Mapping) and len(batch) == 1:  # of a dictionary with one loader
        ((key, inner),) = batch.items()
        is_field = any(key in keys for keys in NAMES.values())  # a list under such a name was not collated
        if isinstance(inner, (Batch, Mapping, tuple)) or (isinstance(inner, list) and not is_field):
            return read_batch(inner, positions)
    values = {field: value for field, value in fields_of(batch, positions).items() if value is not None}
    if not isinstance(values.get("x"), Tensor) or not all(isinstance(value, Tensor) for value in values.values()):
        raise ValueError(
            f"A batch must be a tensor x, [x], ({', '.join(positions)}) or a dictionary such as {{'x': x}} or "
            "{'image': x, 'label': y} of tensors, as the default collate_fn of a DataLoader makes it of tensors and "
            f"arrays, not {described(batch)}."
        )
    return Batch(**values)


def fields_of(batch: Any, positions: tuple[str, ...]) -> dict[str, Any]:
    """Returns the values of a batch by the fields of ``Batch``, of any type; empty if the form is not supported."""
    if isinstance(batch, Tensor):
        return {"x": batch}
    if isinstance(batch, tuple) and hasattr(batch, "_asdict") and (named := fields_of(batch._asdict(), positions)):
        return named
    if isinstance(batch, (list, tuple)):
        return dict(zip(positions, batch, strict=False)) if 1 <= len(batch) <= len(positions) else {}
    if not isinstance(batch, Mapping):
        return {}
    found = {field: [key for key in keys if key in batch] for field, keys in NAMES.items()}
    values = {field: batch[keys[0]] for field, keys in found.items() if keys}
    if "lengths" in positions and "lengths" not in values and isinstance(batch.get(MASK), Tensor):
        values["lengths"] = lengths_in(batch[MASK])
    return values if "x" in values else {}


def lengths_in(mask: Tensor) -> Tensor:
    """Returns the number of steps of each sequence, int64 (N,), by a mask (N, T) that is 1 before the padding.

    Raises:
        ValueError: If padding comes before or between the steps.
    """
    lengths = mask.long().sum(-1)
    if mask.ndim != 2 or not torch.equal(step_mask(lengths, mask.shape[1]).bool(), mask.bool()):
        raise ValueError(
            f"{MASK} must be 1 on the first steps of each sequence and 0 on the rest: pad sequences at their end "
            "(padding_side='right')."
        )
    return lengths


def described(batch: Any) -> str:
    """Returns the form of a batch in a few words: its type, and those of its parts."""
    if isinstance(batch, Mapping):
        return "{" + ", ".join(f"{key!r}: {named_type(value)}" for key, value in batch.items()) + "}"
    if isinstance(batch, (list, tuple)):
        parts = [named_type(value) for value in batch[:4]] + ["..."] * (len(batch) > 4)
        return f"a {type(batch).__name__} of {', '.join(parts) or 'nothing'}"
    return f"a {named_type(batch)}"


def named_type(value: Any) -> str:
    """Returns the name of a type, with its package where it has one: ``numpy.ndarray``."""
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def lengths_of(batch: Batch) -> Tensor:
    """Returns the number of steps of each sequence, int64 (N,); without ``lengths`` all steps count."""
    if batch.lengths is not None:
        return batch.lengths
    return torch.full((len(batch.x),), batch.x.shape[1], device=batch.x.device)


def step_mask(lengths: Tensor, steps: int) -> Tensor:
    """Returns 1 where a step lies within its sequence and 0 on the padding, float (N, steps)."""
    return (torch.arange(steps, device=lengths.device) < lengths[:, None]).float()
