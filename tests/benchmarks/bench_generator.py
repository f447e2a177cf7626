"""Generator step with Jacobian clamping against a plain one: DCGAN 28x28, batch 64.

A step is what the loop makes: codes, both networks' passes, the backward pass, and the optimizer's step.
"""

from collections.abc import Callable

import torch
from common import interleaved, row
from torch import Tensor

from lightning_modules import JacobianClampingGAN, NonSaturatingGAN
from lightning_modules.adversarial.loop import AdversarialModule

BATCH = 64
GOALS = {1.0: 2.0, 0.25: 1.3}
"""Part of the batch on which the clamping is computed, and the largest ratio of times that is good enough."""


def generator_step(module: AdversarialModule, real: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.Adam(module.generator.parameters(), lr=1e-4, betas=(0.5, 0.999), fused=True)
    module.discriminator.requires_grad_(False)

    def step() -> None:
        optimizer.zero_grad()
        losses, penalties = module.generator_losses(real, None, 0)
        torch.stack([*losses.values(), *penalties.values()]).sum().backward()
        optimizer.step()

    return step


def main() -> None:
    torch.manual_seed(0)
    real = torch.rand(BATCH, 1, 28, 28)
    plain = NonSaturatingGAN()
    steps = {"plain": generator_step(plain, real)}
    for fraction in GOALS:
        clamped = JacobianClampingGAN(clamp_fraction=fraction)
        clamped.load_state_dict(plain.state_dict())
        steps[str(fraction)] = generator_step(clamped, real)
    seconds = interleaved(steps, rounds=100)
    for fraction, goal in GOALS.items():
        ratio = seconds[str(fraction)] / seconds["plain"]
        milliseconds = f"{1000 * seconds[str(fraction)]:.1f} ms / {1000 * seconds['plain']:.1f} ms"
        name = f"generator step with Jacobian clamping of {fraction:.0%} of the batch / plain"
        row(name, f"<= {goal:.2f}", f"{ratio:.2f} ({milliseconds})", ratio <= goal)


if __name__ == "__main__":
    main()
