"""Critic step with spectral norm and with penalties on gradients against a plain one: DCGAN 28x28, batch 64.

The ratios are of the discriminator's forward passes, backward pass and optimizer step alone. Drawing the fakes costs
the same in all; what the ratios are with it stands behind them.
"""

import copy
from collections.abc import Callable, Mapping

import torch
from common import interleaved, row
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lightning_modules.networks.dcgan import Discriminator, Generator
from lightning_modules.parts.constraints import spectrally_normalized
from lightning_modules.parts.double_backward import fast_double_backward
from lightning_modules.parts.games import NON_SATURATING, WASSERSTEIN, Game
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.penalties import PENALTIES, roth

BATCH = 64
LAZY = 8
"""Period of R1 and R2: seven steps without them and one with both are averaged."""


PENALISED: dict[str, tuple[Game, dict[str, float]]] = {
    "gradient penalty": (WASSERSTEIN, {"gradient_penalty": 10.0}),
    "Roth's penalty": (NON_SATURATING, {"roth": 0.1}),
    "R1 and R2": (NON_SATURATING, {"r1": 0.1, "r2": 0.1}),
}


def critic_step(
    network: nn.Module, real: Tensor, fake: Tensor, game: Game, penalties: Mapping[str, float]
) -> Callable[[], None]:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, betas=(0.0, 0.9), fused=True)
    noise = Noise()

    def step() -> None:
        optimizer.zero_grad()
        with parametrize.cached():
            if "roth" in penalties:  # on the game's own pass, as the loop does it
                examples = torch.cat([real, fake]).requires_grad_()
                with fast_double_backward():
                    logits = network(examples)
                loss = game.discriminator(*logits.chunk(2)) + penalties["roth"] * roth.of_outputs(examples, logits)
            else:
                loss = game.discriminator(network(real), network(fake))
                for name, weight in penalties.items():
                    loss = loss + weight * PENALTIES[name](network, real, fake, noise)
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
    generator = Generator([1, 28, 28], 64, width=32).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def draw() -> Tensor:
        return generator(torch.randn(BATCH, 64))

    seconds = interleaved(
        {
            "fakes": draw,
            "plain": critic_step(copy.deepcopy(plain), real, fake, WASSERSTEIN, {}),
            "spectral norm": critic_step(normalized, real, fake, WASSERSTEIN, {}),
            **{
                name: critic_step(copy.deepcopy(plain), real, fake, game, penalties)
                for name, (game, penalties) in PENALISED.items()
            },
        },
        rounds=100,
    )
    lazy = f"R1 and R2 every {LAZY}th step"
    seconds[lazy] = ((LAZY - 1) * seconds["plain"] + seconds["R1 and R2"]) / LAZY
    goals = {"spectral norm": 1.10, "gradient penalty": 2.0, "Roth's penalty": 2.2, lazy: 1.2}
    for name, goal in goals.items():
        ratio = seconds[name] / seconds["plain"]
        with_fakes = (seconds[name] + seconds["fakes"]) / (seconds["plain"] + seconds["fakes"])
        milliseconds = f"{1000 * seconds[name]:.1f} ms / {1000 * seconds['plain']:.1f} ms"
        measured = f"{ratio:.2f} ({milliseconds}), with the fakes drawn {with_fakes:.2f}"
        row(f"critic step with {name} / plain", f"<= {goal:.2f}", measured, ratio <= goal)


if __name__ == "__main__":
    main()
