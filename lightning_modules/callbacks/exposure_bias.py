"""Exposure bias as a curve: how far a sequence model drifts from the data, by the steps that it has run freely.

From true prefixes of held-out sequences the model goes on by itself, and what it writes is compared with what stands
there: n-grams (of symbols; of the melody of piano rolls) by their Jensen-Shannon divergence, and what the network's
features are when it reads its own steps instead of true ones by their Frechet distance, in windows of steps after the
prefix. See ``parts.sequence_metrics.divergence_curve`` for the statistic and its floor.

Sequences are drawn by the block protocol (block b goes on from the prefixes 250 b to 250 b + 249, on process b modulo
world size), so that the numbers do not depend on processes or batch size.

Scheduled Sampling (Bengio et al., 2015), https://arxiv.org/abs/1506.03099, and Professor Forcing (Lamb et al., 2016),
https://arxiv.org/abs/1610.09038, are remedies.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_modules.callbacks.ema import averaged_weights
from lightning_modules.callbacks.generation_measure import check_num_judged, data_spec, same_everywhere
from lightning_modules.callbacks.judged_blocks import (
    BLOCK_SIZE,
    block_generator,
    device_of,
    in_blocks,
    undisturbed,
)
from lightning_modules.parts.capabilities import Continues, DataSpec
from lightning_modules.parts.music_statistics import top_voice
from lightning_modules.parts.sequence_metrics import (
    Curve,
    divergence_curve,
    gaussian_divergence,
    leading_components,
    ngram_divergence,
    window_starts,
)

KINDS = ("tokens", "piano_roll")
COMPONENTS = 32
FEATURE_CHUNK = 50  # sequences whose features are held at a time


class HoldsSequences(Protocol):
    """What the measures ask of a datamodule; one of text has ``tokens`` by split, too, once it is set up."""

    @property
    def spec(self) -> DataSpec:
        """Says what the sequences are."""
        ...

    def sequences(self, split: str) -> tuple[Tensor, Tensor]:
        """Returns all sequences of a split (N, T, ...) and their lengths (N,)."""
        ...


class ExposureBias(Callback):
    """Logs how far free-running sequences are from real ones in the last window, and keeps the curves.

    Keys carry the protocol: ``val/js_2gram-prefix32-steps448to512-102`` is of steps 448 to 511 after a prefix of 32, of
    102 sequences against 102 others (nats), and ``val/js_2gram_floor-...`` what real ones differ by there;
    ``val/hidden_frechet-...`` and its floor are of the features, in units of the total variance of real ones. In
    ``trainer.test`` the keys begin with ``test/``. Averaged weights are used where an ``EMA`` callback keeps them.

    Args:
        prefix: True steps that the model goes on from, at least 1.
        steps: Steps that it goes on for.
        window: Steps of a window of the curve.
        orders: The n of the n-grams.
        num_sequences: Sequences compared with as many others; fewer where the data are fewer.
        components: Principal components of the features that are compared.
        seed: Seed of the sequences; part of the protocol.

    Attributes:
        curves: The curves of the last validation or test by name, ``"js_2gram"`` or ``"hidden_frechet"``.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        prefix: int = 32,
        steps: int = 512,
        window: int = 64,
        orders: Sequence[int] = (1, 2, 3, 4),
        num_sequences: int = 250,
        components: int = COMPONENTS,
        seed: int = 0,
    ) -> None:
        check_num_judged(num_sequences=num_sequences)
        check_protocol(prefix, steps, window, orders, components)
        self.prefix, self.steps, self.window, self.orders = prefix, steps, window, tuple(orders)
        self.num_sequences, self.components, self.seed = num_sequences, components, seed
        self.curves: dict[str, Curve] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses what cannot be measured before training starts.

        Raises:
            ValueError: If the data are neither tokens nor piano rolls, or there is no datamodule.
            TypeError: If the module does not continue sequences.
        """
        if not isinstance(pl_module, Continues):
            raise TypeError(f"ExposureBias needs {type(pl_module).__name__}.continue_sequence(prefix, length, ...).")
        spec = data_spec(trainer, pl_module)
        if spec is None or spec.kind not in KINDS or not hasattr(trainer.datamodule, "sequences"):  # type: ignore[attr-defined]
            what = "no data spec" if spec is None else f"{spec.name!r} (kind={spec.kind!r})"
            raise ValueError(
                f"ExposureBias compares {' or '.join(KINDS)} of a datamodule that has sequences(split), not {what}."
            )

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs ``val/...``, except in the sanity check."""
        if not trainer.sanity_checking:
            self._measure(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs ``test/...``."""
        self._measure(trainer, pl_module, "test")

    def _measure(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        real = real_sequences(datamodule, split, self.prefix + self.steps, self.num_sequences)
        with averaged_weights(trainer, module):
            self.curves = exposure_curves(
                module,
                real,
                prefix=self.prefix,
                window=self.window,
                orders=self.orders,
                components=self.components,
                seed=self.seed,
            )
        values = last_of_curves(self.curves, f"prefix{self.prefix}", len(real) // 2)
        for name, value in same_everywhere(values).items():
            module.log(f"{split}/{name}", value, rank_zero_only=False)


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
        module: Something that ``Continues``, and has a ``network`` as ``SequenceModule`` has.
        real: Held-out sequences without padding, tokens (2 N, T) or piano rolls (2 N, T, 88).
        prefix: True steps that the module goes on from; it goes on for T - ``prefix`` steps.
        window: Steps of a window.
        orders: The n of the n-grams.
        components: Principal components, fitted to the features of all of ``real`` after the prefix; fewer where the
            network has fewer features.
        seed: Seed of the protocol.
        progress: Whether to show a progress bar.

    Returns:
        Curves by name: ``js_<n>gram`` (nats) for each order, and ``hidden_frechet`` (in units of the total variance of
        the real features' components). Step 0 of ``hidden_frechet`` has read true steps only.

    Raises:
        ValueError: If a number is out of range, or the network's features are no vectors.
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
        datamodule: Something that ``HoldsSequences``.
        split: ``"train"``, ``"val"`` or ``"test"``.
        steps: Steps T of each; shorter sequences are left out.
        num: Half of the sequences that are returned at most, spread evenly over the split.

    Returns:
        Shape (2 N, T, ...), N at most ``num``: even and odd rows are two sets from all over the split.

    Raises:
        ValueError: If there are fewer than two pairs of sequences.
    """
    x, lengths = datamodule.sequences(split)
    if hasattr(datamodule, "tokens"):  # windows of a text are shorter than what is to be compared
        record = datamodule.tokens[split].long()
        found = record[: len(record) // steps * steps].view(-1, steps)
    else:
        found = x[lengths >= steps, :steps]
    pairs = min(num, len(found) // 2)
    if pairs < 2:
        raise ValueError(
            f"The {split} split of {datamodule.spec.name} has {len(found)} sequences of {steps} steps, but at least 4 "
            "are needed: take a shorter prefix or fewer steps."
        )
    return found[torch.arange(2 * pairs) * len(found) // (2 * pairs)]


def symbols_of(x: Tensor) -> Tensor:
    """Returns what the n-grams are of, int64 (N, T): tokens themselves, and the highest notes of piano rolls."""
    if not x.is_floating_point():
        return x
    return top_voice(x, torch.full((len(x),), x.shape[1], device=x.device))


def last_of_curves(curves: dict[str, Curve], start: str, num_sequences: int) -> dict[str, float]:
    """Returns the last window of curves as numbers, by names that carry the protocol: divergences and their floors.

    Args:
        curves: By name.
        start: What the sequences went on from, ``"prefix32"``.
        num_sequences: Sequences compared with as many others.
    """
    values: dict[str, float] = {}
    for name, curve in curves.items():
        first = int(curve.starts[-1])
        protocol = f"{start}-steps{first}to{first + curve.window}-{num_sequences}"
        values[f"{name}-{protocol}"] = float(curve.values[-1])
        values[f"{name}_floor-{protocol}"] = float(curve.floor[-1])
    return values


def check_protocol(prefix: int, steps: int, window: int, orders: Sequence[int], components: int) -> None:
    """Raises ValueError, with the number, unless windows of n-grams fit the steps."""
    if prefix < 1:
        raise ValueError(f"prefix={prefix} must be at least 1: a model goes on from it.")
    window_starts(steps, window)
    if not orders or not all(1 <= n <= window for n in orders):
        raise ValueError(f"orders={list(orders)} must be numbers in 1..{window}, the steps of a window.")
    if components < 1:
        raise ValueError(f"components={components} must be at least 1.")


def _features(module: Any, x: Tensor, prefix: int) -> Iterator[Tensor]:
    """Yields the features by which the steps after the prefix are predicted, (n, T, F), a few sequences at a time."""
    device = device_of(module)
    for part in x.split(FEATURE_CHUNK):
        features, _ = module.network(module.network.inputs(part.to(device)))
        if features.ndim != 3:
            raise ValueError(f"Features must be vectors, (N, T, F), but are {tuple(features.shape)}.")
        yield features[:, prefix:].cpu()
