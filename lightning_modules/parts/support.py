"""The support of a model: which data its density is defined on, checked in one place and in the same words.

Public densities, bounds, energies and codes check their data every time, because a value outside of the support would
give a number that is no likelihood. Training checks the first batch of an epoch only, and then calls the functions
named ``unchecked_...``, which do not wait for the device.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

TOLERANCE = 1e-4
"""Distance from the range of images that rounding may cause."""


def problem_with_form(x: Any, shape: Sequence[int], what: str = "shape") -> str | None:
    """Returns a sentence that says why ``x`` is no batch of finite examples of this shape, or ``None``."""
    return problem_with_shape(x, shape, what) or problem_with_numbers(x)


def problem_with_shape(x: Any, shape: Sequence[int], what: str = "shape") -> str | None:
    """Returns a sentence that says why ``x`` is no batch of examples of this shape, or ``None``.

    Args:
        x: What a caller gave as examples (N, *shape).
        shape: Shape of an example.
        what: Name of the hyperparameter that gives the shape.
    """
    if not isinstance(x, Tensor):
        return f"a batch must be a tensor, not {type(x).__name__}."
    form = f"(N{''.join(f', {size}' for size in shape)})"
    if x.shape == tuple(shape):
        return f"it takes batches {form}, but {list(x.shape)} has no batch dimension: give one example as x[None]."
    if x.ndim < 1 or x.shape[1:] != tuple(shape):
        return f"it was built for {what}={list(shape)}, but a batch has {list(x.shape[1:])}; it takes {form}."
    return None


def problem_with_step_shape(x: Tensor, step_shape: Sequence[int]) -> str | None:
    """Returns a sentence that says why ``x`` is no batch of sequences of such steps, (N, T, ...), or ``None``."""
    step_shape = tuple(step_shape)
    form = ", ".join(map(str, ("N", "T", *step_shape)))
    if x.ndim == len(step_shape) + 1 and tuple(x.shape[1:]) == step_shape:
        return f"it takes batches ({form}), but {list(x.shape)} has no batch dimension: give one sequence as x[None]."
    if tuple(x.shape[2:]) != step_shape or x.ndim < 2:
        return f"it was built for step_shape={list(step_shape)}, but a batch is {list(x.shape)}; it takes ({form})."
    return None


def problem_with_numbers(x: Tensor) -> str | None:
    """Returns a sentence that says why a tensor holds no data at all (none, complex, bool, NaN or infinite)."""
    if x.numel() == 0:
        return "the batch is empty: give at least one example."
    if x.is_complex():
        return f"it takes real numbers, but a batch is of {x.dtype}."
    if x.dtype == torch.bool:  # as in training, where a mask in the place of data is more likely than data
        return f"it takes numbers, but a batch is of {x.dtype}; convert it, as by x.float(), or x.long() for tokens."
    x = x.detach()
    if x.is_floating_point() and not all(map(math.isfinite, torch.stack(x.aminmax()).tolist())):
        wrong = x[~torch.isfinite(x)][0].item()
        return f"a batch holds {wrong}; NaN or infinite values are outside of every support."
    return None


def problem_with_range(x: Tensor, value_range: tuple[float, float]) -> str | None:
    """Returns a sentence that names the range that images span, if it is not within ``value_range``, or ``None``."""
    low, high = value_range
    least, most = x.detach().float().aminmax()
    if least < low - TOLERANCE or most > high + TOLERANCE:
        return f"it expects images in [{low:g}, {high:g}], but a batch spans [{least:.4g}, {most:.4g}]."
    return None


def problem_with_examples(
    x: Any, shape: Sequence[int] | None, value_range: tuple[float, float] | None, further: Callable[[], str | None]
) -> str | None:
    """Returns a sentence that says why ``x`` is no batch of a model's data, or ``None``.

    Args:
        x: What a caller gave as examples.
        shape: Shape of an example; ``None`` if ``further`` knows it.
        value_range: Range of images; ``None`` for any.
        further: Returns a further problem, of values of the right form.
    """
    if shape is None:
        any_shape = x.shape[1:] if isinstance(x, Tensor) else ()
        problem = problem_with_shape(x, any_shape) or further() or problem_with_numbers(x)
    else:
        problem = problem_with_form(x, shape) or further()
    if problem is not None or value_range is None or x.ndim != 4:
        return problem
    return problem_with_range(x, value_range)


def checked(x: Any, owner: object, problem: Callable[[Any], str | None]) -> Tensor:
    """Returns data of a caller unless there is a problem with them.

    Raises:
        ValueError: If there is one; the message begins with the class of ``owner``.
    """
    if sentence := problem(x):
        raise ValueError(f"{type(owner).__name__}: {sentence}")
    data: Tensor = x
    return data


def checked_codes(z: Any, owner: object, size: int, name: str = "latent_dim") -> Tensor:
    """Returns codes (N, size) of a caller.

    Raises:
        ValueError: If they have another form, or one is NaN or infinite.
    """
    return checked(z, owner, lambda codes: problem_with_form(codes, (size,), name))
