"""The divergence of noisy distributions bounds the Wasserstein distance, if the noise itself is counted.

Arjovsky and Bottou (2017, theorem 3.3) prove, for noise epsilon with E ||epsilon||^2 = V and noisy distributions whose
supports lie in a ball of diameter C,

    W(p, q) <= 2 sqrt(V) + 2 C sqrt(JS(p * epsilon, q * epsilon)).

Pairs of clouds of 16 points in the plane have an exact W, an assignment problem, and an exact noisy divergence, an
integral over a grid. The noise is Gaussian, cut off at three standard deviations, because C is infinite otherwise.
"""

import math

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from lightning_modules.parts.plane import plane_grid
from zoo.studies.study import Outcome, exact, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels, truth

SEEDS = (0, 1, 2)
SHIFTS = (0.0, 1.0, 3.0)
SIGMAS = (0.03, 0.06, 0.1, 0.2, 0.35, 0.6, 1.0, 1.7, 3.0)
CUT = 3.0
NUM_POINTS = 16


@study(
    place="1.2.3, eq. 1.40",
    claim="The divergence between distributions with noise gives an upper bound of the Wasserstein distance between "
    "the distributions themselves, whose tightness depends on the variance of the noise.",
    rule="For each pair of clouds (three distances, three seeds) and each of nine sigmas the bound is at least W, and "
    "for each pair the loosest sigma gives a bound at least 1.5 times that of the tightest.",
)
def noise_bounds_w(quick: bool) -> Outcome:
    """Computes both sides of the bound over sigma."""
    seeds, cells, sigmas = (SEEDS[:1], 80, SIGMAS[2::3]) if quick else (SEEDS, 280, SIGMAS)
    figure, panel = panels("divergence under noise", "bound over W")
    numbers, holds, alone = {}, True, []
    for index, shift in enumerate(SHIFTS):
        curves, ratios, tightest = [], [], []
        for seed in seeds:
            p, q = clouds(shift, seed)
            distance = wasserstein(p, q)
            divergences = [noisy_divergence(p, q, sigma, cells) for sigma in sigmas]
            terms = [both_terms(p, q, sigma, js) for sigma, js in zip(sigmas, divergences, strict=True)]
            bounds = [(own + other) / distance for own, other in terms]
            alone += [other / distance for _, other in terms]
            holds &= min(bounds) >= 1 and max(bounds) >= 1.5 * min(bounds)
            curves.append(divergences)
            ratios.append(bounds)
            tightest.append(sigmas[bounds.index(min(bounds))])
        mean_js = [sum(values) / len(seeds) for values in zip(*curves, strict=True)]
        mean_ratio = [sum(values) / len(seeds) for values in zip(*ratios, strict=True)]
        curve(panel[0], sigmas, mean_js, index, f"shift {shift:g}")
        curve(panel[1], sigmas, mean_ratio, index, f"shift {shift:g}")
        numbers[f"tightest_bound_over_w_shift_{shift:g}"] = mean_of_runs([min(values) for values in ratios])
        numbers[f"tightest_sigma_shift_{shift:g}"] = mean_of_runs(tightest)
    truth(panel[0], math.log(2), "ln 2")
    truth(panel[1], 1.0, "W itself")
    for axes, name in zip(panel, ("JS of the noisy clouds, nats", "bound / W"), strict=True):
        axes.set_xscale("log")
        labels(axes, "standard deviation sigma of the noise", name)
    panel[1].set_yscale("log")
    ratios_and_sigmas = [
        f"{numbers[f'tightest_bound_over_w_shift_{shift:g}'].value:.1f} times W at sigma = "
        f"{numbers[f'tightest_sigma_shift_{shift:g}'].value:.2g}"
        for shift in SHIFTS
    ]
    numbers["lowest_divergence_term_over_w"] = exact(min(alone))
    seen = (
        f"The bound holds {'everywhere' if holds else 'not everywhere, or does not depend on sigma'}. It is loose: at "
        f"best {', '.join(ratios_and_sigmas)}, for shifts {', '.join(f'{shift:g}' for shift in SHIFTS)}. Noise "
        "tightens it only where the clouds come to overlap before the noise itself costs more; of clouds that are far "
        "apart the tightest bound has the least noise. The term of the divergence without that of the noise is at "
        f"least {min(alone):.1f} times W here, but no theorem says so."
    )
    return Outcome(holds, numbers, figure, seen, seeds)


def clouds(shift: float, seed: int) -> tuple[Tensor, Tensor]:
    """Returns two clouds of points in squares of side 2, whose centres are ``shift`` apart."""
    p, q = 2 * torch.rand(2, NUM_POINTS, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1
    offset = torch.tensor([shift / 2, 0.0], dtype=torch.float64)
    return p - offset, q + offset


def wasserstein(p: Tensor, q: Tensor) -> float:
    """Returns W1 of two clouds of as many points."""
    costs = torch.cdist(p, q)
    rows, columns = linear_sum_assignment(costs.numpy())
    return costs[rows, columns].mean().item()


def noisy_divergence(p: Tensor, q: Tensor, sigma: float, cells: int) -> float:
    """Returns the Jensen-Shannon divergence of the clouds under noise, nats, by a sum over a grid."""
    extent = torch.cat([p, q]).abs().max().item() + CUT * sigma
    masses = []
    for cloud in (p, q):
        parts = [kernel(part, cloud, sigma) for part in plane_grid(extent, cells).double().split(20_000)]
        mass = torch.cat(parts)
        masses.append(mass / mass.sum())
    middle = (masses[0] + masses[1]) / 2
    return sum((torch.xlogy(mass, mass) - torch.xlogy(mass, middle)).sum().item() for mass in masses) / 2


def kernel(x: Tensor, cloud: Tensor, sigma: float) -> Tensor:
    """Returns the density of a noisy cloud up to a factor, (N,)."""
    squares = torch.cdist(x, cloud).square() / sigma**2
    return torch.where(squares <= CUT**2, (-squares / 2).exp(), 0.0).sum(1)


def both_terms(p: Tensor, q: Tensor, sigma: float, divergence: float) -> tuple[float, float]:
    """Returns the term of the noise and that of the divergence, in units of the points."""
    half = CUT**2 / 2  # of the squared radius over 2 sigma^2, which is exponential and cut off there
    variance = 2 * sigma**2 * (1 - (1 + half) * math.exp(-half)) / (1 - math.exp(-half))
    points = torch.cat([p, q])
    diameter = 2 * ((points - points.mean(0)).norm(dim=1).max().item() + CUT * sigma)
    return 2 * math.sqrt(variance), 2 * diameter * math.sqrt(max(divergence, 0.0))
