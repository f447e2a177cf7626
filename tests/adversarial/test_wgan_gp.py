"""The penalised critic: its slope on lines between the two sides, and all modes of a ring."""

import pytest
import torch
from lightning.pytorch import Trainer

from datamodules import Ring
from lightning_modules import WGANGP
from lightning_modules.parts.mode_coverage import mode_coverage


def test_trained_critic_has_slope_one_on_the_line_between_two_points() -> None:
    """Between two deltas the optimal critic is linear with slope 1 along the line (section 3 of the paper)."""
    torch.manual_seed(0)
    module = WGANGP(shape=[2], architecture="mlp", latent_dim=2, width=16, penalty_weight=10.0)
    critic = module.discriminator
    optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.0, 0.9))
    real, fake = torch.tensor([[1.0, 0.5]]).repeat(64, 1), torch.tensor([[-1.0, 0.0]]).repeat(64, 1)
    module.generator.forward = lambda z, labels=None: fake  # type: ignore[method-assign]
    for step in range(600):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - step / 600)
        optimizer.zero_grad()
        losses, penalties = module.discriminator_losses(real, None)
        assert penalties is not None
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
        module = WGANGP(shape=[2], architecture="mlp", latent_dim=2, width=2, penalty_weight=weight)
        torch.manual_seed(1)
        losses, penalties = module.discriminator_losses(torch.randn(8, 2), None)
        assert penalties is not None
        values.append((losses["discriminator"].item(), penalties["gradient_penalty"].item()))
    assert values[0][0] == values[1][0]
    assert values[1][1] == pytest.approx(7 * values[0][1])
    with pytest.raises(ValueError, match="penalty_weight=-1"):
        WGANGP(penalty_weight=-1.0)


@pytest.mark.slow
def test_ring_has_eight_modes_in_fair_shares() -> None:
    """The budget and bounds of the reference run: 1 500 generator steps, 3x128 units, batch 256."""
    torch.manual_seed(0)
    data = Ring(batch_size=256, fresh=True)
    module = WGANGP.for_data(data.spec, latent_dim=2, width=32, penalty_weight=0.1, lr=5e-4)
    Trainer(
        accelerator="cpu",
        max_steps=7500,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
    ).fit(module, data)
    samples = module.sample(2500, generator=torch.Generator().manual_seed(0))
    coverage = mode_coverage(samples, torch.tensor(data.spec.modes), data.spec.mode_scale)
    assert coverage.modes == 8
    assert coverage.kl < 0.02
