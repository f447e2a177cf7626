"""Does a model draw what it never saw? Samples of held-out captions beside the images that these captions are of.

A caption is counterfactual for a model if all its parts were seen in training, but never together. Where its real image
exists, the truth, a sample is judged in four ways:

    named     A classifier that has not seen the truth names each attribute that was asked for.
    nearer    The sample is nearer to the truth than the seen image that is nearest to the truth.
    nearest   Of variants of the truth that differ in one attribute alone, the truth is the nearest to the sample.
    retrieved The truth is among the k real images that are nearest to the sample.

Distances are Euclidean, between features. A model that repeats the seen image nearest to the truth is never nearer, nor
is the truth the first to be retrieved; but it is often within five, and often the nearest variant if the neighbour has
that attribute right: figures of this model are the scale. One that repeats another variant gets 0 of the nearest. Where
images tie, a share is counted: that of the orders of the tied images in which the truth comes first. A model of
constant features gets chance.

NOTE: Distances see what the features see, and features of another extractor give other figures. Pixels are strict where
nobody would see it: of real emoji shifted by one pixel, one in twenty is nearer than the nearest seen image by pixels,
and nine in ten are by features of the classifier of emoji.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.parts.precision import in_float64

NUM_RESAMPLED = 2000
ROWS = 32
"""Number of images that are compared with all others at once."""


class Estimate(NamedTuple):
    """A mean with its error.

    Attributes:
        mean: Mean over the captions that have a value.
        standard_error: Its bootstrap standard error.
        num: Number of these captions.
    """

    mean: float
    standard_error: float
    num: int


def distances(features: Tensor, others: Tensor) -> Tensor:
    """Returns Euclidean distances (N, M) of features (N, D) and (M, D); that of equal features is exactly 0."""
    rows = features.split(ROWS)
    return torch.cat([torch.cdist(part, others, compute_mode="donot_use_mm_for_euclid_dist") for part in rows])


def nearest_seen(truth: Tensor, seen: Tensor, own: Tensor) -> Tensor:
    """Returns the nearest seen image of each true image, other than itself.

    Args:
        truth: Features of the true images, (N, D).
        seen: Features of the training images, (S, D).
        own: Index of each true image among the training images, int64 (N,), or -1 where it is not one of them.

    Returns:
        Indices into the training images, int64 (N,).
    """
    away = distances(truth, seen)
    rows = (own >= 0).nonzero().flatten()
    away[rows, own[rows]] = torch.inf
    return away.argmin(1)


def named(logits: Tensor, asked: Tensor) -> Tensor:
    """Returns whether a classifier names what was asked for.

    Args:
        logits: Its logits, (N, K).
        asked: Index of the value that a caption asks for, int64 (N,), or -1 where it asks for none.

    Returns:
        1, 0, or NaN where none is asked for, float64 (N,).
    """
    found = in_float64(logits.argmax(1) == asked)
    return found.masked_fill((asked < 0).to(found.device), torch.nan)


def nearer_than_seen(samples: Tensor, truth: Tensor, neighbour: Tensor) -> Tensor:
    """Returns whether samples are nearer to the truth than its nearest seen image is, 0 or 1, float64 (N,).

    Args:
        samples: Features of the samples, (N, D).
        truth: Features of the true images, (N, D).
        neighbour: Features of the seen image that is nearest to each true one, (N, D).
    """
    return in_float64((samples - truth).norm(dim=1) < (neighbour - truth).norm(dim=1))


def nearest_variant(samples: Tensor, variants: Tensor, truth: Tensor) -> Tensor:
    """Returns whether the truth is the nearest of its variants.

    Args:
        samples: Features of the samples, (N, D).
        variants: Features of V images for each, the truth among them, (N, V, D).
        truth: Index of the truth among these, int64 (N,).

    Returns:
        Values in [0, 1], float64 (N,).
    """
    return _within((samples[:, None] - variants).norm(dim=2), truth, 1)


def retrieved(samples: Tensor, real: Tensor, truth: Tensor, k: int) -> Tensor:
    """Returns whether the truth is among the k real images that are nearest to a sample.

    Args:
        samples: Features of the samples, (N, D).
        real: Features of all real images, (M, D).
        truth: Index of the truth among these, int64 (N,).
        k: At least 1.

    Returns:
        Values in [0, 1], float64 (N,).

    Raises:
        ValueError: If k is not within 1 and M.
    """
    if not 1 <= k <= len(real):
        raise ValueError(f"k={k} must lie between 1 and the number of real images, {len(real)}.")
    return _within(distances(samples, real), truth, k)


def estimate(values: Tensor, groups: Tensor, *, seed: int = 0) -> Estimate:
    """Returns the mean of values and its bootstrap standard error over groups of captions.

    Whole groups are resampled, because values of one group depend on each other, as those of one emoji in two styles.

    Args:
        values: A value of each caption, NaN where it has none, (N,).
        groups: Group of each caption, int64 (N,), at least 0.
        seed: Seed of the resampling.

    Raises:
        ValueError: If fewer than two groups have a value.
    """
    known = ~values.isnan()
    values, (_, groups) = in_float64(values[known]), groups[known].unique(return_inverse=True)
    counts = in_float64(groups.bincount())
    if len(counts) < 2:
        raise ValueError(f"An error needs captions of two groups, but {len(counts)} have a value.")
    sums = torch.zeros_like(counts).index_add_(0, groups, values)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(counts), (NUM_RESAMPLED, len(counts)), generator=generator)
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    return Estimate(values.mean().item(), means.std().item(), len(values))


def group_indices(keys: Sequence[object]) -> Tensor:
    """Returns the index of each key among the different ones, int64 (N,), in the order of their first appearance."""
    places = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    return torch.tensor([places[key] for key in keys])


def _within(away: Tensor, truth: Tensor, k: int) -> Tensor:
    """Returns the share of the orders of tied images in which the truth is among the k nearest, float64 (N,)."""
    own = away.gather(1, truth[:, None])
    before, tied = (away < own).sum(1), (away == own).sum(1)
    return in_float64(((k - before) / tied).clamp(0, 1))
