"""Noise on data and model gives them an overlap, and the generator a gradient that says where to go (eq. 1.40).

The data are N(0, 0.01^2) and the model N(1, 0.01^2) on a line, which do not overlap. Under noise of deviation
sigma both are Gaussians, so the Jensen-Shannon divergence is an integral, and the optimal discriminator has the logit
log p - log q. Its gradient by the model's place, under the minimax loss of eq. 1.38, tells the generator where to go.
The library's discriminator is trained with its instance noise, and its gradients are compared with the exact ones; at
sigma = 0 they are what the text says of disjoint supports.
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from lightning_modules.networks.mlp import Discriminator
from lightning_modules.parts.corruption import InstanceNoise
from lightning_modules.parts.games import cross_entropy, saturating
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.schedules import Constant
from zoo.studies.study import Number, Outcome, exact, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels, truth

SEEDS = (0, 1, 2)
SIGMAS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
TRAINED = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
OWN, DISTANCE = 0.01, 1.0
STEPS, BATCH, WIDTH, RATE = 1000, 256, 16, 2e-3


@study(
    place="1.2.3, principled methods; eq. 1.40",
    claim="Noise that is added to both the data and the model gives a density ratio that is well defined even where "
    "their supports do not overlap, and with enough noise a useful gradient.",
    rule="The exact JS under noise is below ln 2 for each sigma of at least 0.1 and falls with sigma. At each sigma of "
    "at least 0.4 the minimax gradient of the trained discriminator points to the data for each of three seeds, is "
    "within 35 % of the exact one, and is at least 20 times as large as the one without noise.",
)
def instance_noise(quick: bool) -> Outcome:
    """Computes exact divergences and gradients, and trains a discriminator for each sigma and seed."""
    seeds, trained_at, steps = (SEEDS[:1], TRAINED[::3], 15) if quick else (SEEDS, TRAINED, STEPS)
    divergences = [exact_divergence(sigma) for sigma in SIGMAS]
    slopes = [exact_slope(sigma) for sigma in SIGMAS]
    runs = {sigma: [trained_slope(sigma, seed, steps) for seed in seeds] for sigma in trained_at}
    means = {sigma: mean_of_runs(values) for sigma, values in runs.items()}

    figure, (left, right) = panels("divergence under noise", "minimax gradient by the model's place")
    curve(left, SIGMAS, divergences, 0, "exact JS")
    truth(left, math.log(2), "ln 2")
    curve(right, SIGMAS, [max(slope, 1e-9) for slope in slopes], 0, "optimal discriminator")
    noisy = [sigma for sigma in trained_at if sigma]
    errors = None if quick else [means[sigma].error for sigma in noisy]
    curve(right, noisy, [means[sigma].value for sigma in noisy], 1, "trained discriminator", errors)
    truth(right, max(means[0.0].value, 1e-9), "trained without noise")
    right.set_yscale("log")
    right.set_ylim(1e-6, 10)
    for axes, name in ((left, "nats"), (right, "nats per unit of length")):
        axes.set_xscale("log")
        labels(axes, "standard deviation sigma of the noise", name)

    numbers: dict[str, Number] = {f"js_at_sigma_{s:g}": exact(js) for s, js in zip(SIGMAS, divergences, strict=True)}
    numbers |= {f"exact_slope_at_sigma_{s:g}": exact(slope) for s, slope in zip(SIGMAS, slopes, strict=True)}
    numbers |= {f"trained_slope_at_sigma_{s:g}": mean for s, mean in means.items()}
    without = max(abs(value) for value in runs[0.0])
    known = dict(zip(SIGMAS, slopes, strict=True))
    useful = all(
        value > 0 and abs(value / known[sigma] - 1) < 0.35 and value > 20 * without
        for sigma in noisy
        if sigma >= 0.4
        for value in runs[sigma]
    )
    falls = all(a > b for a, b in zip(divergences, divergences[1:], strict=False))
    below = all(js < math.log(2) - 1e-9 for js, sigma in zip(divergences, SIGMAS, strict=True) if sigma >= 0.1)
    seen = (
        f"JS falls from {divergences[0]:.4f} nats at sigma = {SIGMAS[0]:g} to {divergences[-1]:.4f} at {SIGMAS[-1]:g}. "
        f"The gradient of the optimal discriminator is {slopes[1]:.2g} at 0.1, {slopes[3]:.2g} at 0.4 and "
        f"{slopes[-1]:.2g} at {SIGMAS[-1]:g}; that of the trained one is "
        f"{means[noisy[-1]].value:.2g} at {noisy[-1]:g}, and {means[0.0].value:.1g} without noise."
    )
    return Outcome(falls and below and useful, numbers, figure, seen, seeds)


def side(place: float, sigma: float) -> Normal:
    """Returns the data (place 0) or the model under noise."""
    scale = torch.tensor(math.hypot(OWN, sigma), dtype=torch.float64)
    return Normal(torch.tensor(place, dtype=torch.float64), scale)


def grid(sigma: float) -> Tensor:
    """Returns a grid that holds both distributions under noise."""
    reach = 10 * math.hypot(OWN, sigma)
    return torch.linspace(-reach, DISTANCE + reach, 40_001, dtype=torch.float64)


def logit(x: Tensor, sigma: float) -> Tensor:
    """Returns the logit of the optimal discriminator under noise."""
    return side(0.0, sigma).log_prob(x) - side(DISTANCE, sigma).log_prob(x)


def exact_divergence(sigma: float) -> float:
    """Returns the Jensen-Shannon divergence under noise, nats."""
    x = grid(sigma)
    p, q = side(0.0, sigma).log_prob(x).exp(), side(DISTANCE, sigma).log_prob(x).exp()
    values = p * nn.functional.softplus(-logit(x, sigma)) + q * nn.functional.softplus(logit(x, sigma))
    return math.log(2) - torch.trapezoid(values, x).item() / 2


def exact_slope(sigma: float) -> float:
    """Returns the derivative of the minimax loss by the model's place, positive if it falls towards the data."""
    x = grid(sigma)
    rate = -1 / side(0.0, sigma).variance  # of the logit by x, for each unit of distance
    values = side(DISTANCE, sigma).log_prob(x).exp() * -logit(x, sigma).sigmoid() * rate * DISTANCE
    return torch.trapezoid(values, x).item()


def trained_slope(sigma: float, seed: int, steps: int) -> float:
    """Returns the same derivative through a discriminator that was trained under noise."""
    torch.manual_seed(seed)
    network, noise = Discriminator((1,), WIDTH), Noise(torch.Generator().manual_seed(seed))
    corrupt, device = InstanceNoise(Constant(sigma)), torch.device("cpu")
    optimizer = torch.optim.Adam(network.parameters(), RATE, (0.5, 0.99))

    def seen(place: Tensor | float, num: int) -> Tensor:
        return network(corrupt(place + OWN * noise.normal(num, 1, device=device), 0, noise))

    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(seen(0.0, BATCH), seen(DISTANCE, BATCH)).backward()
        optimizer.step()
    place = torch.tensor(DISTANCE, requires_grad=True)
    (slope,) = torch.autograd.grad(saturating(seen(place, 20 * BATCH)), place)
    return slope.item()
