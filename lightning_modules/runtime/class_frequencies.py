"""How often each class occurs in training data that come without a data spec."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
)

from lightning_modules.runtime.distributed import gather_objects

LABELS = ("labels", "targets", "label")
"""Attributes, or columns, in which data sets keep the labels of all examples."""


def take_class_frequencies(module: LightningModule, loader: Any) -> None:
    """Sets ``module.class_probabilities`` to the frequencies in the loader's data, or says that they are not known.

    Nothing is done for a module without classes, or whose data spec has the frequencies. All processes must call it.

    Args:
        module: The module that is about to train.
        loader: Its training loader.
    """
    probabilities = getattr(module, "class_probabilities", None)
    spec = module.data_spec if getattr(module, "has_data_spec", False) else None
    if probabilities is None or (spec is not None and spec.class_counts):  # type: ignore[union-attr]
        return
    own = labels_of(loader)
    counts = None if own is None else class_counts(own, len(probabilities))
    everywhere = gather_objects(None if counts is None else counts.tolist())
    if None in everywhere:
        rank_zero_info(
            f"{type(module).__name__} samples each of its {len(probabilities)} classes equally often, because their "
            f"frequencies are not known from this {type(loader).__name__}; module.class_probabilities may be set."
        )
        return
    total = torch.tensor(everywhere, dtype=torch.float64).sum(0)
    probabilities.copy_(total / total.sum())


def class_counts(labels: Tensor, num_classes: int) -> Tensor | None:
    """Returns how often each class occurs, int64 (num_classes,); ``None`` for labels that are no classes of these."""
    if labels.ndim != 1 or labels.is_floating_point() or not len(labels):
        return None
    if labels.min() < 0 or labels.max() >= num_classes:
        return None  # the first batch with such a label is refused
    return labels.long().bincount(minlength=num_classes)


def labels_of(loader: Any) -> Tensor | None:
    """Returns the labels of all examples where they can be had without reading the examples, else ``None``.

    Args:
        loader: A loader of this library, or a ``DataLoader`` that takes every example equally often.
    """
    if (source := getattr(loader, "source", None)) is not None:
        return as_labels(getattr(source, "labels", None))
    if not isinstance(loader, DataLoader):
        return None
    sampler = getattr(loader.batch_sampler, "sampler", loader.sampler)
    if not isinstance(sampler, (SequentialSampler, RandomSampler, DistributedSampler)):
        return None  # it may prefer some classes
    if getattr(sampler, "dataset", loader.dataset) is not loader.dataset:
        return None  # Lightning's wrapper of a sampler that may prefer some classes
    return labels_of_data(loader.dataset)


def labels_of_data(data: Any) -> Tensor | None:
    """Returns the labels of a data set of torch, torchvision or Hugging Face, also of its parts, else ``None``."""
    if getattr(data, "target_transform", None) is not None:
        return None
    if isinstance(data, Subset):
        labels = labels_of_data(data.dataset)
        return None if labels is None else labels[torch.as_tensor(data.indices)]
    if isinstance(data, ConcatDataset):
        parts = [labels_of_data(part) for part in data.datasets]
        known = [part for part in parts if part is not None]
        return torch.cat(known) if len(known) == len(parts) else None
    if isinstance(data, TensorDataset):
        return data.tensors[1] if len(data.tensors) > 1 else None
    columns = getattr(data, "column_names", None)
    for name in LABELS:
        values = data[name] if isinstance(columns, list) and name in columns else getattr(data, name, None)
        labels = as_labels(values)
        if labels is not None and len(labels) == len(data):
            return labels
    return None


def as_labels(values: Any) -> Tensor | None:
    """Returns a tensor, an array or a list of whole numbers as a tensor (N,); ``None`` for anything else."""
    if isinstance(values, Tensor):
        return values if values.ndim == 1 else None
    if not isinstance(values, Sequence) and not hasattr(values, "__array__"):
        return None
    try:
        labels = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        return None
    return labels if labels.ndim == 1 else None
