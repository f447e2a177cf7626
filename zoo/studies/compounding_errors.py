"""Errors compound where a model runs free on its own samples, which it never did in teacher forcing.

The source is a noisy counter: x_t = s + t modulo 8, but each symbol is replaced by a random one with probability 0.15.
A model has to keep the count over symbols that are wrong. It continues 8 true symbols by 96 of its own, and the
distribution of the offset x_t - s - t, which is the same for each t in the source, is compared with the source's in
windows of 16 steps, by the library's Jensen-Shannon divergence. With true inputs instead, -log q by window shows that
later steps are no harder as such. LSTMs are trained on 64 sequences of 32 symbols by teacher forcing, scheduled
sampling and professor forcing, and by teacher forcing on 64 times as many for comparison.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import ProfessorForcing, ScheduledSampling, TeacherForcing
from lightning_modules.autoregressive.sequence_module import SequenceModule
from lightning_modules.metrics.sequence import divergence_curve, ngram_divergence
from zoo.studies.quiet_training import fit
from zoo.studies.study import Number, Outcome, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels

SEEDS = (0, 1, 2)
SYMBOLS, NOISE, LENGTH, FEW, MANY = 8, 0.15, 32, 64, 4096
BATCHES, BATCH, WIDTH = 600, 32, 32
PREFIX, STEPS, WINDOW, HELD_OUT = 8, 96, 16, 400
SCHEDULE = {"decay": "linear", "slope": 1 / BATCHES, "floor": 0.25}
METHODS: dict[str, tuple[Callable[..., SequenceModule], int, dict[str, Any]]] = {
    "teacher forcing": (TeacherForcing, FEW, {}),
    "scheduled sampling": (ScheduledSampling, FEW, SCHEDULE),
    "professor forcing": (ProfessorForcing, FEW, {"adversarial_weight": 0.02, "discriminator_width": 32}),
    "teacher forcing, more data": (TeacherForcing, MANY, {}),
}


@study(
    place="1.2.2, autoregressive models; Bengio et al. (2015), Lamb et al. (2016)",
    claim="In sampling, small errors of prediction compound in the context, which diverges from what was seen in "
    "training. Scheduled sampling and professor forcing counter it.",
    rule="For each of three seeds the excess divergence of teacher forcing is at least twice as large in the last "
    "window as in the first, and its -log q on true inputs rises by less than 0.05 nats per step. On average over "
    "seeds scheduled sampling and professor forcing end below teacher forcing on the same data.",
)
def exposure_bias(quick: bool) -> Outcome:
    """Trains with each method and seed."""
    seeds, batches = (SEEDS[:1], 2) if quick else (SEEDS, BATCHES)
    figure, (left, right) = panels("free running", "true inputs")
    starts = [start + WINDOW / 2 for start in range(0, STEPS, WINDOW)]
    numbers: dict[str, Number] = {}
    runs = {name: [one_run(*METHODS[name], seed, batches) for seed in seeds] for name in METHODS}
    for index, (name, found) in enumerate(runs.items()):
        for axes, kind in ((left, 0), (right, 1)):
            means = [mean_of_runs([run[kind][w].item() for run in found]) for w in range(len(starts))]
            errors = None if quick else [mean.error for mean in means]
            curve(axes, starts, [mean.value for mean in means], index, name, errors)
            for end, place in (("first", 0), ("last", -1)):
                what = f"{'nats_per_step' if kind else 'excess_js_nats'}_{end}_window"
                numbers[f"{what}_{name.replace(', ', '_').replace(' ', '_')}"] = means[place]
    labels(left, "steps since the last true one", "excess JS of offsets, nats")
    labels(right, "steps since the last true one", "-log q, nats per step", legend=False)
    teacher = runs["teacher forcing"]
    grows = all(js[-1] >= 2 * js[0] and js[-1] > 0 and nats[-1] - nats[0] < 0.05 for js, nats in teacher)
    first = {name: sum(run[0][0].item() for run in found) / len(found) for name, found in runs.items()}
    last = {name: sum(run[0][-1].item() for run in found) / len(found) for name, found in runs.items()}
    better = all(last[name] < last["teacher forcing"] for name in ("scheduled sampling", "professor forcing"))
    seen = (
        "From the first to the last window the excess divergence goes "
        + ", ".join(f"from {first[name]:.2g} to {last[name]:.2g} nats for {name}" for name in METHODS)
        + f". On true inputs -log q of teacher forcing changes by "
        f"{sum((nats[-1] - nats[0]).item() for _, nats in teacher) / len(teacher):.3f} nats per step."
    )
    return Outcome(grows and better, numbers, figure, seen, seeds)


def counter(num: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns sequences of the source, int64 (num, length), and their starts s, (num, 1)."""
    start = torch.randint(SYMBOLS, (num, 1), generator=generator)
    wrong = torch.rand(num, length, generator=generator) < NOISE
    anything = torch.randint(SYMBOLS, (num, length), generator=generator)
    return torch.where(wrong, anything, (start + torch.arange(length)) % SYMBOLS), start


def one_run(
    method: Callable[..., SequenceModule], num: int, settings: dict[str, Any], seed: int, batches: int
) -> tuple[Tensor, Tensor]:
    """Trains a model; returns the excess divergence of its offsets, and -log q on true inputs, both by window."""
    generator = torch.Generator().manual_seed(seed)
    x, _ = counter(num, LENGTH, generator)
    torch.manual_seed(seed)
    lengths = torch.full((num,), LENGTH)
    model = method(length=LENGTH, vocabulary_size=SYMBOLS, width=WIDTH, lr=1e-2, decay_steps=batches, **settings)
    fit(model, DataLoader(TensorDataset(x, lengths), batch_size=BATCH, shuffle=True), batches)

    real, start = counter(HELD_OUT, PREFIX + STEPS, generator)
    free = model.continue_sequence(real[:, :PREFIX], STEPS, generator=generator)
    places = torch.arange(PREFIX + STEPS)
    true, own = (((sequences - start - places) % SYMBOLS)[:, PREFIX:] for sequences in (real, free))
    js = divergence_curve(partial(ngram_divergence, n=1), true, own, WINDOW)
    with torch.no_grad():
        nats = -model.step_log_prob(real)[0][:, PREFIX:].mean(0)
    return js.excess, nats.unflatten(0, (-1, WINDOW)).mean(1)
