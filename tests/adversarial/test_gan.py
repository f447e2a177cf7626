"""The two games of 2014 inside the loop: where one stalls, the other goes on."""

import torch

from lightning_modules import MinimaxGAN, NonSaturatingGAN


def generator_gradient(method: type[MinimaxGAN] | type[NonSaturatingGAN], logit: float) -> float:
    """Norm of the generator's gradient against a discriminator that gives every fake the same logit, and a slope."""
    torch.manual_seed(0)
    module = method(shape=[2], architecture="mlp", latent_dim=3, width=2)

    def sure(x: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        return x.sum(1) - x.sum(1).detach() + logit

    module.discriminator.forward = sure  # type: ignore[method-assign]
    module.generator_losses(64)["generator"].backward()
    return torch.stack([p.grad.norm() for p in module.generator.parameters() if p.grad is not None]).norm().item()


def test_minimax_gradient_vanishes_against_a_sure_discriminator_and_the_heuristic_stays() -> None:
    ratio = {
        method: generator_gradient(method, -10.0) / generator_gradient(method, 0.0)
        for method in (MinimaxGAN, NonSaturatingGAN)
    }
    assert ratio[MinimaxGAN] < 1e-3  # D(G(z)) = 4.5e-5, against 1/2
    assert 1.9 < ratio[NonSaturatingGAN] < 2.1  # 1 - D: 1 against 1/2


def test_they_differ_in_the_generator_alone() -> None:
    losses = []
    for method in (MinimaxGAN, NonSaturatingGAN):
        torch.manual_seed(0)
        module = method(shape=[2], architecture="mlp", latent_dim=3, width=2)
        torch.manual_seed(1)
        critic, _ = module.discriminator_losses(torch.randn(16, 2), None)
        losses.append((critic["discriminator"].item(), module.generator_losses(16)["generator"].item()))
    assert losses[0][0] == losses[1][0]
    assert losses[0][1] < 0 < losses[1][1]
