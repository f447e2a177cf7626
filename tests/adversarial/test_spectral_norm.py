"""The spectrally normalised discriminator as a whole: bounded slope in training, gradients that stay."""

import pytest
import torch

from lightning_modules import SNGAN
from tests.adversarial.games import POINTS


def test_discriminator_is_lipschitz_at_random_points() -> None:
    torch.manual_seed(0)
    critic = SNGAN(**{**POINTS, "width": 4}).discriminator.double()
    with torch.no_grad():
        for _ in range(150):
            critic(torch.zeros(1, 2, dtype=torch.float64))
    critic.eval()
    x = (10 * torch.randn(1000, 2, dtype=torch.float64)).requires_grad_()
    (slope,) = torch.autograd.grad(critic(x).sum(), x)
    assert slope.norm(dim=1).max() <= 1 + 1e-3


def test_games_are_the_two_of_the_paper() -> None:
    hinge, heuristic = SNGAN(width=2), SNGAN(width=2, game="non_saturating")
    sure = torch.tensor([5.0])
    assert hinge.game.discriminator(sure, -sure) == 0
    assert heuristic.game.discriminator(sure, -sure) > 0
    with pytest.raises(ValueError, match="game='wasserstein'.*hinge, non_saturating"):
        SNGAN(game="wasserstein")


def test_only_the_discriminator_is_normalised() -> None:
    module = SNGAN(width=2, num_classes=3)
    names = [name for name, _ in module.named_parameters() if "parametrizations" in name]
    assert names
    assert all(name.startswith("discriminator.") for name in names)
    assert any("embedding" in name for name in names)
