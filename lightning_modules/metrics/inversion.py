"""Inversion of a generator: a code from which it makes a given example, by gradient search.

    z* = argmin_z || G(z) - x ||^2 / dim x,

by Adam from several codes of the model. What a generator cannot make keeps an error: a mode that it lacks, or an object
in an image that it does not draw.

NOTE: The objective is not convex. More starts find smaller errors, and an error is an upper bound of the least one.

Precise Recovery of Latent Vectors from Generative Adversarial Networks (Lipton and Tripathi, 2017),
https://arxiv.org/abs/1702.04782
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from lightning_modules.metrics.protocol import undisturbed
from lightning_modules.parts.capabilities import HasGenerator
from lightning_modules.parts.checks import as_count, check_positive
from lightning_modules.parts.conditions import given_condition
from lightning_modules.parts.noise import new_generator

ROWS = 1000
"""Number of codes that are searched at once: all starts of some examples."""


class Inversion(NamedTuple):
    """The codes that were found for N examples, and how far from these their images are.

    Attributes:
        codes: (N, latent_dim).
        errors: Mean over dimensions of (G(z) - x)^2, (N,), in squared units of the data.
    """

    codes: Tensor
    errors: Tensor


def checked_generator(module: Any, what: str) -> HasGenerator:
    """Returns a module, typed as one that makes examples of codes by its ``forward``.

    Raises:
        TypeError: If it has no generator; the message says ``what`` needs one.
    """
    if not isinstance(module, HasGenerator):
        raise TypeError(
            f"{what} needs a module with a generator, latent_dim, sample_latent and decode, such as a GAN; "
            f"{type(module).__name__} lacks them."
        )
    return module


def invert(
    module: Any,
    x: Tensor,
    *,
    labels: Tensor | None = None,
    starts: int = 8,
    steps: int = 300,
    lr: float = 0.1,
    generator: Generator | None = None,
) -> Inversion:
    """Searches codes from which a generator, in evaluation mode, makes the given examples.

    Every example is searched for by itself, whatever else is in the batch. The learning rate falls to zero along a
    cosine, and of all steps of all starts the code with the least error is returned.

    Args:
        module: A GAN: it ``HasGenerator``.
        x: Examples (N, *shape), in the range of the data.
        labels: Class labels, int64 (N,), for a class-conditional model.
        starts: Codes of the model from which each example is searched for.
        steps: Steps of Adam.
        lr: Its learning rate at the start, in units of the code.
        generator: Source of the starts; ``None`` takes a fresh seed. No other random number is drawn, and neither
            weights nor random states change.

    Raises:
        TypeError: If the module has no generator.
        ValueError: If a number is out of range, ``x`` is of another shape or outside of the range of the data, labels
            are missing or do not fit, or an error is NaN or infinite at every code.
    """
    checked_generator(module, "invert")
    starts, steps = as_count("starts", starts), as_count("steps", steps)
    check_positive(lr=lr)
    x = module.examples(x).detach()
    classes = module.labels_for(len(x), labels)
    with undisturbed(module):
        z = module.sample_latent(len(x) * starts, generator=generator or new_generator()).to(x)
        z = z.unflatten(0, (len(x), starts))
        chunks = torch.arange(len(x)).split(max(1, ROWS // starts))
        found = [
            _search(module, z[rows], x[rows], None if classes is None else classes[rows], steps, lr) for rows in chunks
        ]
    codes, errors = (torch.cat(column) for column in zip(*found, strict=True))
    if broken := int((~torch.isfinite(errors)).sum()):
        raise ValueError(
            f"The generator makes NaN or infinite values of every code that was tried for {broken} of {len(x)} "
            "examples: the model has diverged, or its weights are damaged."
        )
    return Inversion(codes, errors)


def _search(
    module: HasGenerator, z: Tensor, x: Tensor, labels: Tensor | None, steps: int, lr: float
) -> tuple[Tensor, Tensor]:
    """Returns the best codes and their errors, from codes z (N, starts, latent_dim) for examples (N, *shape)."""
    num, starts, _ = z.shape
    targets = x.repeat_interleave(starts, 0)
    labels = None if labels is None else labels.repeat_interleave(starts, 0)
    codes = z.flatten(0, 1).clone()
    best, least = codes.clone(), torch.full((len(codes),), math.inf, dtype=codes.dtype, device=codes.device)
    optimizer = torch.optim.Adam([codes], lr)
    for step in range(steps + 1):
        with torch.enable_grad():
            codes.requires_grad_()
            errors = (given_condition(module, codes, labels) - targets).square().flatten(1).mean(1)  # type: ignore[arg-type]
            (codes.grad,) = torch.autograd.grad(errors.sum(), codes)
        better = errors.detach() < least
        best = torch.where(better[:, None], codes.detach(), best)
        least = torch.where(better, errors.detach(), least)
        optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.step()
    least, winners = least.view(num, starts).min(1)
    return best.view(num, starts, -1)[torch.arange(num, device=winners.device), winners], least
