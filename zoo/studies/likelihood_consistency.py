"""The likelihood of test data detects overfitting, and is consistent: with more data it goes to the entropy.

LSTMs are trained by teacher forcing on n fixed sequences of a Markov chain, whose entropy is known. Along the training
-log q is measured on the training sequences and on test sequences. With few of them the two part, and the test value
rises again. The model of the lowest value on validation sequences is kept, as early stopping does; its test value is
compared with the entropy over n. Excesses are means of log p - log q of the same sequences under the source.
"""

import torch
from torch import Tensor

from datamodules import MarkovSource
from lightning_modules import TeacherForcing
from zoo.studies.quiet_training import Along, fit
from zoo.studies.study import Number, Outcome, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels, truth

SEEDS = (0, 1, 2)
SIZES = (16, 64, 256, 1024, 4096)
BATCHES, PLACES = 900, (0, 30, 60, 100, 150, 200, 300, 450, 600, 750, 900)
LENGTH, WIDTH, RATE, TEST = 24, 48, 5e-3, 1000


@study(
    place="1.2.2, evaluation criteria",
    claim="The average likelihood on held-out data is able to detect overfitting and is consistent.",
    rule="With 16 sequences the test value ends above the training value by more than 0.2 nats per step and rises by "
    "more than 0.1 after its lowest value; with 4 096 the two differ by less than 0.02. The excess over the entropy of "
    "the model of the best validation value falls with each n, on average over three seeds, and ends below 3 %.",
)
def likelihood_consistency(quick: bool) -> Outcome:
    """Trains on each number of sequences with each seed."""
    seeds, sizes, places = (SEEDS[:1], SIZES[::4], PLACES[:2]) if quick else (SEEDS, SIZES, PLACES)
    runs = {size: [one_run(size, seed, places) for seed in seeds] for size in sizes}
    figure, (left, right) = panels("along the training", "excess of the best model")
    for index, size in enumerate((sizes[0], sizes[-1])):
        for kind, values in enumerate(zip(*(runs[size][0][place] for place in places), strict=True)):
            name = ("training", "validation", "test")[kind]
            if name != "validation":
                curve(left, places, values, 2 * index + (kind > 0), f"{name}, n = {size}")
    truth(left, 0.0, "entropy")
    labels(left, "batches", "-log q less the entropy, nats per step")
    best = {size: mean_of_runs([kept(run)[2] for run in runs[size]]) for size in sizes}
    errors = None if quick else [mean.error for mean in best.values()]
    curve(right, sizes, [mean.value for mean in best.values()], 0, "test data", errors)
    right.set_xscale("log")
    right.set_yscale("log")
    labels(right, "training sequences n", "nats per step")

    last = places[-1]
    gaps = {size: mean_of_runs([run[last][2] - run[last][0] for run in runs[size]]) for size in sizes}
    rise = mean_of_runs([run[last][2] - min(values[2] for values in run.values()) for run in runs[sizes[0]]])
    rate = min(source(sizes[0], seed).spec.entropy_rate or 0.0 for seed in seeds)
    numbers: dict[str, Number] = {f"gap_nats_per_step_n{size}": gap for size, gap in gaps.items()}
    numbers |= {f"excess_nats_per_step_n{size}": value for size, value in best.items()}
    numbers |= {f"rise_after_the_lowest_n{sizes[0]}": rise, "lowest_entropy_rate_nats": Number(rate, 0.0)}
    falling = [mean.value for mean in best.values()]
    holds = (
        gaps[sizes[0]].value > 0.2
        and rise.value > 0.1
        and abs(gaps[sizes[-1]].value) < 0.02
        and all(a > b for a, b in zip(falling, falling[1:], strict=False))
        and falling[-1] < 0.03 * rate
    )
    seen = (
        f"With {sizes[0]} sequences the test value ends {gaps[sizes[0]].value:.2f} nats per step above the training "
        f"value, {rise.value:.2f} above its lowest; with {sizes[-1]} the two differ by "
        f"{gaps[sizes[-1]].value:.3f}. The excess of the best model falls from {falling[0]:.3f} to "
        f"{falling[-1]:.4f} nats per step, of an entropy of {rate:.3f}."
    )
    return Outcome(holds, numbers, figure, seen, seeds)


def source(size: int, seed: int) -> MarkovSource:
    """Returns a Markov chain with ``size`` fixed training sequences."""
    data = MarkovSource(
        num_symbols=4, order=2, length=LENGTH, train_size=size, val_size=TEST, test_size=TEST, fresh=False, seed=seed
    )
    data.batch_size = min(64, size)
    data.setup()
    return data


def one_run(size: int, seed: int, places: tuple[int, ...]) -> dict[int, tuple[float, ...]]:
    """Returns the excess on training, validation and test sequences, nats per step, by the number of batches."""
    torch.manual_seed(seed)
    data = source(size, seed)
    splits = [data.sequences(split)[0][:TEST] for split in ("train", "val", "test")]
    model = TeacherForcing.for_data(data.spec, width=WIDTH, lr=RATE, weight_decay=0.0)
    along = Along(places, lambda module: tuple(excess(data, module, x) for x in splits))
    fit(model, data, places[-1], along)
    return along.values


@torch.no_grad()
def excess(data: MarkovSource, model: TeacherForcing, x: Tensor) -> float:
    """Returns the mean of log p - log q, nats per step."""
    return (data.log_prob(x) - model.log_prob(x)).mean().item() / LENGTH


def kept(run: dict[int, tuple[float, ...]]) -> tuple[float, ...]:
    """Returns the excesses where that of the validation sequences is lowest."""
    return min(run.values(), key=lambda values: values[1])
