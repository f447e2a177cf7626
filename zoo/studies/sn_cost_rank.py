"""Spectral norm beside the gradient penalty: its cost, the rank that it leaves, and where the critic is Lipschitz.

Cost: seconds of the processor for loss and gradient of one step of the critic, with networks of the zoo's SNGAN: plain,
with spectral norm and with a gradient penalty, in turns. This study first took the shortest of eight turns, without an
error, and spectral norm seemed to gain 6 %; now it takes the mean ratio of twenty. Rank: the layers of the zoo's two
critics as matrices (out, in * kh * kw); the effective rank, the exponential of the entropy of the singular values over
their sum (Roy and Vetterli, 2007), is told as a fraction of the possible one. Lipschitz constant: norms of the gradient
at test images, between these and samples, where the penalty acts, at noise, and where steps along the sign of the
gradient lead to from noise. All are lower bounds.

NOTE: The critics differ in more: hinge loss, 12 000 steps and 64 channels with spectral norm, the Wasserstein game,
5 000 steps and 32 channels with the penalty. Each is compared with the same network before training.
"""

import time
from typing import Any

import torch
from torch import Generator, Tensor, nn

from lightning_modules.adversarial.gan import NonSaturatingGAN
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.adversarial.spectral_norm import SNGAN
from lightning_modules.adversarial.wgan_gp import WGANGP
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.penalties import gradient_norm, on_segment
from zoo.loading import load
from zoo.studies.garments import images, sampled
from zoo.studies.study import Number, Outcome, exact, mean_of_runs, study
from zoo.studies.study_figures import COLOURS, MARKERS, curve, labels, panels

SPECTRAL, PENALISED = "sngan.fashion_mnist", "wgan_gp.fashion_mnist"
NUM, STEPS, STEP, RUNS, BATCH = 100, 50, 0.05, 20, 64
SIZES: dict[str, Any] = {"shape": [1, 28, 28], "architecture": "dcgan", "width": 32, "discriminator_width": 64}
PLACES = ("data", "between", "noise", "climbed")


@study(
    place="1.2.3, spectral normalization; eq. 1.42 to 1.44",
    claim="Spectral norm costs almost nothing, unlike the gradient penalty; it does not push the rank of the weights "
    "down, as the penalty does; and it holds everywhere, where the penalty holds only where it is applied.",
    rule="Spectral norm adds less than 15 % to a step of the critic, and the penalty more than 50 %. The effective "
    "rank of the critic with spectral norm is a larger fraction of the possible one than that of the critic with the "
    "penalty, in each layer, and training has lowered it less. The largest norm of the gradient is at "
    "most 1 at all four kinds of places with spectral norm; with the penalty it is above 1.5 off the data.",
    checkpoints=(SPECTRAL, PENALISED),
)
def sn_cost_rank(quick: bool) -> Outcome:
    """Times a step of three critics, then looks at the layers and gradients of the zoo's two."""
    cost = seconds_per_step(2 if quick else RUNS, 4 if quick else BATCH)
    numbers: dict[str, Number] = {}
    for name in ("spectral_norm", "penalty"):
        pairs = zip(cost[name], cost["plain"], strict=True)
        numbers[f"percent_added_by_{name}"] = mean_of_runs([100 * (one / plain - 1) for one, plain in pairs])
    added = {name: numbers[f"percent_added_by_{name}"].value for name in cost if name != "plain"}
    figure, (left, middle, right) = panels("singular values, last convolution", "effective rank", "gradients")
    fractions, change = dict[str, list[float]](), dict[str, list[float]]()
    largest: dict[str, dict[str, float]] = {}
    for index, (name, checkpoint) in enumerate((("spectral_norm", SPECTRAL), ("penalty", PENALISED))):
        module = load(checkpoint, AdversarialModule)
        trained = matrices(module)
        torch.manual_seed(0)
        before = matrices(type(module)(**module.hparams))
        fractions[name] = [effective_rank(matrix) for matrix in trained]
        at_first = list(map(effective_rank, before))
        change[name] = [after - first for after, first in zip(fractions[name], at_first, strict=True)]
        label = name.replace("_", " ")
        for found, shown, offset in ((trained, label, 0), (before, f"{label}, untrained", 2)):
            values = torch.linalg.svdvals(found[-1])
            share = [(place + 1) / len(values) for place in range(len(values))]
            curve(left, share, (values / values[0]).tolist(), index + offset, shown)
        style: dict[str, Any] = {"marker": MARKERS[index], "color": COLOURS[index], "linestyle": "none"}
        middle.plot(range(1, len(trained) + 1), fractions[name], label=label, **style)
        middle.plot(range(1, len(before) + 1), at_first, label=f"{label}, untrained", fillstyle="none", **style)
        norms = gradients(module, 8 if quick else NUM, 2 if quick else STEPS)
        largest[name] = {place: values.max().item() for place, values in norms.items()}
        right.plot(range(4), list(largest[name].values()), label=label, **style)
        numbers |= {f"rank_fraction_{name}_layer_{i + 1}": exact(value) for i, value in enumerate(fractions[name])}
        numbers |= {f"rank_change_{name}_layer_{i + 1}": exact(value) for i, value in enumerate(change[name])}
        for place, values in norms.items():
            numbers[f"mean_gradient_{name}_{place}"] = mean_of_runs(values.tolist())
            numbers[f"largest_gradient_{name}_{place}"] = exact(largest[name][place])
    labels(left, "index over number of singular values", "over the largest one")
    middle.set_ylim(0, 1.1)
    middle.set_xticks(range(1, 4))
    labels(middle, "layer", "fraction of the possible rank")
    right.axhline(1, color="0.35", linewidth=1.2, linestyle="dashed")
    right.set_xticks(range(4), PLACES)
    labels(right, "", "largest norm of the gradient")
    right.set_yscale("log")

    cheap = added["spectral_norm"] < 15 and added["penalty"] > 50
    both = [pair for of in (fractions, change) for pair in zip(of["spectral_norm"], of["penalty"], strict=True)]
    full = all(one > other for one, other in both)
    spread = max(largest["spectral_norm"].values()) <= 1 < 1.5 < max(largest["penalty"][x] for x in PLACES[2:])
    seen = (
        f"Spectral norm adds {added['spectral_norm']:.0f} % to a step of the critic, the penalty "
        f"{added['penalty']:.0f} %. Effective ranks are {listed(fractions['spectral_norm'])} of the possible "
        f"ones with spectral norm and {listed(fractions['penalty'])} with the penalty, and training has changed them "
        f"by {listed(change['spectral_norm'])} and {listed(change['penalty'])}. The largest norms of gradients are "
        f"{listed(list(largest['spectral_norm'].values()))} and {listed(list(largest['penalty'].values()))} at test "
        "images, between, at noise and where steps along it lead."
    )
    return Outcome(cheap and full and spread, numbers, figure, seen, (0,))


def seconds_per_step(runs: int, batch: int) -> dict[str, list[float]]:
    """Returns seconds of the processor for loss and gradient of a critic's step, by what constrains it."""
    built = (NonSaturatingGAN(**SIZES), SNGAN(**SIZES), WGANGP(**SIZES))
    modules: dict[str, AdversarialModule] = dict(zip(("plain", "spectral_norm", "penalty"), built, strict=True))
    real, seconds = torch.rand(batch, 1, 28, 28) * 2 - 1, {name: list[float]() for name in modules}
    for run in range(runs + 1):
        for name, module in modules.items():
            start = time.process_time()
            losses, penalties = module.discriminator_losses(real, None, 0)
            torch.stack([*losses.values(), *penalties.values()]).sum().backward()
            seconds[name] += [time.process_time() - start] if run else []  # the first run is slower
    return seconds


def effective_rank(matrix: Tensor) -> float:
    """Returns exp(entropy of s / sum(s)) of the singular values s over their number, in (0, 1]."""
    values = torch.linalg.svdvals(matrix)
    return torch.special.entr(values / values.sum()).sum().exp().item() / len(values)


def gradients(module: AdversarialModule, num: int, steps: int) -> dict[str, Tensor]:
    """Returns norms of the critic's gradient by kind of place, (num,) each."""
    critic = module.discriminator.requires_grad_(False)
    noise = Noise(Generator().manual_seed(0))
    real, fake = (x.float() / 127.5 - 1 for x in (images("test", num)[0], sampled(module, num)))
    random = 2 * noise.uniform(*real.shape, device=real.device) - 1
    climbed = random
    for _ in range(steps):
        climbed = climbed.detach().requires_grad_()
        (slope,) = torch.autograd.grad(critic(climbed).sum(), climbed)
        climbed = (climbed + STEP * slope.sign()).clamp(-1, 1)
    places = (real, on_segment(real, fake, noise), random, climbed)
    return {name: gradient_norm(critic, x).detach() for name, x in zip(PLACES, places, strict=True)}


def matrices(module: AdversarialModule) -> list[Tensor]:
    """Returns the weights of the critic's layers but the last, (out, in) each."""
    layers = [layer for layer in module.discriminator.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    return [layer.weight.detach().flatten(1) for layer in layers if len(layer.weight) > 1]


def listed(values: list[float]) -> str:
    """Returns numbers for a sentence."""
    return ", ".join(f"{value:.2f}" for value in values)
