"""The first steps of a sequence hold more than their share of the entropy, which is why beginning is hard.

The zoo's models of text (characters), music (frames of chorales) and images (pixels, row by row) predict held-out
sequences from their start, with no steps before it. The mean of -log q by the number of steps seen is the
cross-entropy of the model, an upper bound of the entropy of that step given the steps before it. It is compared between
the first sixteenth of the steps and the rest. A sequence of text is a window of 96 characters that begins anywhere, so
its first steps are those of a reader who opens the book at some page; chorales and images begin at their beginning.
"""

from typing import Any

import torch
from torch import Tensor

import zoo
from zoo.data import held_out_batch
from zoo.studies.study import Number, Outcome, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels, truth

CHECKPOINTS = {
    "text": "teacher_forcing.tinyshakespeare",
    "music": "teacher_forcing.jsb_chorales",
    "pixels": "teacher_forcing.fashion_mnist_pixels",
}
STEPS = {"text": 96, "music": 48, "pixels": 784}
PARTS, MOST = 16, 120
ERRORS = 2.0


@study(
    place="1.2.2, autoregressive models",
    claim="The first few steps of a sequence contain a great deal of entropy, because they constrain the content of "
    "all that follows; it is related to writer's block.",
    rule="For each of text, music and pixels the mean nats per step of the first sixteenth of the steps are above "
    "those of the rest by more than two standard errors over held-out sequences.",
    checkpoints=tuple(CHECKPOINTS.values()),
)
def first_steps(quick: bool) -> Outcome:
    """Measures each kind of sequence by position."""
    figure, panel = panels(*(f"{kind}: {STEPS[kind]} steps" for kind in CHECKPOINTS))
    numbers: dict[str, Number] = {}
    gaps: dict[str, Number] = {}
    for index, (axes, (kind, name)) in enumerate(zip(panel, CHECKPOINTS.items(), strict=True)):
        nats = by_position(name, 4 if quick else MOST, 2 * PARTS if quick else STEPS[kind])
        first = nats.shape[1] // PARTS
        gaps[kind] = mean_of_runs((nats[:, :first].mean(1) - nats[:, first:].mean(1)).tolist())
        numbers[f"{kind}_nats_per_step_first"] = mean_of_runs(nats[:, :first].mean(1).tolist())
        numbers[f"{kind}_nats_per_step_rest"] = mean_of_runs(nats[:, first:].mean(1).tolist())
        numbers[f"{kind}_first_minus_rest"] = gaps[kind]
        numbers[f"{kind}_percent_of_nats_in_the_first_{100 / PARTS:g}_percent"] = percent_of(
            nats[:, :first].sum(1), nats.sum(1)
        )
        places = stretches(nats.shape[1])
        means = [mean_of_runs(nats[:, start:end].mean(1).tolist()) for start, end in places]
        middles = [(start + 1 + end) / 2 for start, end in places]
        curve(axes, middles, [mean.value for mean in means], index, None, [mean.error for mean in means])
        truth(axes, nats.mean().item(), "mean over all steps")
        axes.axvline(first + 0.5, color="0.7", linewidth=1, linestyle="dotted", label="first sixteenth")
        axes.set_xscale("log")
        labels(axes, "step", "-log q, nats per step")
    share = {kind: numbers[f"{kind}_percent_of_nats_in_the_first_6.25_percent"].value for kind in CHECKPOINTS}
    held = [kind for kind, gap in gaps.items() if gap.value > ERRORS * gap.error]
    seen = (
        "The first sixteenth of the steps holds "
        + ", ".join(f"{value:.1f} % of the nats of {kind}" for kind, value in share.items())
        + f", where an even spread would be {100 / PARTS:g} %. It is above the rest for {' and '.join(held) or 'none'}"
        + ("" if len(held) == len(gaps) else "; images begin with background, and their entropy is in the middle")
        + "."
    )
    return Outcome(len(held) == len(gaps), numbers, figure, seen, (0,))


@torch.no_grad()
def by_position(name: str, num: int, steps: int) -> Tensor:
    """Returns -log q(x_t | x_<t) of the first steps of held-out sequences that are as long, nats, (N, steps)."""
    model: Any = zoo.load(name)
    batch = held_out_batch(zoo.card(name), num)
    x = batch.x if batch.lengths is None else batch.x[batch.lengths >= steps]
    values, _ = model.step_log_prob(model.sequences(x[:, :steps]))
    return -values.double()


def stretches(steps: int) -> list[tuple[int, int]]:
    """Returns consecutive stretches of steps, each about a fifth longer than the one before it."""
    places = [0]
    while places[-1] < steps:
        places.append(min(steps, max(places[-1] + 1, round(places[-1] * 1.2))))
    return list(zip(places, places[1:], strict=False))


def percent_of(parts: Tensor, wholes: Tensor) -> Number:
    """Returns how many percent of a sum over independent sequences are in a part of it, with the error of a ratio."""
    share = parts.sum() / wholes.sum()
    return Number(100 * share.item(), 100 * mean_of_runs(((parts - share * wholes) / wholes.mean()).tolist()).error)
