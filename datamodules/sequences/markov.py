"""Tokens of a random Markov chain, whose entropy is known: it is a lower bound of any model's loss."""

import math
import string
from typing import cast

import torch
from torch import Tensor

from datamodules.datamodule import SPLITS
from datamodules.loader import SAMPLES, SPLIT, Source, TensorSource, seeded
from datamodules.sequences.sequence_base import SequenceDataModule
from datamodules.spec import DataSpec

MOST_CONTEXTS = 1024
"""Largest number of contexts, because the stationary distribution takes a dense linear system of that size."""


class FreshChains(TensorSource):
    """Sequences of a training split that are sampled anew for every epoch."""

    def __init__(self, data: Tensor, labels: Tensor, datamodule: "MarkovSource") -> None:
        super().__init__(data, labels)
        self.datamodule = datamodule

    def for_epoch(self, epoch: int) -> TensorSource:
        """Returns the sequences of this epoch, a function of (seed, epoch)."""
        return TensorSource(self.datamodule.sampled("train", len(self), epoch), self.labels, "lengths")


class MarkovSource(SequenceDataModule):
    """Stationary sequences of a random Markov chain of order k: p(x_t | x_<t) = P[x_{t-k}, ..., x_{t-1}, x_t].

    Each row of P is sampled from a symmetric Dirichlet distribution with ``seed``. The first k symbols of a sequence
    follow the stationary distribution pi. Batches are tokens, int64 (N, T), and their lengths, which are all T.

    Entropies are in nats. ``spec.entropy_rate`` is h = sum over contexts c of pi(c) H(P[c]), a lower bound of the mean
    loss per token after the first k. ``entropy`` is that of the whole sequence, H(pi) + (T - k) h, a lower bound of the
    mean loss per sequence.

    Args:
        num_symbols: Number of symbols, 2 to 100.
        order: Number k of symbols that the next one depends on, at least 1; ``num_symbols ** order`` is at most 1024.
        length: Number T of tokens per sequence, at least ``order``.
        concentration: Parameter of the Dirichlet distribution, above 0: the smaller, the more predictable the chain.
        batch_size: Sequences per process and batch.
        train_size: Number of sequences per epoch.
        val_size: Number of sequences for validation; 0 for none.
        test_size: Number of sequences for testing; 0 for none.
        fresh: Sample new training sequences for every epoch, instead of one fixed set.
        seed: Seed of chain, sequences and order.

    Attributes:
        transitions: The matrix P, float64 (num_symbols ** order, num_symbols).
        stationary: The distribution pi of contexts, float64 (num_symbols ** order,).
        entropy: Entropy of a whole sequence in nats.

    Raises:
        ValueError: If an argument is out of range, or the chain has no unique stationary distribution.
    """

    def __init__(
        self,
        num_symbols: int = 4,
        order: int = 2,
        length: int = 64,
        concentration: float = 0.5,
        batch_size: int = 64,
        train_size: int = 8192,
        val_size: int = 1024,
        test_size: int = 4096,
        fresh: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(
            batch_size,
            seed,
            sizes={"val_size": val_size, "test_size": test_size},
            positive={"order": order, "train_size": train_size},
        )
        if not 2 <= num_symbols <= len(string.printable):
            raise ValueError(f"num_symbols={num_symbols} must lie in 2..{len(string.printable)}.")
        if length < order:
            raise ValueError(f"length={length} must be at least order={order}.")
        if num_symbols**order > MOST_CONTEXTS:
            raise ValueError(
                f"num_symbols={num_symbols} and order={order} make {num_symbols**order} contexts, more than "
                f"{MOST_CONTEXTS}: take fewer."
            )
        if not (math.isfinite(concentration) and concentration > 0):
            raise ValueError(f"concentration={concentration} must be a positive number.")
        self.save_hyperparameters(logger=False)
        self.order, self.length, self.fresh = order, length, fresh
        self.sizes = dict(zip(SPLITS, (train_size, val_size, test_size), strict=True))
        self.transitions = random_transitions(num_symbols, order, concentration, seed)
        try:
            self.stationary = stationary_distribution(self.transitions)
        except torch.linalg.LinAlgError as error:
            raise ValueError(
                f"concentration={concentration} makes a chain that never leaves a part of its contexts (in float64) "
                "and so has no unique stationary distribution: take a larger one."
            ) from error
        rate = float((self.stationary[:, None] * torch.special.entr(self.transitions)).sum())
        self.entropy = float(torch.special.entr(self.stationary).sum()) + (length - order) * rate
        self.spec = DataSpec(
            name="markov_source",
            kind="tokens",
            shape=(length,),
            vocabulary=tuple(string.printable[:num_symbols]),
            entropy_rate=rate,
        )

    def log_prob(self, x: Tensor) -> Tensor:
        """Returns the log-probability of sequences under the chain itself, in nats, float64 (N,).

        Args:
            x: Tokens, int64 (N, T), T at least ``order``.
        """
        contexts = contexts_of(x, self.order, self.transitions.shape[1])
        steps = self.transitions[contexts[:, :-1], x[:, self.order :]].log()
        return self.stationary[contexts[:, 0]].log() + steps.sum(1)

    def sampled(self, split: str, num_sequences: int, epoch: int = 0) -> Tensor:
        """Samples the sequences of a split, int64 (N, T); a function of (seed, split, epoch)."""
        generator = seeded(SAMPLES, self.seed, SPLITS.index(split), epoch)
        num_contexts, num_symbols = self.transitions.shape
        uniform = torch.rand(num_sequences, self.length - self.order + 1, dtype=torch.float64, generator=generator)
        context = torch.searchsorted(self.stationary.cumsum(0), uniform[:, 0].contiguous()).clamp_(max=num_contexts - 1)
        powers = num_symbols ** torch.arange(self.order - 1, -1, -1)
        symbols = [*(context[:, None] // powers % num_symbols).unbind(1)]
        cumulative = self.transitions.cumsum(1)
        for noise in uniform[:, 1:].unbind(1):
            symbol = (cumulative[context] < noise[:, None]).sum(1).clamp_(max=num_symbols - 1)
            context = (context * num_symbols + symbol) % num_contexts
            symbols.append(symbol)
        return torch.stack(symbols, 1)

    def read(self) -> dict[str, Source]:
        """Samples the splits."""
        sources = {
            split: TensorSource(self.sampled(split, size), torch.full((size,), self.length), "lengths")
            for split, size in self.sizes.items()
        }
        if self.fresh:
            sources["train"] = FreshChains(sources["train"].data, sources["train"].labels, self)
        return cast(dict[str, Source], sources)


def random_transitions(num_symbols: int, order: int, concentration: float, seed: int) -> Tensor:
    """Samples rows from a symmetric Dirichlet distribution, float64 (num_symbols ** order, num_symbols)."""
    shape = (num_symbols**order, num_symbols)
    generator = seeded(SPLIT, seed)
    # A gamma variate G(a) of small shape a underflows, but log G(a) = log G(a + 1) + log(U) / a does not.
    gamma = torch._standard_gamma(torch.full(shape, concentration + 1, dtype=torch.float64), generator=generator)
    uniform = torch.rand(shape, dtype=torch.float64, generator=generator).clamp_(min=1e-300)
    return (gamma.log() + uniform.log() / concentration).softmax(1)


def stationary_distribution(transitions: Tensor) -> Tensor:
    """Returns the stationary distribution over the contexts of a chain, float64 (S ** k,).

    Args:
        transitions: Probabilities of the next symbol, float64 (S ** k, S), contexts in order of
            (x_{t-k}, ..., x_{t-1}).

    Raises:
        torch.linalg.LinAlgError: If it is not unique.
    """
    num_contexts, num_symbols = transitions.shape
    contexts = torch.arange(num_contexts)
    following = (contexts[:, None] * num_symbols + torch.arange(num_symbols)) % num_contexts
    matrix = torch.zeros(num_contexts, num_contexts, dtype=torch.float64)
    matrix.scatter_add_(1, following, transitions)
    # pi (M - 1) = 0 has one redundant equation, which sum(pi) = 1 replaces.
    system = (matrix - torch.eye(num_contexts, dtype=torch.float64)).T
    system[-1] = 1.0
    unit = torch.zeros(num_contexts, dtype=torch.float64)
    unit[-1] = 1.0
    distribution = torch.linalg.solve(system, unit).clamp_(min=0.0)
    return distribution / distribution.sum()


def contexts_of(x: Tensor, order: int, num_symbols: int) -> Tensor:
    """Returns the index of each context, that is of each ``order`` consecutive symbols, int64 (N, T - order + 1)."""
    powers = num_symbols ** torch.arange(order - 1, -1, -1)
    return (x.unfold(1, order, 1) * powers).sum(2)
