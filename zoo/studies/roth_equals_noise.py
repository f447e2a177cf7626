"""The regulariser of Roth et al. is what noise adds to the discriminator's loss, to second order, where D is optimal.

Data and model are Gaussians on a line, N(0, 1) and N(1, 1.5^2), so that everything is an integral: under noise of
variance gamma they are Gaussians with gamma more variance. The exact increase of the cross-entropy is compared with
gamma times the regulariser, at the optimal discriminator, whose logit is log p - log q, and at three others. The
derivation of the regulariser drops the second derivatives of the logit, which cancel at the optimum only: elsewhere the
first order of the two differs.

Increases with noise that was really drawn, by the library's instance noise, are plotted with their errors.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from lightning_modules.parts.corruption import InstanceNoise
from lightning_modules.parts.games import cross_entropy
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.penalties import roth
from lightning_modules.parts.schedules import Constant
from zoo.studies.study import Number, Outcome, exact, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels

Logit = Callable[[Tensor], Tensor]
SEEDS = tuple(range(10))
GAMMAS = tuple(10 ** (-3 + step / 4) for step in range(13))
SMALL = 0.05
MEANS, VARIANCES = (0.0, 1.0), (1.0, 2.25)
POINTS = 400_000


def optimal(x: Tensor) -> Tensor:
    """Returns log p(x) - log q(x), the logit of the optimal discriminator."""
    return density(0, 0.0).log_prob(x) - density(1, 0.0).log_prob(x)


LOGITS: dict[str, Logit] = {
    "optimal": optimal,
    "half of it": lambda x: optimal(x) / 2,
    "twice": lambda x: 2 * optimal(x),
    "shifted by 1": lambda x: optimal(x) + 1,
}


@study(
    place="1.2.3, Wasserstein GAN: Roth et al.; eq. 1.40",
    claim="A penalty on the gradient of the discriminator can be justified as an analytical approximation to noise "
    "that is added to real and generated samples.",
    rule="At the optimal discriminator the difference between the increase of the loss and gamma times the regulariser "
    "falls with gamma to the power of 2 within 0.2 (a second-order approximation), fitted over gamma <= 0.05. Drawn "
    "noise agrees with the exact increase within four standard errors. The power away from the optimum is reported.",
)
def roth_equals_noise(quick: bool) -> Outcome:
    """Compares the regulariser with the exact effect of noise, over its variance."""
    seeds, num = (SEEDS[:2], 2000) if quick else (SEEDS, 40_000)
    figure, (left, right) = panels("what noise adds to the loss", "what the regulariser misses")
    numbers: dict[str, Number] = {}
    furthest = 0.0
    for index, (name, logit) in enumerate(LOGITS.items()):
        penalty = regulariser(logit)
        rises = [loss(logit, gamma) - loss(logit, 0.0) for gamma in GAMMAS]
        missed = [abs(rise - gamma * penalty) for rise, gamma in zip(rises, GAMMAS, strict=True)]
        curve(right, GAMMAS, missed, index, name)
        numbers[f"power_{name.replace(' ', '_')}"] = exact(power(missed))
        if index < 2:
            drawn = [mean_of_runs([drawn_rise(logit, gamma, num, seed) for seed in seeds]) for gamma in GAMMAS[4:]]
            places = zip(drawn, rises[4:], strict=True)
            furthest = max(furthest, *(abs(value - rise) / error for (value, error), rise in places))
            curve(left, GAMMAS[4:], [value for value, _ in drawn], index, f"{name}: drawn", [e for _, e in drawn])
            left.plot(GAMMAS, rises, color="black", linewidth=0.8, label=None if index else "exact")
            analytic = [gamma * penalty for gamma in GAMMAS]
            heading = None if index else "gamma times the regulariser"
            left.plot(GAMMAS, analytic, color="0.55", linewidth=1.4, linestyle="dotted", label=heading)
    for axes, what in ((left, "nats"), (right, "|increase - gamma regulariser|, nats")):
        axes.set_xscale("log")
        labels(axes, "variance gamma of the noise", what)
        axes.set_yscale("log")
    numbers["drawn_noise_furthest_in_errors"] = exact(furthest)
    at_optimum = numbers["power_optimal"].value
    away = [number.value for name, number in numbers.items() if name.startswith("power_") and name != "power_optimal"]
    seen = (
        f"At the optimal discriminator the error of the regulariser falls like gamma to the power of {at_optimum:.2f}. "
        f"Away from it the powers are {', '.join(f'{value:.2f}' for value in away)}: there the regulariser already "
        "misses a part of the first order, because the second derivatives of the logit do not cancel."
    )
    return Outcome(abs(at_optimum - 2) <= 0.2 and furthest < 4, numbers, figure, seen, seeds)


def density(side: int, gamma: float) -> Normal:
    """Returns the data (0) or the model (1) under noise of variance gamma."""
    scale = math.sqrt(VARIANCES[side] + gamma)
    return Normal(torch.tensor(MEANS[side], dtype=torch.float64), torch.tensor(scale, dtype=torch.float64))


def loss(logit: Logit, gamma: float) -> float:
    """Returns the cross-entropy of the discriminator under noise, by the trapezoid rule, which is exact to rounding."""
    x = torch.linspace(-20, 22, 8001, dtype=torch.float64)
    real, fake = (density(side, gamma).log_prob(x).exp() for side in (0, 1))
    values = real * torch.nn.functional.softplus(-logit(x)) + fake * torch.nn.functional.softplus(logit(x))
    return torch.trapezoid(values, x).item()


def regulariser(logit: Logit) -> float:
    """Returns the library's regulariser, of evenly spaced quantiles of both distributions."""
    quantiles = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS
    x = torch.cat([density(side, 0.0).icdf(quantiles) for side in (0, 1)])[:, None].requires_grad_()
    return roth.of_outputs(x, logit(x).squeeze(1)).item()


def drawn_rise(logit: Logit, gamma: float, num: int, seed: int) -> float:
    """Returns how much higher the loss of samples is with noise that is drawn."""
    noise = Noise(torch.Generator().manual_seed(seed))
    corrupt = InstanceNoise(Constant(math.sqrt(gamma)))
    pair = [MEANS[side] + math.sqrt(VARIANCES[side]) * noise.normal(num, device=torch.device("cpu")) for side in (0, 1)]
    noisy = [corrupt(x, 0, noise) for x in pair]
    return (cross_entropy(*map(logit, noisy)) - cross_entropy(*map(logit, pair))).item()


def power(missed: list[float]) -> float:
    """Returns the slope of log missed by log gamma, fitted to small gamma."""
    pairs = [(math.log(gamma), math.log(value)) for gamma, value in zip(GAMMAS, missed, strict=True) if gamma <= SMALL]
    x, y = torch.tensor(pairs, dtype=torch.float64).unbind(1)
    return (((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()).item()
