"""The two games of 2014 inside the loop: where one stalls, the other continues to learn."""

import torch
from torch import Tensor

from lightning_modules import MinimaxGAN, NonSaturatingGAN
from tests.adversarial.games import POINTS, all_terms


def generator_gradient(method: type[MinimaxGAN] | type[NonSaturatingGAN], logit: float) -> float:
    """Norm of the generator's gradient against a discriminator that gives every fake the same logit, and a slope."""
    torch.manual_seed(0)
    module = method(**{**POINTS, "latent_dim": 3})

    def sure(x: Tensor, condition: Tensor | None = None) -> Tensor:
        return x.sum(1) - x.sum(1).detach() + logit

    module.discriminator.forward = sure
    losses, _ = module.generator_losses(torch.randn(64, 2), None, 0)
    losses["generator"].backward()
    return torch.stack([p.grad.norm() for p in module.generator.parameters() if p.grad is not None]).norm().item()


def test_minimax_gradient_vanishes_against_a_sure_discriminator_and_the_heuristic_stays() -> None:
    minimax, heuristic = (
        generator_gradient(method, -10.0) / generator_gradient(method, 0.0) for method in (MinimaxGAN, NonSaturatingGAN)
    )
    assert minimax < 1e-3  # D(G(z)) = 4.5e-5, against 1/2
    assert 1.9 < heuristic < 2.1  # 1 - D: 1 against 1/2


def test_they_differ_in_the_generator_alone() -> None:
    terms = []
    for method in (MinimaxGAN, NonSaturatingGAN):
        torch.manual_seed(0)
        module = method(**{**POINTS, "latent_dim": 3})
        torch.manual_seed(1)
        terms.append(all_terms(module, torch.randn(16, 2)))
    minimax, heuristic = terms
    assert minimax["discriminator"].item() == heuristic["discriminator"].item()
    assert minimax["generator"].item() < 0 < heuristic["generator"].item()
