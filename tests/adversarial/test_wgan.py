"""The clipped critic: its optimizer, its bound after every step, its schedule, the order of its distances."""

from collections.abc import Iterator

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import WGAN
from lightning_modules.parts.constraints import clip_weights
from lightning_modules.parts.games import WASSERSTEIN
from lightning_modules.parts.noise import Noise
from tests.adversarial.games import POINTS, fit

WIDER = {**POINTS, "width": 4}


class Bounded(Callback):
    """Looks at the critic after every batch."""

    def __init__(self) -> None:
        self.largest: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        critic = pl_module.get_submodule("discriminator")
        self.largest.append(max(p.abs().max().item() for p in critic.parameters()))


def test_every_weight_of_the_critic_is_within_the_clip_after_every_step() -> None:
    watch = Bounded()
    module = WGAN(**WIDER, weight_clip=0.03, lr=1e-2)
    data = DataLoader(TensorDataset(torch.randn(320, 2), torch.zeros(320, dtype=torch.long)), 32)
    fit(module, 10, data=data, callbacks=[watch])
    assert len(watch.largest) == 10
    assert max(watch.largest) <= 0.03 + 1e-7
    assert max(watch.largest) > 0.029  # at this rate the bound is reached, so the test could fail
    assert max(p.abs().max().item() for p in module.generator.parameters()) > 0.03


class Replayed(Noise):
    """Hands out given codes, one tensor a call."""

    def __init__(self, codes: list[Tensor]) -> None:
        self.codes: Iterator[Tensor] = iter(codes)

    def normal(self, *shape: int, device: torch.device) -> Tensor:
        return next(self.codes)


class RMSprop:
    """w <- w - lr g / (sqrt(v) + 1e-8), where v <- 0.99 v + 0.01 g^2 begins at zero: torch's defaults."""

    def __init__(self, network: nn.Module, lr: float) -> None:
        self.parameters, self.lr = list(network.parameters()), lr
        self.squares = [torch.zeros_like(p) for p in self.parameters]

    def descend(self, loss: Tensor) -> None:
        gradients = torch.autograd.grad(loss, self.parameters)
        self.squares = [0.99 * v + 0.01 * g.square() for v, g in zip(self.squares, gradients, strict=True)]
        with torch.no_grad():
            for p, v, g in zip(self.parameters, self.squares, gradients, strict=True):
                p.sub_(self.lr * g / (v.sqrt() + 1e-8))


def test_steps_equal_algorithm_1_of_the_paper_written_out() -> None:
    """Two critic steps and one generator step, both by RMSprop: the second critic step depends on the optimizer."""
    module, reference = (WGAN(**POINTS, critic_steps=2, lr=1e-3, weight_clip=0.3) for _ in range(2))
    reference.load_state_dict(module.state_dict())
    real, z = torch.randn(2, 8, 2), [torch.randn(8, 2) for _ in range(3)]
    module.noise = Replayed(z)
    fit(module, 2, data=DataLoader(TensorDataset(real.flatten(0, 1), torch.zeros(16, dtype=torch.long)), 8))

    G, D = reference.generator, reference.discriminator
    optimizer = RMSprop(D, 1e-3)
    for x, code in zip(real, z[:2], strict=True):
        optimizer.descend(D(G(code).detach()).mean() - D(x).mean())
        for p in D.parameters():
            p.data.clamp_(-0.3, 0.3)
    RMSprop(G, 1e-3).descend(-D(G(z[2])).mean())
    for (name, ours), theirs in zip(module.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7, msg=name)


def test_bursts_give_the_critic_a_hundred_steps_first() -> None:
    assert WGAN(**WIDER, bursts=True).schedule.generator_updates(99) == 0
    assert WGAN(**WIDER, bursts=True).schedule.generator_updates(100) == 1
    assert WGAN(**WIDER).schedule.generator_updates(100) == 20


def test_critic_orders_the_distances_of_shifted_gaussians() -> None:
    """W1(N(0, 1), N(s, 1)) = s; a clipped critic reports it in its own unit, so only the order is asserted."""
    estimates = []
    for shift in (1.0, 2.0, 4.0):
        torch.manual_seed(0)
        critic = WGAN(**WIDER).discriminator
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


@pytest.mark.parametrize(("name", "value"), [("weight_clip", 0.0), ("weight_clip", -1.0), ("lr", 0.0)])
def test_settings_without_sense_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}={value}"):
        WGAN(**{**WIDER, name: value})
