"""The least-squares game against its theorem: the best discriminator, and a pull on the generator that never ends."""

import pytest
import torch

from lightning_modules import LSGAN
from lightning_modules.parts.games import LEAST_SQUARES
from tests.adversarial.games import POINTS

P, Q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)


def on_counts(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns outputs on batches of ten in which three points occur as often as under P and Q."""
    real, fake = (values.repeat_interleave((10 * shares).round().long()) for shares in (P, Q))
    return real, fake


def test_the_best_discriminator_is_the_posterior() -> None:
    """Least squares towards 1 on P and 0 on Q: D* = p / (p + q), eq. 5 of the paper."""
    best = (P / (P + Q)).requires_grad_()
    (slope,) = torch.autograd.grad(LEAST_SQUARES.discriminator(*on_counts(best)), best)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-12, rtol=0.0)
    least = LEAST_SQUARES.discriminator(*on_counts(best)).item()
    # The least value is E over both of the posterior's variance: sum p q / (p + q) / 2.
    assert least == pytest.approx((P * Q / (P + Q)).sum().item() / 2)
    for other in (best.detach() + 0.05, best.detach() * 0.9, torch.full_like(P, 0.5)):
        assert LEAST_SQUARES.discriminator(*on_counts(other)).item() > least


def test_the_generator_is_drawn_in_by_the_distance_to_one_however_far() -> None:
    outputs = torch.tensor([-8.0, 0.0, 1.0, 3.0], requires_grad=True)
    (slope,) = torch.autograd.grad(4 * LEAST_SQUARES.generator(outputs), outputs)
    torch.testing.assert_close(slope, torch.tensor([-9.0, -1.0, 0.0, 2.0]))


def test_the_method_plays_this_game() -> None:
    module = LSGAN(**POINTS)
    assert module.game is LEAST_SQUARES
    assert (module.penalties, module.generator_penalties) == ({}, {})
