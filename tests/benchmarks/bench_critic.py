"""Critic step with spectral norm and with gradient penalty against a plain one: DCGAN 28x28, batch 64.

The ratios are of the discriminator's forward passes, backward pass and optimizer step alone. Drawing the fakes costs
the same in all three; what the ratios are with it stands behind them.
"""

import copy
from collections.abc import Callable

import torch
from common import interleaved, row
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lightning_modules.networks.dcgan import Discriminator, Generator
from lightning_modules.parts.constraints import spectrally_normalized
from lightning_modules.parts.games import WASSERSTEIN
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.penalties import gradient_penalty

BATCH = 64


def critic_step(network: nn.Module, real: Tensor, fake: Tensor, penalty_weight: float = 0.0) -> Callable[[], None]:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, betas=(0.0, 0.9), fused=True)
    noise = Noise()

    def step() -> None:
        optimizer.zero_grad()
        with parametrize.cached():
            loss = WASSERSTEIN.discriminator(network(real), network(fake))
            if penalty_weight:
                loss = loss + penalty_weight * gradient_penalty(network, real, fake, noise)
            loss.backward()
        optimizer.step()

    return step


def main() -> None:
    torch.manual_seed(0)
    real, fake = (
        torch.rand(BATCH, 1, 28, 28).mul(2).sub(1).contiguous(memory_format=torch.channels_last) for _ in range(2)
    )
    plain = Discriminator([1, 28, 28], width=32).to(memory_format=torch.channels_last)
    normalized = spectrally_normalized(copy.deepcopy(plain))
    penalized = copy.deepcopy(plain)
    generator = Generator([1, 28, 28], 64, width=32).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def draw() -> Tensor:
        return generator(torch.randn(BATCH, 64))

    seconds = interleaved(
        {
            "fakes": draw,
            "plain": critic_step(plain, real, fake),
            "spectral norm": critic_step(normalized, real, fake),
            "gradient penalty": critic_step(penalized, real, fake, penalty_weight=10.0),
        },
        rounds=100,
    )
    for name, goal in {"spectral norm": 1.10, "gradient penalty": 2.0}.items():
        ratio = seconds[name] / seconds["plain"]
        with_fakes = (seconds[name] + seconds["fakes"]) / (seconds["plain"] + seconds["fakes"])
        milliseconds = f"{1000 * seconds[name]:.1f} ms / {1000 * seconds['plain']:.1f} ms"
        measured = f"{ratio:.2f} ({milliseconds}), with the fakes drawn {with_fakes:.2f}"
        row(f"critic step with {name} / plain", f"<= {goal:.2f}", measured, ratio <= goal)


if __name__ == "__main__":
    main()
