"""Helpers of every ``sample``: check the arguments, switch to evaluation mode, draw labels."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.parts.checks import as_count
from lightning_modules.parts.noise import draw_categorical

CHUNK = 250
"""Number of examples that are sampled or decoded at once."""


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Sets evaluation mode without gradients; afterwards every submodule is in its former mode again."""
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for submodule, training in modes:
            submodule.training = training


@contextmanager
def averages_kept(module: nn.Module) -> Iterator[None]:
    """Leaves the running averages of batch normalisation as they are, in training mode too."""
    norms: list[Any] = [layer for layer in module.modules() if hasattr(layer, "track_running_stats")]
    layers = [(layer, layer.track_running_stats) for layer in norms]
    for layer, _ in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer, tracks in layers:
            layer.track_running_stats = tracks


@contextmanager
def measuring(module: nn.Module) -> Iterator[None]:
    """Sets evaluation mode, and leaves gradients as the caller has them; afterwards every mode is the former again.

    On CUDA the layers of cuDNN's recurrent networks have no backward pass in evaluation mode. Where gradients are
    enabled, these stay in training mode without their dropout, which is the same function.
    """
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    rates = [(submodule, submodule.dropout) for submodule, _ in modes if isinstance(submodule, nn.RNNBase)]
    module.eval()
    if torch.is_grad_enabled():
        for layers, _ in rates:
            layers.training, layers.dropout = True, 0.0
    try:
        yield
    finally:
        for submodule, training in modes:
            submodule.training = training
        for layers, rate in rates:
            layers.dropout = rate


@contextmanager
def aside(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Does as ``evaluating``, and afterwards torch's random states are what they were."""
    with evaluating(module), torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def check_num_samples(num_samples: Any) -> int:
    """Returns the number of samples as an ``int``.

    Raises:
        ValueError: Unless it is a positive whole number; numpy's, and tensors without dimensions, are allowed.
    """
    return as_count("num_samples", num_samples)


def choose_labels(
    labels: Tensor | None, num_samples: int, class_probabilities: Tensor | None, generator: torch.Generator
) -> Tensor | None:
    """Checks the labels given, or draws labels by their training frequency from ``generator``.

    Args:
        labels: int64, shape (num_samples,), or ``None``.
        num_samples: Number of samples.
        class_probabilities: Shape (K,), or ``None`` for a model without classes.
        generator: Source of random numbers.

    Raises:
        ValueError: If labels are given to a model without classes, or do not fit it.
    """
    if labels is None:
        if class_probabilities is None:
            return None
        return draw_categorical(class_probabilities, num_samples, generator)
    return check_labels(labels, num_samples, class_probabilities)


def drawable_classes(module: Any, num_classes: int | None) -> Tensor | None:
    """Returns the classes that samples can be asked for by themselves, int64 (K,); ``None`` without classes.

    Of a model of classes and captions they are those of training captions: a class that was held out has none to draw.

    Args:
        module: Any module, also one without captions.
        num_classes: Number of its classes, or ``None``.
    """
    if num_classes is None:
        return None
    captioned = getattr(module, "num_words", None) is not None and getattr(module, "has_data_spec", False)
    known = sorted(set(module.data_spec.caption_classes)) if captioned else []
    return torch.tensor(known) if known else torch.arange(num_classes)


def as_labels(labels: Any) -> Tensor:
    """Returns labels, or a condition of captions, as a tensor of any type and shape.

    Raises:
        ValueError: If they are no numbers, or rows of different lengths.
    """
    try:
        return torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"labels must be a tensor of integers, not {labels!r:.80}.") from error


def holds_integers(values: Tensor) -> bool:
    """Returns whether a tensor holds integers, and not floats, complex numbers or truth values."""
    return not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)


def check_labels(labels: Tensor | None, num_samples: int, class_probabilities: Tensor | None) -> Tensor:
    """Returns labels as int64 on the model's device.

    Raises:
        ValueError: If they are missing, given to a model without classes, or do not fit it.
    """
    if class_probabilities is None:
        raise ValueError("labels were given to an unconditional model; only one with num_classes takes them.")
    if labels is None:
        raise ValueError(f"A class-conditional model needs labels: integers of shape ({num_samples},).")
    labels = as_labels(labels)
    if labels.shape != (num_samples,) or not holds_integers(labels):
        raise ValueError(
            f"labels must be integers of shape ({num_samples},), not {labels.dtype} of {tuple(labels.shape)}."
        )
    num_classes = len(class_probabilities)
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels span [{labels.min()}, {labels.max()}], but the classes are 0 to {num_classes - 1}.")
    return labels.long().to(class_probabilities.device)


def in_type_of(network: nn.Module, x: Tensor) -> Tensor:
    """Returns ``x`` in the type of the network's weights, such as float64; unchanged where there are none."""
    weight = next(network.parameters(), None)
    return x if weight is None else x.to(weight.dtype)
