"""Games against calculus: values at the equilibrium, gradients where the discriminator is sure, stability."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.stats import wasserstein_distance
from torch import Tensor

from lightning_modules.parts.games import (
    GAMES,
    HINGE,
    MINIMAX,
    NON_SATURATING,
    WASSERSTEIN,
    Game,
    cross_entropy,
    in_full_precision,
)


def gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    logits = logits.clone().requires_grad_()
    (result,) = torch.autograd.grad(loss(logits), logits)
    return result * len(logits)  # of a single example: losses are means


def test_value_at_the_equilibrium_is_minus_log_four() -> None:
    undecided = torch.zeros(5, dtype=torch.float64)
    for game in (MINIMAX, NON_SATURATING):
        torch.testing.assert_close(
            -game.discriminator(undecided, undecided), torch.tensor(-math.log(4), dtype=torch.float64)
        )


P, Q = (torch.tensor(shares, dtype=torch.float64) for shares in ([0.7, 0.2, 0.1], [0.2, 0.2, 0.6]))


def test_the_supremum_over_discriminators_is_a_divergence_and_its_place_the_posterior() -> None:
    """Eq. 1.37 and 1.34: over all logits of three values V is largest at D = p / (p + q), where it is 2 JS - log 4."""

    def value(logits: Tensor) -> Tensor:
        copies = [logits.repeat_interleave((10 * shares).round().long()) for shares in (P, Q)]
        return -MINIMAX.discriminator(*copies)

    best = (P.log() - Q.log()).requires_grad_()
    torch.testing.assert_close(best.sigmoid().detach(), P / (P + Q))
    middle = (P + Q) / 2
    jensen_shannon = ((P * (P / middle).log()).sum() + (Q * (Q / middle).log()).sum()) / 2
    torch.testing.assert_close(value(best).detach(), 2 * jensen_shannon - math.log(4))
    (slope,) = torch.autograd.grad(value(best), best)
    torch.testing.assert_close(slope, torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    for seed in range(20):
        other = best.detach() + torch.randn(3, generator=torch.Generator().manual_seed(seed))
        assert value(other) < value(best)


def test_the_generator_minimises_the_value_that_the_discriminator_maximises() -> None:
    """Eq. 1.38: a step down the generator's loss lowers V; the text says that it maximises V."""
    real, fake = torch.randn(50, dtype=torch.float64), torch.randn(50, dtype=torch.float64)
    moved = fake - 0.1 * gradient(MINIMAX.generator, fake)
    assert -MINIMAX.discriminator(real, moved) < -MINIMAX.discriminator(real, fake)


def test_the_best_critic_of_slope_one_gives_the_earth_movers_distance() -> None:
    """Eq. 1.41 on a line: a linear programme over all 1-Lipschitz critics against scipy's transport of masses."""
    places = np.array([0.0, 0.4, 1.5])
    steps = np.diff(np.eye(3), axis=0)
    bounds = np.diff(places)
    found = linprog((Q - P).numpy(), np.vstack([steps, -steps]), np.tile(bounds, 2), bounds=(None, None))
    copies = [torch.tensor(found.x).repeat_interleave((10 * shares).round().long()) for shares in (P, Q)]
    distance = wasserstein_distance(places, places, P.numpy(), Q.numpy())
    assert -WASSERSTEIN.discriminator(*copies).item() == pytest.approx(distance, abs=1e-9)
    assert distance > 0.5


def test_cross_entropy_is_that_of_probabilities() -> None:
    """Eq. 1.38 and 1.39."""
    real, fake = torch.randn(100, dtype=torch.float64), torch.randn(100, dtype=torch.float64)
    expected = -(real.sigmoid().log().mean() + (1 - fake.sigmoid()).log().mean())
    torch.testing.assert_close(MINIMAX.discriminator(real, fake), expected)
    torch.testing.assert_close(MINIMAX.generator(fake), (1 - fake.sigmoid()).log().mean())
    torch.testing.assert_close(NON_SATURATING.generator(fake), -fake.sigmoid().log().mean())


def test_minimax_vanishes_where_the_discriminator_is_sure_and_non_saturating_stays_one() -> None:
    """The gradients of eq. 1.38 and 1.39 by the logit."""
    sure_it_is_fake = torch.full((4,), -20.0)
    assert gradient(MINIMAX.generator, sure_it_is_fake).abs().max() < 1e-8
    torch.testing.assert_close(gradient(NON_SATURATING.generator, sure_it_is_fake), -torch.ones(4))


def test_both_generators_agree_in_direction_and_at_the_equilibrium() -> None:
    logits = torch.linspace(-6, 6, 101, dtype=torch.float64)
    saturating, heuristic = gradient(MINIMAX.generator, logits), gradient(NON_SATURATING.generator, logits)
    assert (saturating < 0).all()
    assert (heuristic < 0).all()
    # d/dl log(1 - D) = -D and d/dl -log D = -(1 - D)
    torch.testing.assert_close(saturating, -logits.sigmoid())
    torch.testing.assert_close(heuristic, logits.sigmoid() - 1)


def test_hinge_ignores_what_is_beyond_the_margin() -> None:
    assert HINGE.discriminator(torch.tensor([1.0, 3.0]), torch.tensor([-1.0, -7.0])) == 0
    assert HINGE.discriminator(torch.tensor([0.0]), torch.tensor([0.5])) == 2.5


def test_wasserstein_is_the_difference_of_means() -> None:
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0])
    assert WASSERSTEIN.discriminator(real, fake) == -1.5
    assert WASSERSTEIN.generator(fake) == -0.5


@pytest.mark.parametrize("name", GAMES)
def test_finite_at_extreme_logits(name: str) -> None:
    extreme = torch.tensor([-1e4, 1e4], requires_grad=True)
    game = GAMES[name]
    loss = game.discriminator(extreme, extreme.flip(0)) + game.generator_loss(extreme, extreme.detach().flip(0))
    loss.backward()
    assert torch.isfinite(loss)
    assert extreme.grad is not None
    assert torch.isfinite(extreme.grad).all()


def test_the_generator_of_a_relativistic_game_sees_real_logits_and_that_of_another_does_not() -> None:
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 5.0])
    relativistic = Game(cross_entropy, lambda real, fake: (real - fake).mean(), relativistic=True)
    assert relativistic.generator_loss(fake, real) == -0.5
    assert WASSERSTEIN.generator_loss(fake, None) == WASSERSTEIN.generator_loss(fake, real) == -2.5


def test_the_relativistic_game_is_zero_sum_in_differences_and_ignores_a_shift() -> None:
    """Both losses are of D(x) - D(G(z)) alone, mirror images of each other, and ln 2 each where the two are equal."""
    real, fake = torch.randn(2, 100, dtype=torch.float64)
    game = GAMES["relativistic"]
    torch.testing.assert_close(game.discriminator(real, fake), game.generator_loss(real, fake))
    torch.testing.assert_close(game.discriminator(real + 5, fake + 5), game.discriminator(real, fake))
    assert game.discriminator(real, real).item() == pytest.approx(math.log(2))
    # -log sigma(D(x) - D(G(z))), one pair at a time: it is not the game of all pairs
    torch.testing.assert_close(game.discriminator(real, fake), -(real - fake).sigmoid().log().mean())


def test_half_precision_logits_are_averaged_in_full() -> None:
    """A number in bfloat16 has three digits; the mean of many keeps seven."""
    logits = torch.cat([torch.ones(1), torch.full((4000,), 1 / 256)]).to(torch.bfloat16)
    assert in_full_precision(logits).dtype == torch.float32
    assert in_full_precision(logits).mean().item() == pytest.approx((1 + 4000 / 256) / 4001, rel=1e-6)
    double = torch.zeros(2, dtype=torch.float64)
    assert in_full_precision(double) is double
