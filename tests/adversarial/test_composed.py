"""Parts by name: any combination trains, and equals the named method where there is one."""

from typing import Any

import pytest
import torch

from lightning_modules import SNGAN, WGANGP, ComposedGAN
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.parts.games import GAMES
from lightning_modules.parts.penalties import PENALTIES
from tests.adversarial.games import POINTS, all_terms


def losses(module: AdversarialModule) -> dict[str, float]:
    torch.manual_seed(1)
    return {name: value.item() for name, value in all_terms(module, torch.randn(8, 2)).items()}


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
    assert {"discriminator", "generator"} <= losses(first).keys()


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("penalty", [None, *PENALTIES])
@pytest.mark.parametrize("constraint", [{}, {"spectral_norm": True}, {"weight_clip": 0.1}])
def test_every_combination_has_finite_losses_and_gradients(game: str, penalty: str | None, constraint: Any) -> None:
    module = ComposedGAN(**POINTS, game=game, penalties={penalty: 0.5} if penalty else None, **constraint)
    terms, penalties = module.discriminator_losses(torch.randn(8, 2), None, 0)
    torch.stack([*terms.values(), *penalties.values()]).sum().backward()
    gradients = {name: p.grad for name, p in module.discriminator.named_parameters()}
    assert [name for name, value in gradients.items() if value is None or not value.isfinite().all()] == []
    assert list(penalties) == ([] if penalty is None else [penalty])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"game": "zero_sum"}, "game='zero_sum'.*minimax, non_saturating, wasserstein, hinge"),
        ({"penalties": {"r2": 1.0}}, "penalties.*r2.*gradient_penalty, r1"),
        ({"penalties": {"r1": -1.0}}, r"r1.*-1\.0"),
        ({"weight_clip": 0.1, "spectral_norm": True}, r"weight_clip=0\.1.*spectral_norm"),
        ({"weight_clip": 0.0}, r"weight_clip=0\.0"),
    ],
)
def test_contradictions_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ComposedGAN(**POINTS, **settings)
