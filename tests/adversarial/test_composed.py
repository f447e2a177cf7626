"""Parts by name: any combination trains, and equals the named method where there is one."""

from typing import Any

import pytest
import torch

from lightning_modules import SNGAN, WGANGP, ComposedGAN
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.parts.games import GAMES
from lightning_modules.parts.penalties import PENALTIES

POINTS: dict[str, Any] = {"shape": [2], "architecture": "mlp", "latent_dim": 2, "width": 2}


def losses(module: AdversarialModule) -> list[float]:
    torch.manual_seed(1)
    game, penalties = module.discriminator_losses(torch.randn(8, 2), None)
    terms = {**game, **(penalties or {}), **module.generator_losses(8)}
    return [value.item() for value in terms.values()]


@pytest.mark.parametrize(
    ("named", "settings"),
    [
        (WGANGP, {"game": "wasserstein", "penalties": {"gradient_penalty": 10.0}}),
        (SNGAN, {"game": "hinge", "spectral_norm": True}),
    ],
)
def test_equals_the_named_method(named: type[AdversarialModule], settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    first = named(**POINTS)
    torch.manual_seed(0)
    second = ComposedGAN(**POINTS, **settings)
    assert losses(first) == losses(second)


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("penalty", [None, *PENALTIES])
@pytest.mark.parametrize("constraint", [{}, {"spectral_norm": True}, {"clip": 0.1}])
def test_every_combination_has_finite_losses_and_gradients(game: str, penalty: str | None, constraint: Any) -> None:
    module = ComposedGAN(**POINTS, game=game, penalties={penalty: 0.5} if penalty else None, **constraint)
    terms, penalties = module.discriminator_losses(torch.randn(8, 2), None)
    torch.stack([*terms.values(), *(penalties or {}).values()]).sum().backward()
    gradients = {name: p.grad for name, p in module.discriminator.named_parameters()}
    assert [name for name, value in gradients.items() if value is None or not value.isfinite().all()] == []
    assert (penalties is None) == (penalty is None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"game": "zero_sum"}, "minimax, non_saturating, wasserstein, hinge"),
        ({"penalties": {"r2": 1.0}}, "there are gradient_penalty, r1"),
        ({"penalties": {"r1": -1.0}}, "negative"),
        ({"clip": 0.1, "spectral_norm": True}, "without spectral_norm"),
        ({"clip": 0.0}, "clip=0.0"),
    ],
)
def test_contradictions_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ComposedGAN(**POINTS, **settings)
