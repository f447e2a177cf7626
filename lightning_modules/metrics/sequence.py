"""Distances between generated and real sequences, as pure functions: n-grams, features, copying, likelihood.

A model that is trained on true pasts but generates from its own samples gets, with every step, inputs that are less
like its training data: exposure bias. It appears as a divergence between real and free-running sequences that grows
with the number of steps since the last true one. Estimates of the divergence between equal distributions are not 0,
and are larger for fewer samples. So each comes with its floor, the same statistic between two disjoint sets of real
sequences of the same sizes; only the excess over the floor is due to the model.

NOTE: A divergence from the first steps on is misfit of the model; only the growth is exposure bias. The excess may be
slightly negative, and does not measure what n-grams or the features do not represent. Neighbouring pieces of one text
are alike, because they share names and topics, which lowers the floor.

References:
    Jensen-Shannon divergence: Lin (1991), https://doi.org/10.1109/18.61115
    Exposure bias as a function of the length of the prefix: He et al. (2021), https://arxiv.org/abs/1905.10617
    Frechet distance of hidden states: after Heusel et al. (2017), https://arxiv.org/abs/1706.08500
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.metrics.image import frechet_distance, moments
from lightning_modules.parts.precision import home_of_float64, in_float64

PADDING = -1
"""Value in records after the end of a sequence; n-grams that contain it are not counted."""


@dataclass(frozen=True)
class Curve:
    """A divergence as a function of the number of free-running steps.

    Attributes:
        starts: First step of each window after the last true step, from 0, int64 (W,).
        window: Steps per window: window w has the steps ``starts[w]`` to ``starts[w] + window`` - 1.
        values: Divergence of free-running sequences from real ones, float64 (W,).
        floor: Divergence of real sequences from other real ones, float64 (W,): the mean value of a perfect model.
    """

    starts: Tensor
    window: int
    values: Tensor
    floor: Tensor

    @property
    def excess(self) -> Tensor:
        """The divergence minus its floor, float64 (W,)."""
        return self.values - self.floor


def divergence_curve(distance: Callable[[Tensor, Tensor], float], real: Tensor, free: Tensor, window: int) -> Curve:
    r"""Compares real and free-running sequences in consecutive windows of steps.

    Sequence i of ``free`` continues the true prefix of sequence i of ``real``. Even rows A and odd rows B are two
    disjoint sets; with the windows :math:`w = [t, t + \text{window})` the values and the floor are

    .. math:: (d(\mathrm{free}_A^w, \mathrm{real}_B^w) + d(\mathrm{free}_B^w, \mathrm{real}_A^w)) / 2
        \quad \text{and} \quad d(\mathrm{real}_A^w, \mathrm{real}_B^w),

    whose means are equal if the model is the distribution of the data. Sequences are never compared with those that
    share their prefix, which would be too similar.

    Args:
        distance: Maps two sets of pieces (N, window, ...) to a number, symmetric in them.
        real: Steps after the prefix, (2 N, T, ...).
        free: Samples of the model, of the same shape.
        window: Steps per window, at most T; a last window that would be shorter is left out.

    Raises:
        ValueError: If the shapes differ, the number of sequences is odd or 0, or no window fits.
    """
    if real.shape != free.shape or not len(real) or len(real) % 2:
        raise ValueError(
            f"Expected an even number of real sequences and as many free ones of one shape, got {tuple(real.shape)} "
            f"and {tuple(free.shape)}."
        )
    starts = window_starts(real.shape[1], window)
    values, floor = [], []
    for start in starts.tolist():
        real_a, real_b, free_a, free_b = (x[half::2, start : start + window] for x in (real, free) for half in (0, 1))
        values.append((distance(free_a, real_b) + distance(free_b, real_a)) / 2)
        floor.append(distance(real_a, real_b))
    return Curve(starts, window, *(torch.tensor(numbers, dtype=torch.float64) for numbers in (values, floor)))


def window_starts(length: int, window: int) -> Tensor:
    """Returns the first steps of consecutive whole windows in ``length`` steps, int64 (W,).

    Raises:
        ValueError: If none fits.
    """
    if not 1 <= window <= length:
        raise ValueError(f"window={window} must lie in 1..{length}, the number of steps.")
    return torch.arange(0, length - window + 1, window)


# n-grams


def joint_ngrams(records: Sequence[Tensor], n: int) -> list[Tensor]:
    """Numbers the n-grams of several records with common numbers.

    Args:
        records: Symbols, int64 (N_i, T_i) each, N_i sequences; ``PADDING`` where a sequence has ended.
        n: Symbols per n-gram, at least 1.

    Returns:
        For each record the numbers of its n-grams, int64 (M_i,), in 0..K - 1 for K different n-grams in total; two
        numbers are equal if and only if the n-grams are.

    Raises:
        ValueError: If n is below 1, or a record holds no n-gram.
    """
    if n < 1:
        raise ValueError(f"n={n} must be at least 1.")
    if short := [tuple(record.shape) for record in records if record.ndim != 2 or record.shape[1] < n]:
        raise ValueError(f"A record of shape {short[0]} holds no {n}-gram: it must be (N, T) with T >= {n}.")
    inside = [(record.unfold(1, n, 1) >= 0).all(2) for record in records]
    codes = _numbered([record[:, : record.shape[1] - n + 1] for record in records])
    size = max(int(record.max()) for record in records) + 1
    for k in range(1, n):
        nexts = (record[:, k : record.shape[1] - n + 1 + k].clamp(min=0) for record in records)
        # Renumbered at each step, so that any n fits 64 bits.
        codes = _numbered([code * size + symbols for code, symbols in zip(codes, nexts, strict=True)])
    found = [code[valid] for code, valid in zip(codes, inside, strict=True)]
    if not all(len(code) for code in found):
        raise ValueError(f"A record holds no {n}-gram: all its sequences are shorter.")
    return list(_numbered(found))


def _numbered(codes: Sequence[Tensor]) -> list[Tensor]:
    _, numbers = torch.cat([code.flatten() for code in codes]).unique(return_inverse=True)
    parts = numbers.split([code.numel() for code in codes])
    return [part.view(code.shape) for part, code in zip(parts, codes, strict=True)]


def ngram_divergence(x: Tensor, y: Tensor, n: int) -> float:
    """Returns the Jensen-Shannon divergence of the empirical distributions of n-grams, nats, in [0, ln 2].

    Args:
        x: Symbols, int64 (N, T); n-grams are counted at all T - n + 1 positions.
        y: Symbols, int64 (M, S).
        n: Symbols per n-gram.

    Raises:
        ValueError: As in ``joint_ngrams``.
    """
    codes = joint_ngrams((x, y), n)
    size = max(int(code.max()) for code in codes) + 1
    return jensen_shannon(*(code.bincount(minlength=size) for code in codes))


def jensen_shannon(p: Tensor, q: Tensor) -> float:
    """Returns the Jensen-Shannon divergence H((p + q) / 2) - (H(p) + H(q)) / 2, nats, in [0, ln 2].

    Args:
        p: Counts or probabilities of K outcomes, (K,).
        q: Counts or probabilities of the same outcomes, (K,).

    Raises:
        ValueError: If the shapes differ, a value is negative, or all values of ``p`` or ``q`` are zero.
    """
    p, q = _normalized(p, q)
    entropies = [torch.special.entr(probabilities).sum() for probabilities in ((p + q) / 2, p, q)]
    return max(0.0, (entropies[0] - (entropies[1] + entropies[2]) / 2).item())


def total_variation(p: Tensor, q: Tensor) -> float:
    """Returns the total variation sum |p - q| / 2, in [0, 1]: one minus the overlap of two histograms.

    Args:
        p: Counts or probabilities of K outcomes, (K,).
        q: Counts or probabilities of the same outcomes, (K,).

    Raises:
        ValueError: If the shapes differ, a value is negative, or all values of ``p`` or ``q`` are zero.
    """
    p, q = _normalized(p, q)
    return (p - q).abs().sum().item() / 2


def _normalized(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    if p.shape != q.shape or p.ndim != 1 or min(p.min(), q.min()) < 0 or min(p.sum(), q.sum()) <= 0:
        raise ValueError(
            f"Expected counts or probabilities of the same outcomes, (K,), none negative and not all zero, but got "
            f"shapes {tuple(p.shape)} and {tuple(q.shape)}, sums {p.sum():g} and {q.sum():g}."
        )
    p, q = (counts.to(home_of_float64(counts.device)) for counts in (p, q))
    return p.double() / p.sum(), q.double() / q.sum()


def share_seen(generated: Tensor, training: Tensor, n: int) -> float:
    """Returns the share of the n-grams of generated sequences that occur in the training data, in [0, 1].

    Compare it with the share for held-out data, which is due to repetition in the data; a larger share is copying.

    Args:
        generated: Symbols, int64 (N, T).
        training: Symbols, int64 (M, S).
        n: Symbols per n-gram.

    Raises:
        ValueError: As in ``joint_ngrams``.
    """
    own, known = joint_ngrams((generated, training), n)
    return in_float64(torch.isin(own, known.unique())).mean().item()


def shares_seen(sequences: Tensor, training: Tensor, n: int) -> Tensor:
    """Returns ``share_seen`` of each sequence alone, float64 (N,); NaN where one is shorter than n.

    Args:
        sequences: Symbols, int64 (N, T).
        training: Symbols, int64 (M, S).
        n: Symbols per n-gram.

    Raises:
        ValueError: As in ``joint_ngrams``.
    """
    own, known = joint_ngrams((sequences, training), n)
    rows = (sequences.unfold(1, n, 1) >= 0).all(2).nonzero()[:, 0]
    seen = in_float64(torch.isin(own, known.unique()))
    return seen.new_zeros(len(sequences)).index_add_(0, rows, seen) / rows.bincount(minlength=len(sequences))


# Features


class Components(NamedTuple):
    """Leading principal components, scaled so that the features they were fitted to have a total variance of 1.

    Attributes:
        mean: (F,).
        basis: (F, k).
    """

    mean: Tensor
    basis: Tensor

    def project(self, features: Tensor) -> Tensor:
        """Maps features (..., F) to coordinates (..., k), float64."""
        return (in_float64(features) - self.mean) @ self.basis


def leading_components(features: Iterable[Tensor], num: int) -> Components:
    """Fits principal components to features that come in parts, (..., F) each; one pass, in float64.

    Args:
        features: The parts.
        num: Number of components, at most F.

    Raises:
        ValueError: If ``num`` is below 1, or the features do not vary.
    """
    if num < 1:
        raise ValueError(f"num={num} components must be at least 1.")
    count, total, outer = 0, torch.zeros(()), torch.zeros(())
    for part in features:
        rows = in_float64(part.flatten(0, -2))
        count, total, outer = count + len(rows), total + rows.sum(0), outer + rows.T @ rows
    mean = total / max(count, 1)
    covariance = outer / max(count, 1) - torch.outer(mean, mean)
    if not 0 < covariance.trace() < math.inf:
        raise ValueError("The features do not vary or are not finite: the network ignores its inputs, or diverged.")
    values, vectors = torch.linalg.eigh(covariance)
    return Components(mean, vectors[:, -num:] / values[-num:].sum().sqrt())


def gaussian_divergence(x: Tensor, y: Tensor) -> float:
    """Returns the squared Frechet distance of the Gaussians fitted to two sets of features.

    Args:
        x: Features (..., k), at least two of them.
        y: Features (..., k).

    Returns:
        A distance of at least 0, in the squared unit of the features. After ``Components.project`` the unit is the
        total variance of the features to which the components were fitted, so that networks can be compared.
    """
    return frechet_distance(*moments(x.flatten(0, -2)), *moments(y.flatten(0, -2)))


# Likelihood


def nats_in_windows(
    step_log_prob: Callable[[Tensor], Tensor], record: Tensor, window: int = 256, chunk: int = 64
) -> float:
    r"""Returns the mean of -log p over the steps of independent windows, nats per step: nanoGPT's protocol.

    Window k has the steps :math:`k w, \ldots, k w + w - 1` of the record as inputs and predicts :math:`k w + 1, \ldots,
    k w + w`: w predictions, the first from one step and the last from w steps. The first step of a window is context
    only. All whole windows are used, one after another, where nanoGPT draws some at random
    (https://github.com/karpathy/nanoGPT).

    Args:
        step_log_prob: Maps steps (N, w + 1) to log p of each given those before it, nats (N, w + 1).
        record: All steps, (T,).
        window: Number of predictions w per window.
        chunk: Number of windows at once; it limits memory and does not change the result.

    Raises:
        ValueError: If the record is shorter than one window and the step before it.
    """
    if len(record) < window + 1 or window < 1:
        raise ValueError(f"window={window} needs at least {window + 1} steps, but there are {len(record)}.")
    parts = record.unfold(0, window + 1, window).split(chunk)
    values = [in_float64(step_log_prob(part)[:, 1:]).sum(1) for part in parts]
    return -torch.cat(values).mean().item() / window


def spread_evenly(x: Tensor, num: int) -> Tensor:
    """Returns ``num`` rows of x (N, ...) that are spread evenly over all, or all if there are fewer."""
    num = min(num, len(x))
    return x[torch.arange(num) * len(x) // max(num, 1)]
