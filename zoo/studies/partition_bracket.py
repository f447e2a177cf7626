"""Annealed importance sampling and its reverse approximate log Z, from below and from above.

Five restricted Boltzmann machines of 16 visible and 12 hidden units have large random weights, so that their modes are
far apart, and an exact log Z, by enumeration. The log-weight of a chain of AIS is at most log Z in expectation. A chain
of reverse annealing that starts at an exact sample x of the model gives -F(x) minus a lower bound of log p_ann(x),
which is at least log Z in expectation. The two bracket log Z (bidirectional Monte Carlo; Grosse, Ghahramani and Adams,
2015, https://arxiv.org/abs/1511.02543), and the bracket narrows with the number of temperatures.

The usual estimate, the logarithm of the mean weight, is better than the lower end of the bracket, but with few
temperatures a few chains dominate it. It is flagged by its effective sample size.
"""

import warnings

import torch
from torch import Generator, Tensor

from lightning_modules import RBM
from lightning_modules.energy.annealing_paths import bernoulli
from lightning_modules.energy.partition import LowEffectiveSampleSize
from zoo.studies.binary_states import binary_states
from zoo.studies.study import Number, Outcome, exact, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels, truth

SEEDS = (0, 1, 2, 3, 4)
TEMPERATURES = (3, 10, 30, 100, 300, 1000, 3000)
SHAPE, HIDDEN, SCALE = (1, 4, 4), 12, 1.0
CHAINS = 100
ERRORS, FAR = 4.0, 0.5


@study(
    place="1.2.2, energy-based models",
    claim="Annealed importance sampling and reverse annealing estimate the partition function, but both are "
    "approximations and need an iterative procedure.",
    rule="For each of five models and seven numbers of temperatures the exact log Z lies in the bracket within four "
    "standard errors. The mean gap falls with each larger number of temperatures. Each estimate of AIS that is off by "
    "more than 0.5 nats is flagged by its effective sample size.",
)
def partition_bracket(quick: bool) -> Outcome:
    """Brackets log Z of each model with each number of temperatures."""
    seeds, schedules, chains = (SEEDS[:2], TEMPERATURES[:3], 40) if quick else (SEEDS, TEMPERATURES, CHAINS)
    found = [[bracket(seed, schedule, chains) for seed in seeds] for schedule in schedules]
    rows = [row for runs in found for row in runs]
    gaps = [mean_of_runs([run["upper"].value - run["lower"].value for run in runs]) for runs in found]
    inside = all(
        run["lower"].value <= ERRORS * run["lower"].error and run["upper"].value >= -ERRORS * run["upper"].error
        for run in rows
    )
    falls = all(before.value > after.value for before, after in zip(gaps, gaps[1:], strict=False))
    far = [run for run in rows if abs(run["estimate"].value) > FAR]
    unflagged = [run for run in far if run["share"].value >= 0.5]

    figure, (left, right) = panels("bracket of log Z", "error and effective sample size")
    for number, name in enumerate(("lower", "upper", "estimate")):
        means = [mean_of_runs([run[name].value for run in runs]) for runs in found]
        label = {"lower": "AIS, mean log-weight", "upper": "reverse", "estimate": "AIS, log mean weight"}[name]
        curve(left, schedules, [value for value, _ in means], number, label, [error for _, error in means])
    truth(left, 0.0, "exact")
    left.set_xscale("log")
    left.set_yscale("symlog", linthresh=0.1)
    labels(left, "temperatures", "minus the exact log Z, nats")
    curve(
        right, schedules, [sum(run["share"].value for run in runs) / len(runs) for runs in found], 3, "share of chains"
    )
    curve(
        right,
        schedules,
        [sum(abs(run["estimate"].value) for run in runs) / len(runs) for runs in found],
        2,
        "|error| of AIS, nats",
    )
    truth(right, 0.5, "flagged below this share")
    right.set_xscale("log")
    right.set_yscale("log")
    labels(right, "temperatures", "effective sample size / chains, and nats")

    numbers = {f"gap_nats_{schedule}_temperatures": gap for schedule, gap in zip(schedules, gaps, strict=True)}
    numbers |= {
        "estimates_off_by_half_a_nat": exact(len(far)),
        "of_these_not_flagged": exact(len(unflagged)),
        "largest_error_nats": exact(max(abs(run["estimate"].value) for run in rows)),
    }
    seen = (
        f"The gap falls from {gaps[0].value:.2g} nats with {schedules[0]} temperatures to {gaps[-1].value:.2g} with "
        f"{schedules[-1]}. The exact value lies {'inside of' if inside else 'outside of some of'} the brackets. "
        f"{len(far)} of {len(rows)} estimates are off by more than half a nat, and {len(unflagged)} of these are not "
        "flagged."
    )
    return Outcome(inside and falls and not unflagged, numbers, figure, seen, seeds)


def bracket(seed: int, schedule: int, chains: int) -> dict[str, Number]:
    """Returns both ends, the estimate of AIS, minus the exact log Z, and the share of its effective sample size."""
    generator = torch.Generator().manual_seed(seed)
    model = random_machine(generator)
    known = model.exact_log_partition()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LowEffectiveSampleSize)  # this flag is what the study looks at
        forward = model.log_partition(schedule, num_chains=chains, generator=generator)
    x = exact_samples(model, chains, generator)
    backward = model.reverse_log_likelihood(x, schedule, generator=generator)
    upper = -model.energy(x).detach() - backward.log_likelihood
    return {
        "lower": mean_of_runs((forward.log_weights - known).tolist()),
        "upper": mean_of_runs((upper - known).tolist()),
        "estimate": Number(forward.log_partition - known, forward.standard_error),
        "share": exact(forward.effective_sample_size / chains),
    }


def random_machine(generator: Generator) -> RBM:
    """Returns a machine with standard normal weights and biases."""
    model = RBM(shape=SHAPE, num_hidden=HIDDEN).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(SCALE * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def exact_samples(model: RBM, num: int, generator: Generator) -> Tensor:
    """Returns independent samples of the model, (num, *shape): hidden states by their probability, then visible."""
    states = binary_states(HIDDEN)
    with torch.no_grad():
        weights = (-model.hidden_free_energy(states)).softmax(0)
        hidden = states[torch.multinomial(weights, num, replacement=True, generator=generator)]
        return bernoulli(model.visible_input(hidden), generator).view(num, *SHAPE)
