"""The penalised critic: its slope on lines between the two sides, and all modes of a ring."""

import pytest
import torch
from torch import Tensor

from datamodules import Ring
from lightning_modules import WGANGP, ComposedGAN
from lightning_modules.metrics.modes import mode_coverage
from lightning_modules.parts.noise import Noise
from tests.adversarial.games import POINTS, fit


def test_trained_critic_has_slope_one_on_the_line_between_two_points() -> None:
    """Between two deltas the optimal critic is linear with slope 1 along the line (section 3 of the paper)."""
    torch.manual_seed(0)
    module = WGANGP(**{**POINTS, "width": 16}, penalty_weight=10.0)
    critic = module.discriminator
    optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.0, 0.9))
    real, fake = torch.tensor([[1.0, 0.5]]).repeat(64, 1), torch.tensor([[-1.0, 0.0]]).repeat(64, 1)
    module.generator.forward = lambda z, condition=None: fake
    for step in range(600):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - step / 600)
        optimizer.zero_grad()
        losses, penalties = module.discriminator_losses(real, None, step)
        (losses["discriminator"] + penalties["gradient_penalty"]).backward()
        optimizer.step()
    t = torch.linspace(0.05, 0.95, 50)[:, None]
    x = torch.lerp(fake[:1], real[:1], t).requires_grad_()
    (slope,) = torch.autograd.grad(critic(x).sum(), x)
    # The game's own pull leaves the slope 1 + 1 / (2 * penalty_weight) * distance at the optimum.
    expected = 1 + (real[0] - fake[0]).norm().item() / 20
    assert slope.norm(dim=1).mean().item() == pytest.approx(expected, abs=0.05)
    assert slope.norm(dim=1).std() < 0.05


def test_penalty_weight_scales_the_penalty_and_nothing_else() -> None:
    values = []
    for weight in (1.0, 7.0):
        torch.manual_seed(0)
        module = WGANGP(**POINTS, penalty_weight=weight)
        torch.manual_seed(1)
        losses, penalties = module.discriminator_losses(torch.randn(8, 2), None, 0)
        values.append((losses["discriminator"].item(), penalties["gradient_penalty"].item()))
    assert values[0][0] == values[1][0]
    assert values[1][1] == pytest.approx(7 * values[0][1])
    with pytest.raises(ValueError, match="penalty_weight=-1"):
        WGANGP(penalty_weight=-1.0)


class Halfway(Noise):
    """Takes the middle of every segment, and the class 0 for every fake."""

    def uniform(self, *shape: int, device: torch.device) -> Tensor:
        return torch.full(shape, 0.5, device=device)

    def categorical(self, probabilities: Tensor, num: int) -> Tensor:
        return torch.zeros(num, dtype=torch.long)


@pytest.mark.parametrize(("penalty", "at_real"), [("gradient_penalty", 0.5), ("r1", 1.0)])
def test_conditional_penalty_sees_each_point_with_the_label_of_its_real_example(penalty: str, at_real: float) -> None:
    """f(x, y) = (y + 1) |x|^2 / 2 has the slope (y + 1) |x|, which no other order of the labels gives."""
    module = ComposedGAN(**POINTS, num_classes=3, game="wasserstein", penalties={penalty: 1.0})
    module.noise = Halfway()
    module.generator.forward = lambda z, condition=None: torch.zeros(len(z), 2)
    module.discriminator.forward = lambda x, condition: (condition + 1) * x.square().sum(1) / 2
    real = torch.randn(6, 2)
    labels = torch.tensor([0, 2, 1, 1, 0, 2])

    def expected(order: Tensor) -> float:
        slope = (order + 1) * at_real * real.norm(dim=1)
        squares = (slope - 1).square() if penalty == "gradient_penalty" else slope.square() / 2
        return squares.mean().item()

    _, penalties = module.discriminator_losses(real, labels, 0)
    assert penalties[penalty].item() == pytest.approx(expected(labels), rel=1e-5)
    for other in (labels.flip(0), labels.roll(1), labels.sort()[0], torch.zeros_like(labels)):
        assert expected(other) != pytest.approx(expected(labels), rel=1e-2)


@pytest.mark.slow
def test_ring_has_eight_modes_in_fair_shares() -> None:
    """The budget and bounds of the reference run: 1 500 generator steps, 3x128 units, batch 256."""
    torch.manual_seed(0)
    data = Ring(batch_size=256, fresh=True)
    module = WGANGP.for_data(data.spec, latent_dim=2, width=32, penalty_weight=0.1, lr=5e-4)
    fit(module, 7500, data=data, num_sanity_val_steps=0)
    samples = module.sample(2500, generator=torch.Generator().manual_seed(0))
    assert data.spec.mode_scale is not None
    coverage = mode_coverage(samples, torch.tensor(data.spec.modes), data.spec.mode_scale)
    assert coverage.modes == 8
    assert coverage.kl < 0.02
