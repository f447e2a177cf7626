"""Tokens from a Markov chain: a source whose entropy is known, so that a model's loss has a floor."""

import math
import string
from typing import cast

import torch
from torch import Tensor

from datamodules.base import SPLITS
from datamodules.loader import DRAWS, SPLIT, Source, TensorSource, seeded
from datamodules.sequence_base import SequenceDataModule
from datamodules.spec import DataSpec

MOST_CONTEXTS = 1024


class FreshChains(TensorSource):
    """Sequences of a training split that are drawn anew for every epoch."""

    def __init__(self, data: Tensor, labels: Tensor, datamodule: "MarkovSource") -> None:
        super().__init__(data, labels)
        self.datamodule = datamodule

    def for_epoch(self, epoch: int) -> TensorSource:
        """The sequences of this epoch, a function of (seed, epoch)."""
        return TensorSource(self.datamodule.drawn("train", len(self), epoch), self.labels)


class MarkovSource(SequenceDataModule):
    """Stationary sequences of a random Markov chain of order k: p(x_t | x_<t) = P[x_{t-k}, ..., x_{t-1}, x_t].

    Each row of P is drawn from a symmetric Dirichlet distribution; both depend on ``seed``. Sequences begin in the
    stationary law. Examples are int64 (N, T) beside their lengths, all T.

    Entropies are in nats: ``spec.entropy_rate`` is h = sum over contexts c of pi(c) H(P[c]), the floor of the loss of
    every token but the first k; ``entropy`` is the whole sequence's, H(pi) + (T - k) h, below which no model's mean
    loss lies.

    Args:
        num_symbols: Symbols, at least 2.
        order: Symbols k that the next one depends on, at least 1.
        length: Tokens T of a sequence, at least ``order``.
        concentration: Parameter of the Dirichlet distribution: the smaller, the more predictable the chain.
        batch_size: Sequences per process and batch.
        train_size: Sequences of an epoch.
        val_size: Sequences for validation.
        test_size: Sequences for testing.
        fresh: Draw new training sequences for every epoch, instead of one fixed set.
        seed: Seed of chain, sequences and order.

    Raises:
        ValueError: If an argument is out of range.
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
            self.stationary = stationary_law(self.transitions)
        except torch.linalg.LinAlgError as error:
            raise ValueError(
                f"concentration={concentration} makes a chain that never leaves a part of its contexts (in float64) "
                "and so has no one stationary law: take a larger one."
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
        """The log-probability of sequences under the chain itself, nats, float64 (N,).

        Args:
            x: int64 (N, T), T at least ``order``.
        """
        contexts = contexts_of(x, self.order, self.transitions.shape[1])
        steps = self.transitions[contexts[:, :-1], x[:, self.order :]].log()
        return self.stationary[contexts[:, 0]].log() + steps.sum(1)

    def drawn(self, split: str, num_sequences: int, epoch: int = 0) -> Tensor:
        """The sequences of a split, int64 (N, T), a function of (seed, split, epoch)."""
        generator = seeded(DRAWS, self.seed, SPLITS.index(split), epoch)
        num_contexts, num_symbols = self.transitions.shape
        uniform = torch.rand(num_sequences, self.length - self.order + 1, dtype=torch.float64, generator=generator)
        context = torch.searchsorted(self.stationary.cumsum(0), uniform[:, 0].contiguous()).clamp_(max=num_contexts - 1)
        powers = num_symbols ** torch.arange(self.order - 1, -1, -1)
        symbols = [*(context[:, None] // powers % num_symbols).unbind(1)]
        cumulative = self.transitions.cumsum(1)
        for draw in uniform[:, 1:].unbind(1):
            symbol = (cumulative[context] < draw[:, None]).sum(1).clamp_(max=num_symbols - 1)
            context = (context * num_symbols + symbol) % num_contexts
            symbols.append(symbol)
        return torch.stack(symbols, 1)

    def read(self) -> dict[str, Source]:
        """Draws the splits."""
        sources = {
            split: TensorSource(self.drawn(split, size), torch.full((size,), self.length))
            for split, size in self.sizes.items()
        }
        if self.fresh:
            sources["train"] = FreshChains(sources["train"].data, sources["train"].labels, self)
        return cast(dict[str, Source], sources)


def random_transitions(num_symbols: int, order: int, concentration: float, seed: int) -> Tensor:
    """Rows from a symmetric Dirichlet distribution, float64 (num_symbols ** order, num_symbols)."""
    shape = (num_symbols**order, num_symbols)
    generator = seeded(SPLIT, seed)
    # Log of a gamma variate of small shape a: log G(a) = log G(a + 1) + log(U) / a, which does not underflow.
    gamma = torch._standard_gamma(torch.full(shape, concentration + 1, dtype=torch.float64), generator=generator)
    uniform = torch.rand(shape, dtype=torch.float64, generator=generator).clamp_(min=1e-300)
    return (gamma.log() + uniform.log() / concentration).softmax(1)


def stationary_law(transitions: Tensor) -> Tensor:
    """The stationary probabilities of the contexts of a chain, float64 (num_contexts,).

    Args:
        transitions: Shape (S ** k, S): probabilities of the next symbol, contexts in order of (x_{t-k}, ..., x_{t-1}).

    Raises:
        torch.linalg.LinAlgError: If it is not unique.
    """
    num_contexts, num_symbols = transitions.shape
    contexts = torch.arange(num_contexts)
    following = (contexts[:, None] * num_symbols + torch.arange(num_symbols)) % num_contexts
    matrix = torch.zeros(num_contexts, num_contexts, dtype=torch.float64)
    matrix.scatter_add_(1, following, transitions)
    # pi (M - 1) = 0 together with sum(pi) = 1, of which one equation too many is dropped.
    system = (matrix - torch.eye(num_contexts, dtype=torch.float64)).T
    system[-1] = 1.0
    unit = torch.zeros(num_contexts, dtype=torch.float64)
    unit[-1] = 1.0
    law = torch.linalg.solve(system, unit).clamp_(min=0.0)
    return law / law.sum()


def contexts_of(x: Tensor, order: int, num_symbols: int) -> Tensor:
    """The index of every ``order`` symbols in a row, (N, T - order + 1)."""
    powers = num_symbols ** torch.arange(order - 1, -1, -1)
    return (x.unfold(1, order, 1) * powers).sum(2)
