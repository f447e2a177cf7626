"""Jacobian clamping between bounds that are too low or too high: the generator loses its code, or its smooth regions.

A GAN with Jacobian clamping is trained on Fashion-MNIST with small multi-layer perceptrons. One of the two bounds is
moved while the other is out of the way: lambda_max from far above the changes that the unclamped generator makes per
unit of the code to far below them, and lambda_min from below them to far above. FID is that of the samples.
How responsive the generator is to its code is measured by the mean distance of two samples, which for test images is
known too.
"""

from typing import Any

import torch
from torch import Tensor, nn

import zoo
from lightning_modules import JacobianClampingGAN
from zoo.studies.garments import CLASSIFIER, data_in_order, fid_of
from zoo.studies.quiet_training import fit
from zoo.studies.study import Number, Outcome, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels, truth

SEEDS = (0, 1, 2)
FREE = (0.0, 64.0)
HIGHEST = (0.5, 1.0, 2.0, 64.0)
LOWEST = (0.0, 4.0, 8.0, 16.0)
BATCHES, SAMPLES, PAIRS = 1000, 1000, 500
SETTINGS: dict[str, Any] = {"architecture": "mlp", "latent_dim": 16, "width": 32, "lr": 5e-4, "betas": (0.5, 0.99)}


@study(
    place="1.2.3, Jacobian clamping; eq. 1.45",
    claim="A lambda_max that is too small makes it too hard for the generator to respond to the code, and a "
    "lambda_min that is too large makes it impossible to give large regions a constant density.",
    rule="On average over three seeds the distance of two samples falls with each smaller lambda_max and ends below "
    "half of that of test images, and FID at the smallest lambda_max and at the largest lambda_min is above that "
    "without bounds by more than two standard errors of the difference.",
    checkpoints=(CLASSIFIER,),
)
def clamp_range(quick: bool) -> Outcome:
    """Trains with each pair of bounds and seed."""
    seeds, batches, samples = (SEEDS[:1], 2, 260) if quick else (SEEDS, BATCHES, SAMPLES)
    highest, lowest = (HIGHEST[::3], LOWEST[::3]) if quick else (HIGHEST, LOWEST)
    pairs = sorted({(FREE[0], high) for high in highest} | {(low, FREE[1]) for low in lowest})
    extractor = zoo.load_extractor(CLASSIFIER)
    runs = {pair: [one_run(pair, seed, batches, extractor, samples) for seed in seeds] for pair in pairs}
    fid, apart = ({pair: mean_of_runs([run[k] for run in found]) for pair, found in runs.items()} for k in (0, 1))
    real = distances(data_in_order(0).transform(data_in_order(0).images("test")[0][: 2 * PAIRS]))
    typical = mean_of_runs(real.tolist())

    figure, (left, right) = panels("quality", "response to the code")
    lines = {"lambda_max": [(FREE[0], high) for high in highest], "lambda_min": [(low, FREE[1]) for low in lowest]}
    for index, (name, line) in enumerate(lines.items()):
        places = [max(pair[1 - index], 1.0 if index else 0.0) for pair in line]
        for axes, values in ((left, fid), (right, apart)):
            errors = None if quick else [values[pair].error for pair in line]
            curve(axes, places, [values[pair].value for pair in line], index, f"{name} moved", errors)
    truth(right, typical.value, "test images")
    for axes, what in ((left, "FID"), (right, "distance of two samples")):
        axes.set_xscale("log")
        labels(axes, "the bound (lambda_min = 0 at 1)", what)
    left.set_yscale("log")

    numbers: dict[str, Number] = {"distance_of_test_images": typical}
    for low, high in pairs:
        numbers[f"fid_at_{low:g}_to_{high:g}"] = fid[low, high]
        numbers[f"distance_at_{low:g}_to_{high:g}"] = apart[low, high]
    tight, steep = (FREE[0], highest[0]), (lowest[-1], FREE[1])
    reached = [apart[pair].value for pair in lines["lambda_max"]]
    holds = all(a < b for a, b in zip(reached, reached[1:], strict=False)) and reached[0] < typical.value / 2
    for pair in (tight, steep):
        error = (fid[pair].error ** 2 + fid[FREE].error ** 2) ** 0.5
        holds &= fid[pair].value - fid[FREE].value > 2 * error
    seen = (
        f"Without bounds FID is {fid[FREE].value:.2f} and the distance of two samples {apart[FREE].value:.1f}, that of "
        f"test images {typical.value:.1f}. With lambda_max = {tight[1]:g} they are {fid[tight].value:.2f} and "
        f"{apart[tight].value:.1f}, with lambda_min = {steep[0]:g} {fid[steep].value:.2f} and {apart[steep].value:.1f}."
    )
    return Outcome(holds, numbers, figure, seen, seeds)


def one_run(
    bounds: tuple[float, float], seed: int, batches: int, extractor: nn.Module, samples: int
) -> tuple[float, float]:
    """Trains between two bounds; returns FID, and the mean distance of two samples."""
    torch.manual_seed(seed)
    data = data_in_order(seed)
    model = JacobianClampingGAN.for_data(data.spec, **SETTINGS, lambda_min=bounds[0], lambda_max=bounds[1])
    fit(model, data, batches)
    drawn = model.sample(2 * PAIRS, generator=torch.Generator().manual_seed(seed))
    return fid_of(model, extractor, samples), distances(drawn).mean().item()


def distances(images: Tensor) -> Tensor:
    """Returns the Euclidean distances of the first half of images (2 N, 1, 28, 28) from the second half, (N,)."""
    first, second = images.flatten(1).chunk(2)
    return (first - second).norm(dim=1)
