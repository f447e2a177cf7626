"""The Markov source against enumeration: its distribution, its entropy, and its samples."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from datamodules import MarkovSource
from datamodules.sequences.markov import contexts_of
from tests.datamodules.loaders import held_out

CHAINS = [(2, 1), (2, 3), (3, 2), (5, 1)]


def chain(num_symbols: int, order: int, length: int = 12, **settings: float) -> MarkovSource:
    sizes = {"train_size": 256, "val_size": 64, "test_size": 4096, "batch_size": 64}
    return MarkovSource(num_symbols, order, length, **{**sizes, **settings})  # type: ignore[arg-type]


def every_sequence(num_symbols: int, length: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(num_symbols), repeat=length)))


def by_hand(data: MarkovSource, sequence: list[int]) -> float:
    """Returns the probability of a sequence, multiplied one factor at a time."""
    order, size = data.order, data.transitions.shape[1]

    def index(symbols: list[int]) -> int:
        return sum(symbol * size**i for i, symbol in enumerate(reversed(symbols)))

    probability = data.stationary[index(sequence[:order])].item()
    for t in range(order, len(sequence)):
        probability *= data.transitions[index(sequence[t - order : t]), sequence[t]].item()
    return probability


@pytest.mark.parametrize(("num_symbols", "order"), CHAINS)
def test_probabilities_sum_to_one_and_are_products(num_symbols: int, order: int) -> None:
    data = chain(num_symbols, order)
    torch.testing.assert_close(data.transitions.sum(1), torch.ones(num_symbols**order, dtype=torch.float64))
    for length in (order, order + 2):
        every = every_sequence(num_symbols, length)
        assert data.log_prob(every).exp().sum().item() == pytest.approx(1, abs=1e-12)
        hand = torch.tensor([by_hand(data, sequence) for sequence in every.tolist()], dtype=torch.float64)
        torch.testing.assert_close(data.log_prob(every), hand.log())


@pytest.mark.parametrize(("num_symbols", "order"), CHAINS)
def test_the_entropy_rate_is_the_growth_of_the_entropies_of_blocks(num_symbols: int, order: int) -> None:
    data = chain(num_symbols, order, length=order + 3)

    def block_entropy(length: int) -> float:
        log_prob = data.log_prob(every_sequence(num_symbols, length))
        return -(log_prob.exp() * log_prob).sum().item()

    entropies = [block_entropy(order + i) for i in range(4)]
    for before, after in itertools.pairwise(entropies):
        assert after - before == pytest.approx(data.spec.entropy_rate, abs=1e-12)
    assert data.entropy == pytest.approx(entropies[3], abs=1e-12)


@pytest.mark.parametrize(("num_symbols", "order"), CHAINS)
def test_the_distribution_of_a_block_is_the_same_at_every_place(num_symbols: int, order: int) -> None:
    data = chain(num_symbols, order)
    every = every_sequence(num_symbols, order + 1)
    probability = data.log_prob(every).exp().view(-1, num_symbols)
    torch.testing.assert_close(probability.sum(1), data.stationary)
    late = data.log_prob(every).exp().view(num_symbols, -1).sum(0)  # of x_2 .. x_{k+1}
    torch.testing.assert_close(late, data.stationary)


@pytest.mark.parametrize(("num_symbols", "order"), CHAINS)
def test_samples_have_the_stated_entropy(num_symbols: int, order: int) -> None:
    """The mean of -log p over 4 096 sequences is within 5 standard errors of the entropy; false alarms below 1e-6."""
    data = chain(num_symbols, order)
    x, lengths = data.sequences("test")
    nll = -data.log_prob(x)
    assert lengths.tolist() == [12] * 4096
    assert abs(nll.mean().item() - data.entropy) < 5 * nll.std().item() / math.sqrt(4096)


@pytest.mark.parametrize(("num_symbols", "order"), CHAINS)
def test_samples_have_the_stated_distribution_at_both_ends(num_symbols: int, order: int) -> None:
    """Chi-squared tests of contexts and next symbols, at the start and at the end; false alarms below 1e-6."""
    data = chain(num_symbols, order, test_size=20_000, concentration=1.0)
    x, _ = data.sequences("test")
    expected = 20_000 * data.stationary[:, None] * data.transitions
    for part in (x[:, : order + 1], x[:, -order - 1 :]):
        index = contexts_of(part, order, num_symbols)[:, 0] * num_symbols + part[:, -1]
        observed = index.bincount(minlength=expected.numel()).view_as(expected)
        usual = expected > 5
        statistic = ((observed - expected) ** 2 / expected)[usual].sum().item()
        freedom = int(usual.sum())
        assert statistic < freedom + 5 * math.sqrt(2 * freedom) + 25  # beyond chi2.isf(1e-6) for any freedom


def test_training_sequences_are_fresh_or_fixed_and_a_function_of_the_seed() -> None:
    def epochs(data: MarkovSource) -> list[Tensor]:
        loader = data.train_dataloader()
        return [torch.cat([x for x, _ in loader]) for _ in range(2)]

    def rows(x: Tensor) -> list[list[int]]:
        return sorted(x.tolist())

    fresh, fixed = epochs(chain(4, 2)), epochs(chain(4, 2, fresh=False))
    assert rows(fresh[0]) != rows(fresh[1])
    assert rows(fixed[0]) == rows(fixed[1]) == rows(fresh[0])
    assert not torch.equal(fixed[0], fixed[1])
    assert all(torch.equal(a, b) for a, b in zip(fresh, epochs(chain(4, 2)), strict=True))
    assert rows(epochs(chain(4, 2, seed=1))[0]) != rows(fresh[0])


def test_held_out_sequences_are_fixed_and_belong_to_their_index() -> None:
    data = chain(4, 2)
    assert torch.equal(torch.cat([x for x, _ in held_out(data)]), data.sequences("val")[0])
    assert torch.equal(chain(4, 2, val_size=10).sequences("val")[0], data.sequences("val")[0][:10])
    assert not torch.equal(data.sequences("val")[0], data.sequences("test")[0][:64])
    assert chain(4, 2, val_size=0).val_dataloader() == []


def test_a_sequence_may_be_one_context() -> None:
    data = chain(3, 2, length=2)
    assert data.sequences("val")[0].shape == (64, 2)
    assert data.entropy == pytest.approx(torch.special.entr(data.stationary).sum().item())


def test_the_spec_has_the_entropy_rate() -> None:
    data = chain(4, 2)
    assert (data.spec.kind, data.spec.shape, data.spec.vocabulary) == ("tokens", (12,), ("0", "1", "2", "3"))
    assert data.spec.entropy_rate is not None
    assert 0 < data.spec.entropy_rate < math.log(4)
    predictable = chain(4, 2, concentration=0.05).spec.entropy_rate
    assert predictable is not None
    assert predictable < data.spec.entropy_rate


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_symbols": 1}, r"num_symbols=1\b.*2\.\.100"),
        ({"num_symbols": 101}, "num_symbols=101"),
        ({"order": 0}, "order=0"),
        ({"order": 6}, r"num_symbols=4 .*order=6 .*\b4096 .*\b1024\b"),
        ({"order": 5, "length": 4}, "length=4 .*order=5"),
        ({"concentration": 0.0}, r"concentration=0\.0\b"),
        ({"concentration": math.nan}, "concentration=nan"),
        ({"concentration": 1e-4, "order": 5}, r"concentration=0\.0001\b"),
        ({"train_size": 0}, "train_size=0"),
        ({"val_size": -1}, "val_size=-1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MarkovSource(**arguments)  # type: ignore[arg-type]
