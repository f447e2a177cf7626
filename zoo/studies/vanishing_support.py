"""The log-likelihood has no lower bound where the model's density vanishes; the Frechet distance is bounded.

The model is a Gaussian whose width goes to 0, the data are N(0, I) in the plane. The test point (1, 1) is fixed: the
model never excludes it, but its density there falls like exp(-1 / width^2). The distance of eq. 1.47 is computed with
the points themselves as features: as the model shrinks to a point, it goes to the trace of the data's covariance, 2.
"""

import torch

from lightning_modules import Gaussian
from lightning_modules.metrics.image import frechet_distance, moments
from zoo.studies.study import Outcome, exact, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels, truth

SEEDS = (0, 1, 2, 3, 4)
WIDTHS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
LIMIT = 2.0
"""The squared distance of N(0, I) in the plane from a point in its centre."""


@study(
    place="1.2.2, evaluation criteria",
    claim="Where the model's density approaches 0 at a point that the data have, the log-likelihood approaches minus "
    "infinity, whatever the model is elsewhere. A distance of distributions stays finite.",
    rule="At a fixed test point log q is below -100 000 nats for the smallest width, the slope of log(-log q) by log "
    "width is -2 within 2 % below a width of 0.1, and the Frechet distance of samples is below 1.1 times its limit for "
    "each width and each of five seeds.",
)
def support(quick: bool) -> Outcome:
    """Narrows the model around the mean of the data."""
    seeds, num = (SEEDS[:1], 500) if quick else (SEEDS, 10_000)
    point = torch.ones(1, 2, dtype=torch.float64)
    log_q = [model(width).double().log_prob(point).item() for width in WIDTHS]
    distances = [[distance(width, seed, num) for seed in seeds] for width in WIDTHS]

    narrow = [i for i, width in enumerate(WIDTHS) if width < 0.1]
    x, y = torch.tensor(WIDTHS).log(), torch.tensor(log_q).neg().clamp_min(1e-9).log()
    slope = ((y[narrow[-1]] - y[narrow[0]]) / (x[narrow[-1]] - x[narrow[0]])).item()
    largest = max(max(values) for values in distances)
    overflow = model(1e-20).log_prob(point.float()).item()

    figure, (left, right) = panels("log-density at a fixed point", "Frechet distance of samples")
    curve(left, WIDTHS, [-value for value in log_q], 0, "-log q(1, 1)")
    left.set_yscale("log")
    found = [mean_of_runs(values) for values in distances]
    curve(right, WIDTHS, [value for value, _ in found], 1, "samples", None if quick else [error for _, error in found])
    truth(right, LIMIT, "limit: trace of the covariance")
    for axes, name in ((left, "nats"), (right, "squared distance")):
        axes.set_xscale("log")
        axes.invert_xaxis()
        labels(axes, "width of the model", name)

    numbers = {
        "log_q_nats_at_width_0.001": exact(log_q[-1]),
        "slope_of_log_minus_log_q": exact(slope),
        "frechet_distance_at_width_1": found[0],
        "frechet_distance_at_width_0.001": found[-1],
        "largest_frechet_distance": exact(largest),
    }
    seen = (
        f"At a width of 0.001 log q of the test point is {log_q[-1]:.3g} nats; -log q grows like the width to the "
        f"power of {slope:.2f}. In float32 it is {overflow} at a width of 1e-20. The Frechet distance grows from "
        f"{found[0].value:.3f} to {found[-1].value:.3f}, and its limit is {LIMIT:g}."
    )
    holds = log_q[-1] < -1e5 and abs(slope + 2) < 0.04 and largest < 1.1 * LIMIT
    return Outcome(holds, numbers, figure, seen, seeds)


def model(width: float) -> Gaussian:
    """Returns N(0, width^2 I) in the plane."""
    gaussian = Gaussian(shape=[2], covariance="diagonal")
    with torch.no_grad():
        gaussian.components.log_scale.fill_(torch.tensor(width).log())
    return gaussian


def distance(width: float, seed: int, num: int) -> float:
    """Returns the Frechet distance between samples of the model and of the data."""
    generator = torch.Generator().manual_seed(seed)
    samples = model(width).sample(num, generator=generator)
    return frechet_distance(*moments(samples), *moments(torch.randn(num, 2, generator=generator)))
