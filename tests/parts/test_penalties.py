"""Penalties against closed forms of a linear and a quadratic critic, and their second derivatives."""

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.parts.conditions import Conditioned
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.penalties import (
    PENALTIES,
    WeightedTerm,
    gradient_norm,
    gradient_penalty,
    on_segment,
    r1,
    r2,
    roth,
    weighted_terms,
)


@pytest.mark.parametrize("shape", [(2,), (1, 4, 4), (3, 2, 2)])
@pytest.mark.parametrize("num", [1, 16])
def test_linear_critic_has_the_closed_form_at_any_batch_size(shape: tuple[int, ...], num: int) -> None:
    real, fake = torch.randn(2, num, *shape, dtype=torch.float64)
    w = torch.randn(real[0].numel(), dtype=torch.float64)
    torch.testing.assert_close(gradient_penalty(lambda x: x.flatten(1) @ w, real, fake, Noise()), (w.norm() - 1) ** 2)
    for zero_centred in (r1, r2):
        value = zero_centred(lambda x: x.flatten(1) @ w, real, fake, Noise())
        torch.testing.assert_close(value, w.square().sum() / 2)


class Labelled(nn.Module):
    """(y + 1) |x|^2 / 2, whose gradient is (y + 1) x."""

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return (condition + 1) * x.square().sum(1) / 2


def test_points_of_each_side_are_judged_with_their_own_labels() -> None:
    real, fake = torch.randn(2, 4, 3, dtype=torch.float64)
    labels, fake_labels = torch.tensor([0, 1, 2, 0]), torch.tensor([2, 2, 0, 1])
    critic = Conditioned(Labelled(), labels, fake_labels)
    slopes = ((labels + 1) * real.norm(dim=1)).square(), ((fake_labels + 1) * fake.norm(dim=1)).square()
    torch.testing.assert_close(r1(critic, real, fake, Noise()), slopes[0].mean() / 2)
    torch.testing.assert_close(r2(critic, real, fake, Noise()), slopes[1].mean() / 2)
    logits = (labels + 1) * real.square().sum(1) / 2, (fake_labels + 1) * fake.square().sum(1) / 2
    weights = (1 - logits[0].sigmoid()).square(), logits[1].sigmoid().square()
    expected = sum((w * s).mean() for w, s in zip(weights, slopes, strict=True)) / 2
    torch.testing.assert_close(roth(critic, real, fake, Noise()), expected)


def test_gradient_norm_is_per_example() -> None:
    x = torch.randn(6, 3, dtype=torch.float64)
    torch.testing.assert_close(gradient_norm(lambda x: x.square().sum(1) / 2, x), x.norm(dim=1))


def test_segment_points_lie_between_their_own_pair() -> None:
    real, fake = torch.randn(2, 1000, 2)
    point = on_segment(real, fake, Noise())
    t = (point - real) / (fake - real)
    torch.testing.assert_close(t[:, 0], t[:, 1], rtol=1e-2, atol=1e-2)
    assert t.min() > -1e-3
    assert t.max() < 1 + 1e-3
    assert t[:, 0].std() > 0.25  # one t per example, not one per batch; uniform has 0.289, this is 9 s.e. below


def test_zero_gradient_has_finite_second_derivatives() -> None:
    w = torch.zeros(3, requires_grad=True)
    real, fake = torch.randn(2, 4, 3)
    gradient_penalty(lambda x: x @ w, real, fake, Noise()).backward()
    assert w.grad is not None
    assert torch.isfinite(w.grad).all()


@pytest.mark.parametrize("name", PENALTIES)
def test_weight_gradient_matches_finite_differences(name: str) -> None:
    first = nn.Linear(3, 5)
    critic = nn.Sequential(first, nn.Tanh(), nn.Linear(5, 1)).double()
    real, fake = torch.randn(2, 7, 3, dtype=torch.float64)

    class Fixed(Noise):
        def uniform(self, *shape: int, device: torch.device) -> Tensor:
            return torch.full(shape, 0.3, dtype=torch.float64)

    def value() -> Tensor:
        return PENALTIES[name](lambda x: critic(x).squeeze(1), real, fake, Fixed())

    weight = first.weight
    (analytic,) = torch.autograd.grad(value(), weight)
    step = 1e-6
    with torch.no_grad():
        weight[1, 2] += step
    above = value().item()
    with torch.no_grad():
        weight[1, 2] -= 2 * step
    below = value().item()
    assert (above - below) / (2 * step) == pytest.approx(analytic[1, 2].item(), rel=1e-5)


def test_a_lazy_penalty_has_the_same_mean_weight() -> None:
    """Every third batch, the last of each three, with three times the weight, which may change from batch to batch."""
    always, lazy = WeightedTerm(2.0, r1), WeightedTerm(2.0, r1, every=3)
    assert [always.weight_at(step) for step in range(4)] == [2.0] * 4
    assert [lazy.weight_at(step) for step in range(7)] == [0, 0, 6, 0, 0, 6, 0]
    growing = WeightedTerm(float, r1, every=2)
    assert [growing.weight_at(step) for step in range(5)] == [0, 2, 0, 6, 0]


def test_penalties_are_given_with_their_weights_alone_or_as_terms() -> None:
    term = WeightedTerm(1.0, r1, every=16)
    assert weighted_terms({"r1": (0.5, r1), "lazy": term}) == {"r1": WeightedTerm(0.5, r1, 1), "lazy": term}
    assert weighted_terms(None) == {}
    for weight, every in ((-0.1, 1), (1.0, 0), (float("nan"), 1), (float("inf"), 1)):
        with pytest.raises(ValueError, match=f"r1.*weight={weight}.*every={every}"):
            weighted_terms({"r1": WeightedTerm(weight, r1, every)})
