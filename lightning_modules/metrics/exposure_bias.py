"""Exposure bias as a curve: the divergence of a sequence model from the data by the number of free-running steps.

The model continues true prefixes of held-out sequences, and its continuations are compared with the true ones in
windows of steps after the prefix: n-grams (of symbols; of the melody of piano rolls) by their Jensen-Shannon
divergence, and the features of the network, with its own steps or with true ones as inputs, by their Frechet distance.
See ``metrics.sequence.divergence_curve`` for the statistic and its floor.

Sequences are sampled by the block protocol (block b continues the prefixes 250 b to 250 b + 249, on process b modulo
world size), so that values do not depend on the number of processes or on the batch size.

Scheduled Sampling (Bengio et al., 2015), https://arxiv.org/abs/1506.03099, and Professor Forcing (Lamb et al., 2016),
https://arxiv.org/abs/1610.09038, are remedies.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from datamodules.spec import DataSpec
from lightning_modules.metrics.music_metrics import top_voice
from lightning_modules.metrics.protocol import BLOCK_SIZE, block_generator, device_of, in_blocks, undisturbed
from lightning_modules.metrics.sequence import (
    Curve,
    divergence_curve,
    gaussian_divergence,
    leading_components,
    ngram_divergence,
    spread_evenly,
    window_starts,
)

COMPONENTS = 32
FEATURE_CHUNK = 50  # sequences whose features are in memory at once


class HoldsSequences(Protocol):
    """The interface of a datamodule that metrics of sequences need; one of text also has ``tokens`` after setup."""

    @property
    def spec(self) -> DataSpec:
        """Returns the spec of the sequences."""
        ...

    def sequences(self, split: str) -> tuple[Tensor, Tensor]:
        """Returns all sequences of a split (N, T, ...) and their lengths (N,)."""
        ...


def exposure_curves(
    module: Any,
    real: Tensor,
    *,
    prefix: int = 32,
    window: int = 64,
    orders: Sequence[int] = (1, 2, 3, 4),
    components: int = COMPONENTS,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Curve]:
    """Measures exposure bias of a module with the weights it has. All processes must call it together.

    Args:
        module: A module that ``SupportsContinuation`` and has a ``network`` like ``SequenceModule``.
        real: Held-out sequences without padding, tokens (2 N, T) or piano rolls (2 N, T, 88).
        prefix: Number of true steps that the module continues, by T - ``prefix`` steps.
        window: Steps per window.
        orders: The n of the n-grams.
        components: Number of principal components, fitted to the features of all of ``real`` after the prefix; fewer
            if the network has fewer features.
        seed: Seed of the protocol.
        progress: Whether to show a progress bar.

    Returns:
        Curves by name: ``js_<n>gram`` (nats) for each order, and ``hidden_frechet`` (in units of the total variance of
        the real features' components). At step 0 of ``hidden_frechet`` all inputs are true steps.

    Raises:
        ValueError: If a number is out of range, or the network's features are not vectors.
    """
    steps = real.shape[1] - prefix
    check_protocol(prefix, steps, window, orders, components)

    def work(block: int) -> Sequence[Tensor]:
        prefixes = real[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE, :prefix]
        return (module.continue_sequence(prefixes, steps, generator=block_generator(seed, block)),)

    with undisturbed(module):
        (free,) = in_blocks(len(real), work, progress="free-running sequences" if progress else None)
        leading = leading_components(_features(module, real, prefix), components)
        hidden = [torch.cat([leading.project(part) for part in _features(module, x, prefix)]) for x in (real, free)]
    real_symbols, free_symbols = (symbols_of(x)[:, prefix:].cpu() for x in (real, free))
    curves: dict[str, Curve] = {}
    for n in orders:
        curves[f"js_{n}gram"] = divergence_curve(partial(ngram_divergence, n=n), real_symbols, free_symbols, window)
    return curves | {"hidden_frechet": divergence_curve(gaussian_divergence, hidden[0], hidden[1], window)}


def real_sequences(datamodule: Any, split: str, steps: int, num: int = 250) -> Tensor:
    """Returns disjoint held-out sequences without padding: consecutive pieces of a text, or the beginnings of songs.

    Args:
        datamodule: A datamodule that ``HoldsSequences``.
        split: ``"train"``, ``"val"`` or ``"test"``.
        steps: Number of steps T of each; shorter sequences are left out.
        num: Half of the largest number of sequences to return; they are spread evenly over the split.

    Returns:
        Shape (2 N, T, ...), N at most ``num``: even and odd rows are two sets, each spread over the whole split.

    Raises:
        ValueError: If there are fewer than two pairs of sequences.
    """
    x, lengths = datamodule.sequences(split)
    if hasattr(datamodule, "tokens"):  # the datamodule's windows of a text are shorter than ``steps``
        record = datamodule.tokens[split].long()
        found = record[: len(record) // steps * steps].view(-1, steps)
    else:
        found = x[lengths >= steps, :steps]
    pairs = min(num, len(found) // 2)
    if pairs < 2:
        raise ValueError(
            f"The {split} split of {datamodule.spec.name} has {len(found)} sequences of {steps} steps, but at least 4 "
            "are needed: use a shorter prefix or fewer steps."
        )
    return spread_evenly(found, 2 * pairs)


def symbols_of(x: Tensor) -> Tensor:
    """Returns the symbols of n-grams, int64 (N, T): tokens themselves, or the highest notes of piano rolls."""
    if not x.is_floating_point():
        return x
    return top_voice(x, torch.full((len(x),), x.shape[1], device=x.device))


def last_of_curves(curves: dict[str, Curve], start: str, num_sequences: int) -> dict[str, float]:
    """Returns the last window of curves by names that contain the protocol: divergences and their floors.

    Args:
        curves: Curves by name.
        start: Name of the prefix that was continued, ``"prefix32"``.
        num_sequences: Number of sequences that were compared with as many others.
    """
    values: dict[str, float] = {}
    for name, curve in curves.items():
        first = int(curve.starts[-1])
        protocol = f"{start}-steps{first}to{first + curve.window}-{num_sequences}"
        values[f"{name}-{protocol}"] = float(curve.values[-1])
        values[f"{name}_floor-{protocol}"] = float(curve.floor[-1])
    return values


def check_protocol(prefix: int, steps: int, window: int, orders: Sequence[int], components: int) -> None:
    """Raises ValueError, with the number at fault, unless windows of n-grams fit the steps."""
    if prefix < 1:
        raise ValueError(f"prefix={prefix} must be at least 1, because the model continues it.")
    window_starts(steps, window)
    if not orders or not all(1 <= n <= window for n in orders):
        raise ValueError(f"orders={list(orders)} must be numbers in 1..{window}, the steps of a window.")
    if components < 1:
        raise ValueError(f"components={components} must be at least 1.")


def _features(module: Any, x: Tensor, prefix: int) -> Iterator[Tensor]:
    """Yields the features that predict the steps after the prefix, (n, T, F), for a few sequences at a time."""
    device = device_of(module)
    for part in x.split(FEATURE_CHUNK):
        features, _ = module.network(module.network.inputs(part.to(device)))
        if features.ndim != 3:
            raise ValueError(f"Features must be vectors, (N, T, F), but are {tuple(features.shape)}.")
        yield features[:, prefix:].cpu()
