"""Contrastive divergence replaces the samples of the model, and its gradient is biased by that.

A restricted Boltzmann machine of 9 visible and 8 hidden units is trained by the library's PCD-1 on bars and stripes.
Along the training the gradient of eq. 1.28 is compared at the same weights with that of CD-k, whose chains start at the
data, and with that of PCD-1, whose chains go on from one step to the next. All of them are exact expectations: the
distribution of the chains is a vector over all 512 visible states, which a step of Gibbs sampling multiplies by the
conditionals of the machine. The bias is the norm of the difference of the gradients by all parameters. The learning
rate falls to zero, so that persistent chains can follow the model in the end.

The machine's own training has as many chains as a batch has images; the vector is what infinitely many would do.
"""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import RBM
from zoo.studies.binary_states import binary_states
from zoo.studies.quiet_training import Along, fit
from zoo.studies.study import Number, Outcome, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels

SEEDS = (0, 1, 2)
STEPS = (1, 3, 10, 30)
SIDE, HIDDEN, COPIES, RATE = 3, 8, 10, 0.2
PLACES = (0, 100, 200, 400, 600, 800, 1000, 1300, 1600, 2000, 2500)


@study(
    place="1.2.2, eq. 1.28",
    claim="Contrastive divergence is an approximation, which replaces the samples of the model in the gradient by "
    "short Gibbs chains that start from the data.",
    rule="At the end of the training, for each of three seeds, the bias of CD-k falls with k (1, 3, 10, 30), and that "
    "of PCD-1 is below that of CD-1.",
)
def cd_bias(quick: bool) -> Outcome:
    """Measures the biases along the training of each seed."""
    seeds, places = (SEEDS[:1], PLACES[:3]) if quick else (SEEDS, PLACES)
    runs = [biases(seed, places) for seed in seeds]
    names = list(runs[0][places[0]])
    figure, (axes, curves) = panels("bias along the training", "bias at the end, by k")
    numbers: dict[str, Number] = {}
    for index, name in enumerate(names):
        means = [mean_of_runs([run[place][name] for run in runs]) for place in places]
        curve(axes, places, [mean.value for mean in means], index, name, None if quick else [m.error for m in means])
        numbers[f"bias_at_the_end_{name}"] = means[-1]
    axes.set_xscale("symlog", linthresh=100)
    axes.set_yscale("log")
    labels(axes, "batches", "norm of the bias of the gradient")
    last = [run[places[-1]] for run in runs]
    for index, (seed, bias) in enumerate(zip(seeds, last, strict=True)):
        curve(curves, STEPS, [bias[f"CD-{k}"] for k in STEPS], index, f"CD-k, seed {seed}")
        curves.axhline(bias["PCD-1"], color="0.5", linewidth=1, linestyle="dotted", label=None if index else "PCD-1")
    curves.set_xscale("log")
    curves.set_yscale("log")
    labels(curves, "Gibbs steps k", "norm of the bias of the gradient")
    falls = all(all(bias[f"CD-{a}"] > bias[f"CD-{b}"] for a, b in zip(STEPS, STEPS[1:], strict=False)) for bias in last)
    persistent = all(bias["PCD-1"] < bias["CD-1"] for bias in last)
    at_end = {name: numbers[f"bias_at_the_end_{name}"].value for name in names}
    seen = (
        f"At the end the norm of the bias is {at_end['CD-1']:.2g} for CD-1, {at_end['CD-10']:.2g} for CD-10 and "
        f"{at_end['CD-30']:.2g} for CD-30; for PCD-1 it is {at_end['PCD-1']:.2g}. The bias of CD-k "
        f"{'falls' if falls else 'does not always fall'} with k, and that of PCD-1 is "
        f"{'below' if persistent else 'not always below'} that of CD-1."
    )
    return Outcome(falls and persistent, numbers, figure, seen, seeds)


def biases(seed: int, places: tuple[int, ...]) -> dict[int, dict[str, float]]:
    """Trains a machine; returns the biases by the number of batches and the name of the estimator."""
    torch.manual_seed(seed)
    images = bars_and_stripes().repeat(COPIES, 1, 1, 1).float()
    model = RBM(shape=(1, SIDE, SIDE), num_hidden=HIDDEN, cd_steps=1, lr=RATE, decay_steps=places[-1])
    chains = InfinitelyMany(images)
    along = Along(places, lambda module: measured(module, chains.data, chains.now))
    # The chains first: they start from the data before the first batch, and move with the weights of each step.
    fit(model, DataLoader(TensorDataset(images), batch_size=len(images)), places[-1], chains, along)
    return along.values


class InfinitelyMany(Callback):
    """The distribution of infinitely many persistent chains over all visible states, which start at the data.

    Args:
        images: The data, (N, 1, SIDE, SIDE) in {0, 1}.
    """

    def __init__(self, images: Tensor) -> None:
        places = 2 ** torch.arange(SIDE**2)
        numbers = (images.flatten(1).long() * places).sum(1)
        self.data = torch.bincount(numbers, minlength=2**SIDE**2).double() / len(images)
        self.now = self.data

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Makes the Gibbs step that PCD-1 makes before its gradient."""
        self.now = gibbs_step(self.now, *conditionals(pl_module))


@torch.no_grad()
def conditionals(model: Any) -> tuple[Tensor, Tensor]:
    """Returns p(h | v), (512, 256), and p(v | h), (256, 512), of all states."""
    v, h = binary_states(SIDE**2), binary_states(HIDDEN)
    to_hidden = model.hidden_input(v).double()
    to_visible = model.visible_input(h.float()).double()
    p_hidden = to_hidden @ h.T - torch.nn.functional.softplus(to_hidden).sum(1, keepdim=True)
    p_visible = to_visible @ v.T - torch.nn.functional.softplus(to_visible).sum(1, keepdim=True)
    return p_hidden.exp(), p_visible.exp()


def gibbs_step(distribution: Tensor, p_hidden: Tensor, p_visible: Tensor) -> Tensor:
    """Returns the distribution of visible states after a step of block Gibbs sampling."""
    return distribution @ p_hidden @ p_visible


def measured(model: Any, data: Tensor, persistent: Tensor) -> dict[str, float]:
    """Returns the norm of the bias of each estimator at the present weights."""
    kernel = conditionals(model)
    energy = model.unchecked_energy(binary_states(SIDE**2))
    own = (-energy.detach()).double().softmax(0)
    chain, found = data, {}
    for k in range(1, max(STEPS) + 1):
        chain = gibbs_step(chain, *kernel)
        if k in STEPS:
            found[f"CD-{k}"] = norm(model, energy, own - chain)
    return found | {"PCD-1": norm(model, energy, own - gibbs_step(persistent, *kernel))}


def norm(model: Any, energy: Tensor, difference: Tensor) -> float:
    """Returns the norm of the gradient, by all parameters, of the energy under a difference of distributions."""
    total = (difference.to(energy) * energy).sum()
    parts = torch.autograd.grad(total, list(model.parameters()), retain_graph=True)
    return torch.cat([part.flatten() for part in parts]).norm().item()


def bars_and_stripes() -> Tensor:
    """Returns the 14 images (1, SIDE, SIDE) whose rows or whose columns are uniform."""
    bars = binary_states(SIDE)[:, :, None].expand(-1, SIDE, SIDE)
    return torch.cat([bars, bars[1:-1].transpose(1, 2)]).unsqueeze(1)
