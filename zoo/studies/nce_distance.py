"""Noise-contrastive estimation needs noise that is near the data (eq. 1.34 to 1.36).

The data are N(0, I). The noise is a Gaussian that is shifted, in the plane, or twice as wide, in more and more
dimensions. The library's NCE is trained with each, with its network and its learned constant c = -log Z. The error of c
is known because the data are: the integral of the learned density is the mean of its ratio to N(0, I) over samples of
N(0, I). The effective sample size is that of 10 000 noise samples weighted by the learned density, as for sampling; for
the exact density its share is exp(-shift^2), and (sqrt(7) / 4)^D for the wide noise.
"""

import math

import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import NCE, Gaussian
from lightning_modules.parts.likelihoods import standard_normal_log_prob
from zoo.studies.quiet_training import fit
from zoo.studies.study import Number, Outcome, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels

SEEDS = (0, 1, 2)
SHIFTS = (0.0, 1.0, 2.0, 3.0)
DIMENSIONS = (2, 4, 8, 16)
BATCHES, BATCH, POINTS, ESS = 200, 256, 20_000, 10_000


@study(
    place="1.2.3, eq. 1.34 to 1.36",
    claim="The noise of noise-contrastive estimation must be very similar to the data. Where it has small values and "
    "the data large ones, the discriminator goes to 1 and the importance weights have a high variance.",
    rule="The effective sample size, on average over three seeds, falls from each distance to the next and from each "
    "dimension to the next. The mean error of log Z at the largest distance and in the highest dimension is above that "
    "at the smallest by more than two standard errors.",
)
def nce_distance(quick: bool) -> Outcome:
    """Trains with each noise and seed."""
    seeds, batches = (SEEDS[:1], 15) if quick else (SEEDS, BATCHES)
    shifts, dimensions = (SHIFTS[::3], DIMENSIONS[::3]) if quick else (SHIFTS, DIMENSIONS)
    found: dict[str, dict[float, list[tuple[float, float]]]] = {
        "shift": {value: [one_run(2, value, 1.0, seed, batches) for seed in seeds] for value in shifts},
        "dimension": {value: [one_run(value, 0.0, 2.0, seed, batches) for seed in seeds] for value in dimensions},
    }
    figure, panel = panels("effective sample size / noise samples", "error of log Z")
    numbers: dict[str, Number] = {}
    holds = True
    for index, (kind, runs) in enumerate(found.items()):
        shares = [mean_of_runs([share for share, _ in pairs]) for pairs in runs.values()]
        errors = [mean_of_runs([error for _, error in pairs]) for pairs in runs.values()]
        for axes, means in zip(panel, (shares, errors), strict=True):
            curve(
                axes,
                list(runs),
                [mean.value for mean in means],
                index,
                kind,
                None if quick else [m.error for m in means],
            )
        numbers |= {f"ess_share_{kind}_{value:g}": mean for value, mean in zip(runs, shares, strict=True)}
        numbers |= {f"error_of_log_z_nats_{kind}_{value:g}": mean for value, mean in zip(runs, errors, strict=True)}
        falls = all(a.value > b.value for a, b in zip(shares, shares[1:], strict=False))
        spread = math.hypot(errors[0].error, errors[-1].error)
        holds &= falls and errors[-1].value - errors[0].value > 2 * spread
    theory = {"shift": lambda x: math.exp(-(x**2)), "dimension": lambda d: (math.sqrt(7) / 4) ** d}
    for index, (kind, law) in enumerate(theory.items()):
        places = [p / 20 * max(found[kind]) for p in range(21)]
        exact_law = [max(law(place), 1 / ESS) for place in places]
        panel[0].plot(places, exact_law, color="0.5", linestyle="dotted", label=None if index else "exact density")
    for axes, name in zip(panel, ("share", "|c + log Z|, nats"), strict=True):
        axes.set_xscale("symlog", linthresh=1)
        axes.set_yscale("log")
        labels(axes, "shift of the noise, or dimension", name)
    far, high = max(shifts), max(dimensions)
    seen = (
        f"The share of effective samples is {numbers['ess_share_shift_0'].value:.2f} where the noise is the data, "
        f"{numbers[f'ess_share_shift_{far:g}'].value:.2g} at a shift of {far:g} and "
        f"{numbers[f'ess_share_dimension_{high:g}'].value:.2g} in {high} dimensions. The error of log Z is "
        f"{numbers['error_of_log_z_nats_shift_0'].value:.2g}, "
        f"{numbers[f'error_of_log_z_nats_shift_{far:g}'].value:.2g} and "
        f"{numbers[f'error_of_log_z_nats_dimension_{high:g}'].value:.2g} nats."
    )
    return Outcome(holds, numbers, figure, seen, seeds)


def one_run(dimension: int, shift: float, scale: float, seed: int, batches: int) -> tuple[float, float]:
    """Returns the share of the effective sample size, and the error of log Z in nats."""
    torch.manual_seed(seed)
    noise = Gaussian(shape=[dimension], covariance="diagonal")
    with torch.no_grad():
        noise.components.mean[0, 0] = shift
        noise.components.log_scale.fill_(math.log(scale))
    model = NCE(shape=[dimension], noise_density=noise, architecture="mlp", width=16, decay_steps=batches)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(POINTS, dimension, generator=generator)
    fit(model, DataLoader(TensorDataset(x), batch_size=BATCH, shuffle=True), batches)
    fresh = torch.randn(POINTS, dimension, generator=generator)
    with torch.no_grad():
        ratios = model.log_prob(fresh) - standard_normal_log_prob(fresh)
    integral = (ratios.double().logsumexp(0) - math.log(POINTS)).item()  # log of the integral of the learned density
    return model.importance_ess(ESS) / ESS, abs(integral)
