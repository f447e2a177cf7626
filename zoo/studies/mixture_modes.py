"""A mixture of unimodal components gets more modes only by more components (eq. 1.17).

The data are 25 Gaussians on a grid, ten standard deviations apart. Mixtures of K Gaussians are fitted by expectation
maximisation from k-means++; of several restarts, which see other samples of the data, that of the highest validation
likelihood counts. What a mixture pays is its cross-entropy on held-out points minus the entropy, estimated by the mean
of log p - log q. Modes are the local maxima of its density, which can be more than the components in the plane: where
two long ones cross, there is a maximum that is the centre of neither. A first run counted the maxima of a grid, of
which a narrow ridge can have several; after it they became the starts of climbs. The rule is as it was.

With K below 25 some components must stretch over several modes. The best that they can do is known for pairs: two modes
in one component cost 0.075 nats here, so each component less than 25 costs as much.
"""

import torch
from torch import Tensor

from datamodules import Grid
from lightning_modules import GaussianMixture
from lightning_modules.metrics.modes import modes_of
from lightning_modules.parts.plane import mixture_log_density, on_grid, plane_grid
from zoo.studies.study import Number, Outcome, exact, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels, truth

SEEDS = (0, 1, 2, 3, 4)
COMPONENTS = (1, 5, 10, 15, 20, 23, 25, 27, 30, 40)
NUM_MODES, TRAIN, TEST, ITERATIONS = 25, 4000, 5000, 40
EXTENT, CELLS = 2.0, 240
LEAST_DENSITY = 1e-3
"""Maxima below this fraction of the highest are left out."""
CLIMBS, APART = 2000, 0.02


@study(
    place="1.2.1, eq. 1.17",
    claim="The only way to get more modes out of a mixture of unimodal components is to add components.",
    rule="The density of the best mixture never has more modes than components, and has all 25 with 25 components. Its "
    "excess over the entropy falls by at least 0.05 nats per component from 20 to 25, and by at most 0.005 from 25 to "
    "40: a knee at 25.",
)
def mixture_modes(quick: bool) -> Outcome:
    """Fits mixtures of each size with each seed."""
    seeds, sizes = (SEEDS[:1], COMPONENTS[4:8:2]) if quick else (SEEDS, COMPONENTS)
    best, modes, gaps = {}, {}, {}
    for size in sizes:
        fits = [fitted(size, seed, 3 if quick else ITERATIONS) for seed in seeds]
        best[size] = max(fits, key=lambda found: found[0])[1]
        modes[size] = count_modes(best[size])
        gaps[size] = gaps_of(best[size])
    excess = {size: mean_of_runs(gap.tolist()) for size, gap in gaps.items()}

    figure, (left, right) = panels("cross-entropy minus entropy", "local maxima of the density")
    curve(
        left, sizes, [excess[size].value for size in sizes], 0, "best of the restarts", [excess[s].error for s in sizes]
    )
    curve(right, sizes, [modes[size] for size in sizes], 1, "best of the restarts")
    right.plot([0, NUM_MODES], [0, NUM_MODES], color="0.6", linewidth=1, linestyle="dotted", label="one per component")
    truth(right, NUM_MODES, "modes of the data")
    right.set_ylim(0, 36)
    for axes, name in ((left, "nats"), (right, "modes")):
        axes.axvline(NUM_MODES, color="0.8", linewidth=3, zorder=0)
        labels(axes, "components K", name)

    numbers: dict[str, Number] = {f"excess_nats_k{size}": excess[size] for size in sizes}
    numbers |= {f"modes_k{size}": exact(modes[size]) for size in sizes}
    few, many = max(size for size in sizes if size < NUM_MODES - 2), max(sizes)
    falls = {
        "up_to_25": mean_of_runs(((gaps[few] - gaps[NUM_MODES]) / (NUM_MODES - few)).tolist()),
        "beyond": mean_of_runs(((gaps[NUM_MODES] - gaps[many]) / max(many - NUM_MODES, 1)).tolist()),
    }
    numbers |= {f"fall_per_component_{part}": fall for part, fall in falls.items()}
    before, after = (fall.value for fall in falls.values())
    more = [f"{modes[size]} with {size}" for size in sizes if modes[size] > size]
    crossing = f"It has more modes than components where long ones cross: {', '.join(more)}." if more else ""
    seen = (
        f"Up to 25 components each one lowers the cross-entropy by {before:.3f} nats on average, from {few} on, and "
        f"beyond by {after:.4f}. With 25 components the density has {modes[NUM_MODES]} modes and is "
        f"{excess[NUM_MODES].value:.3f} nats above the entropy. {crossing}"
    ).strip()
    fits_rule = all(modes[size] <= size for size in sizes) and modes[NUM_MODES] == NUM_MODES
    return Outcome(fits_rule and before >= 0.05 and after <= 0.005, numbers, figure, seen, seeds)


def fitted(size: int, seed: int, iterations: int) -> tuple[float, GaussianMixture]:
    """Returns the mean log q of validation points, the same ones for each seed, nats, and the mixture."""
    data = grid_of(seed)
    model = GaussianMixture.for_data(data.spec, num_components=size)
    model.fit_em([data.points("train")[0]], iterations, tolerance=1e-5)
    with torch.no_grad():
        return model.log_prob(grid_of(0).points("val")[0]).mean().item(), model


def grid_of(seed: int) -> Grid:
    """Returns 25 Gaussians of deviation 0.07, 0.7 apart."""
    data = Grid(scale=0.2, train_size=TRAIN, test_size=TEST, seed=seed)
    data.setup()
    return data


@torch.no_grad()
def gaps_of(model: GaussianMixture) -> Tensor:
    """Returns log p - log q of held-out points, the same ones for each model, nats, (N,)."""
    data = grid_of(0)
    x, _ = data.points("test")
    return (mixture_log_density(*modes_of(data.spec), x) - model.log_prob(x)).double()


@torch.no_grad()
def count_modes(model: GaussianMixture) -> int:
    """Returns the number of local maxima of the density.

    Those of a grid are starts only, because a grid sees several on a narrow ridge that lies across it. From each the
    fixed-point iteration x = (sum_k r_k P_k)^-1 sum_k r_k P_k mu_k, with responsibilities r and precisions P, climbs to
    a maximum (Carreira-Perpinan, 2000, https://doi.org/10.1109/34.888716).
    """
    values = on_grid(model.unchecked_log_prob, torch.device("cpu"), EXTENT, CELLS).view(1, 1, CELLS, CELLS).exp()
    highest = torch.nn.functional.max_pool2d(values, 3, stride=1, padding=1)
    starts = (values == highest) & (values > LEAST_DENSITY * values.max())
    x = plane_grid(EXTENT, CELLS)[starts.flatten()].double()
    precisions = model.components.covariances().double().inverse()
    pulls = (precisions @ model.components.mean.double()[:, :, None]).squeeze(2)
    for _ in range(CLIMBS):
        shares = model.posterior(x.float()).double()
        x = torch.linalg.solve(torch.einsum("nk,kij->nij", shares, precisions), shares @ pulls)
    modes: list[Tensor] = []
    for point in x:
        if all((point - other).norm() > APART for other in modes):
            modes.append(point)
    return len(modes)
