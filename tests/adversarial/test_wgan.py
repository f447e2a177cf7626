"""The clipped critic: its bound after every step, its schedule, and the order of the distances it reports."""

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import WGAN
from lightning_modules.parts.constraints import clip_weights
from lightning_modules.parts.games import WASSERSTEIN

POINTS = {"shape": [2], "architecture": "mlp", "latent_dim": 2, "width": 4}


class Bounded(Callback):
    """Looks at the critic after every batch."""

    def __init__(self) -> None:
        self.largest: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        self.largest.append(max(p.abs().max().item() for p in pl_module.discriminator.parameters()))


def test_every_weight_of_the_critic_is_within_the_clip_after_every_step() -> None:
    watch = Bounded()
    module = WGAN(**POINTS, clip=0.03, lr=1e-2)
    data = DataLoader(TensorDataset(torch.randn(320, 2), torch.zeros(320, dtype=torch.long)), 32)
    Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[watch],
    ).fit(module, data, val_dataloaders=data)
    assert len(watch.largest) == 10
    assert max(watch.largest) <= 0.03 + 1e-7
    assert max(watch.largest) > 0.029  # at this rate the bound is reached, so the test could fail
    assert max(p.abs().max().item() for p in module.generator.parameters()) > 0.03


def test_bursts_give_the_critic_a_hundred_steps_first() -> None:
    assert WGAN(**POINTS, bursts=True).schedule.generator_updates(99) == 0
    assert WGAN(**POINTS, bursts=True).schedule.generator_updates(100) == 1
    assert WGAN(**POINTS).schedule.generator_updates(100) == 20


def test_critic_orders_the_distances_of_shifted_gaussians() -> None:
    """W1(N(0, 1), N(s, 1)) = s; a clipped critic reports it in its own unit, so only the order is asserted."""
    estimates = []
    for shift in (1.0, 2.0, 4.0):
        torch.manual_seed(0)
        critic = WGAN(**POINTS).discriminator
        optimizer = torch.optim.RMSprop(critic.parameters(), lr=5e-4)
        for _ in range(300):
            optimizer.zero_grad()
            noise = torch.randn(2, 256, 2)
            WASSERSTEIN.discriminator(critic(noise[0]), critic(noise[1] + torch.tensor([shift, 0.0]))).backward()
            optimizer.step()
            clip_weights(critic, 0.1)
        with torch.no_grad():
            noise = torch.randn(2, 4096, 2)
            value = -WASSERSTEIN.discriminator(critic(noise[0]), critic(noise[1] + torch.tensor([shift, 0.0])))
        estimates.append(value.item())
    assert 0 < estimates[0] < estimates[1] < estimates[2]


@pytest.mark.parametrize("settings", [{"clip": 0.0}, {"clip": -1.0}, {"lr": 0.0}])
def test_settings_without_sense_are_named(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))}={next(iter(settings.values()))}"):
        WGAN(**POINTS, **settings)
