"""Divergences of sequences against hand counts, closed forms and slow loops."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from lightning_modules.metrics.image import frechet_distance, moments
from lightning_modules.metrics.sequence import (
    PADDING,
    Curve,
    divergence_curve,
    gaussian_divergence,
    jensen_shannon,
    joint_ngrams,
    leading_components,
    nats_in_windows,
    ngram_divergence,
    share_seen,
    shares_seen,
    total_variation,
)


def symbols(*shape: int, size: int = 5, seed: int = 0) -> Tensor:
    return torch.randint(size, shape, generator=torch.Generator().manual_seed(seed))


def counted(x: Tensor, n: int) -> Counter:
    """n-grams by a loop over tuples."""
    rows = x.tolist()
    return Counter(gram for row in rows for gram in zip(*(row[k:] for k in range(n)), strict=False) if min(gram) >= 0)


def test_jensen_shannon_is_its_definition() -> None:
    # (1, 0) against (1/2, 1/2): the mean is (3/4, 1/4), and both terms by hand.
    by_hand = (math.log(1 / 0.75) + 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)) / 2
    assert jensen_shannon(torch.tensor([7, 0]), torch.tensor([3, 3])) == pytest.approx(by_hand, rel=1e-12)
    p, q = torch.rand(2, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p.numpy(), q.numpy()) ** 2, rel=1e-9)
    assert jensen_shannon(p, 3 * p) == 0
    assert jensen_shannon(torch.tensor([1, 0]), torch.tensor([0, 1])) == pytest.approx(math.log(2), rel=1e-12)
    assert total_variation(torch.tensor([3, 1, 0]), torch.tensor([0, 1, 1])) == pytest.approx(0.75)
    for wrong in (torch.tensor([1, -1]), torch.zeros(2), torch.ones(3)):
        with pytest.raises(ValueError, match=r"\(\d,\).*\(2,\)"):
            jensen_shannon(wrong, torch.ones(2))


@pytest.mark.parametrize("n", [1, 2, 4, 30])
def test_ngrams_are_those_of_a_loop(n: int) -> None:
    x, y = symbols(6, 40), symbols(3, 50, seed=1)
    x[2, 35:] = -1  # a sequence that has ended
    x[3, 20:] = -1
    own, other = joint_ngrams((x, y), n)
    for codes, record in ((own, x), (other, y)):
        assert sorted(Counter(codes.tolist()).values()) == sorted(counted(record, n).values())
    p, q = counted(x, n), counted(y, n)
    every = sorted(p | q)
    distributions = [np.array([counts[gram] for gram in every]) / counts.total() for counts in (p, q)]
    assert ngram_divergence(x, y, n) == pytest.approx(jensenshannon(*distributions) ** 2, rel=1e-9)
    shared = sum(count for gram, count in p.items() if gram in q) / p.total()
    assert share_seen(x, y, n) == pytest.approx(shared)


def test_the_share_of_each_sequence_alone() -> None:
    x, y = symbols(4, 12, size=3), symbols(3, 30, size=3, seed=1)
    x[1, 7:], x[2, 2:] = PADDING, PADDING
    shares = shares_seen(x, y, 4)
    lengths = [12, 7, 2, 12]
    alone = [share_seen(x[i : i + 1, : lengths[i]], y, 4) for i in (0, 1, 3)]
    assert shares[[0, 1, 3]].tolist() == pytest.approx(alone)
    assert shares[2].isnan(), "it is shorter than a 4-gram"
    assert 0 < shares[0] < 1


def test_long_ngrams_do_not_overflow() -> None:
    x = symbols(2, 300, size=60_000)
    y = x.clone()
    y[0, 250] += 1
    assert share_seen(x, x, 200) == 1
    assert share_seen(y, x, 200) == pytest.approx((101 + 101 - 50) / 202)  # 51 places of 101 hold the changed symbol
    assert ngram_divergence(symbols(1, 9), 5 + symbols(1, 9), 3) == pytest.approx(math.log(2))


def test_what_holds_no_ngram_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\).*4-gram"):
        ngram_divergence(symbols(2, 3), symbols(2, 9), 4)
    with pytest.raises(ValueError, match="3-gram"):
        joint_ngrams([torch.tensor([[1, 2, -1, -1]])], 3)
    with pytest.raises(ValueError, match="n=0"):
        joint_ngrams([symbols(1, 3)], 0)


def test_a_curve_compares_disjoint_halves_window_by_window() -> None:
    real, free = symbols(6, 11).double(), symbols(6, 11, seed=1).double()
    seen = []

    def distance(x: Tensor, y: Tensor) -> float:
        seen.append((x, y))
        return float((x.mean() - y.mean()).abs())

    curve = divergence_curve(distance, real, free, window=4)
    assert curve.starts.tolist() == [0, 4]  # steps 8 to 10 make no window
    for index, start in enumerate((0, 4)):
        part = slice(start, start + 4)
        a, b = real[0::2, part].mean(), real[1::2, part].mean()
        free_a, free_b = free[0::2, part].mean(), free[1::2, part].mean()
        assert curve.values[index] == pytest.approx(((free_a - b).abs() + (free_b - a).abs()).item() / 2)
        assert curve.floor[index] == pytest.approx((a - b).abs().item())
    assert torch.equal(curve.excess, curve.values - curve.floor)
    assert all(x.shape == y.shape == (3, 4) for x, y in seen)
    assert isinstance(curve, Curve)
    assert divergence_curve(distance, real, real, 4).excess.abs().max() == 0
    with pytest.raises(ValueError, match="window=12"):
        divergence_curve(distance, real, free, 12)
    with pytest.raises(ValueError, match=r"\(5, 11\)"):
        divergence_curve(distance, real[:5], free[:5], 4)


def test_components_are_the_leading_ones_and_have_unit_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 10, 6, generator=generator) * torch.tensor([0.1, 5.0, 0.2, 2.0, 0.1, 1.0]) + 3
    components = leading_components(features.split(7), 3)
    rows = features.flatten(0, 1).double()
    _, singular, _ = torch.linalg.svd(rows - rows.mean(0))
    expected = singular[:3].square() / singular[:3].square().sum()
    projected = components.project(features).flatten(0, 1)
    assert projected.mean(0).abs().max() < 1e-9
    torch.testing.assert_close(projected.var(0, correction=0).sort(descending=True).values, expected)
    for value in (1.0, torch.nan):
        with pytest.raises(ValueError, match="features"):
            leading_components([torch.full((3, 4), value)], 2)
    with pytest.raises(ValueError, match="num=0"):
        leading_components([features], 0)


def test_features_diverge_by_the_frechet_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 20, 10, 4, generator=generator, dtype=torch.float64)
    assert gaussian_divergence(x, x) == pytest.approx(0, abs=1e-9)
    assert gaussian_divergence(x, x + torch.tensor([0.0, 3.0, 0.0, 4.0])) == pytest.approx(25, abs=1e-9)
    expected = frechet_distance(*moments(x.reshape(-1, 4)), *moments(y.reshape(-1, 4)))
    assert gaussian_divergence(x, y) == pytest.approx(expected)


def test_windows_are_nano_gpts() -> None:
    """Against a loop as nanoGPT writes it: x = data[i : i + w] predicts y = data[i + 1 : i + 1 + w]."""
    record, weights = symbols(45), torch.randn(5, 5, generator=torch.Generator().manual_seed(0)).log_softmax(1)

    def log_prob_of_next(x: Tensor) -> Tensor:  # of every next symbol, by the steps of the window that were read
        return (weights[x].cumsum(1) / 3).log_softmax(2)

    def step_log_prob(x: Tensor) -> Tensor:
        first = torch.full((len(x), 1), -99.0)  # of the step that is context only
        return torch.cat([first, log_prob_of_next(x[:, :-1]).gather(2, x[:, 1:, None])[..., 0]], 1)

    losses = []
    for i in range(0, 45 - 8, 8):
        x, y = record[i : i + 8], record[i + 1 : i + 9]
        losses += torch.nn.functional.nll_loss(log_prob_of_next(x[None])[0], y, reduction="none").tolist()
    assert len(losses) == 5 * 8
    for chunk in (1, 3, 64):
        value = nats_in_windows(step_log_prob, record, 8, chunk)
        assert value == pytest.approx(sum(losses) / len(losses), rel=1e-6)
    with pytest.raises(ValueError, match="window=45.* 46 "):
        nats_in_windows(step_log_prob, record, 45)
