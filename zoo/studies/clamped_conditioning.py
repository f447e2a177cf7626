"""Jacobian clamping keeps a generator's output from changing too much or too little with the code (eq. 1.45).

The same GAN on Fashion-MNIST, with small multi-layer perceptrons, is trained without and with the penalty on changes
outside of [lambda_min, lambda_max]. The condition number is that of J^T J, with all singular values of the generator's
Jacobian J, at 64 codes. Bounds are those of the paper, 1 and 20.

In a first run of 500 batches with bounds of 2 and 4 the log condition number was 6.9 without clamping and 7.1 with it,
and FID 63.5 and 43.7: models that had hardly learned to draw. Now there are 2 000 batches. The rule is as it was.

NOTE: The penalty measures one random direction at a time, and so the mean over directions of the squared singular
values, which says little of the smallest one.
"""

from typing import Any

import torch

import zoo
from lightning_modules import JacobianClampingGAN, NonSaturatingGAN
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.metrics.generator_jacobian import condition_numbers, jacobian_spectrum
from zoo.studies.garments import CLASSIFIER, data_in_order, fid_of
from zoo.studies.quiet_training import Along, fit
from zoo.studies.study import Number, Outcome, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels

SEEDS = (0, 1, 2)
PLACES = (50, 200, 500, 1000, 2000)
CODES, SAMPLES = 64, 1000
SETTINGS: dict[str, Any] = {"architecture": "mlp", "latent_dim": 16, "width": 32, "lr": 4e-4, "betas": (0.5, 0.99)}
BOUNDS: dict[str, Any] = {"lambda_min": 1.0, "lambda_max": 20.0, "jacobian_clamping": 1.0}
METHODS: dict[str, type[AdversarialModule]] = {"without": NonSaturatingGAN, "with": JacobianClampingGAN}


@study(
    place="1.2.3, Jacobian clamping; eq. 1.45",
    claim="A generator whose Jacobian has a large condition number trains badly; a penalty on changes of the output "
    "outside of a range conditions it.",
    rule="At the end of the training, over three seeds, the mean log condition number is lower with clamping than "
    "without by more than two standard errors, its standard deviation over seeds is lower, and the mean FID is not "
    "higher by more than two standard errors of the difference.",
    checkpoints=(CLASSIFIER,),
)
def conditioning(quick: bool) -> Outcome:
    """Trains both GANs with each seed."""
    seeds, places, samples = (SEEDS[:1], (1, 3), 260) if quick else (SEEDS, PLACES, SAMPLES)
    figure, (left, right) = panels("log condition number along the training", "singular values at the end")
    numbers: dict[str, Number] = {}
    spread, found = {}, {}
    extractor = zoo.load_extractor(CLASSIFIER)
    for index, (name, method) in enumerate(METHODS.items()):
        runs = [trained(method, seed, places) for seed in seeds]
        means = [mean_of_runs([condition_numbers(run[place]).mean().item() for run, _ in runs]) for place in places]
        errors = None if quick else [mean.error for mean in means]
        curve(left, places, [mean.value for mean in means], index, f"{name} clamping", errors)
        values = torch.stack([run[places[-1]] for run, _ in runs]).log().mean((0, 1)).exp().tolist()
        curve(right, range(1, len(values) + 1), values, index, f"{name} clamping")
        found[name] = (means[-1], mean_of_runs([fid_of(model, extractor, samples) for _, model in runs]))
        numbers[f"log_condition_number_{name}"], numbers[f"fid_{name}"] = found[name]
        spread[name] = means[-1].error * len(seeds) ** 0.5
    for bound in (BOUNDS["lambda_min"], BOUNDS["lambda_max"]):
        right.axhline(bound, color="0.6", linewidth=1, linestyle="dotted")
    right.set_yscale("log")
    labels(left, "batches", "nats")
    labels(right, "singular value of J, by rank", "change of the image per unit of the code", legend=False)

    (before, fid_before), (after, fid_after) = found["without"], found["with"]
    holds = (
        before.value - after.value > 2 * apart(before, after)
        and spread["with"] < spread["without"]
        and fid_after.value - fid_before.value < 2 * apart(fid_before, fid_after)
    )
    seen = (
        f"The mean log condition number is {before.value:.2f} nats without clamping and {after.value:.2f} with it, and "
        f"its standard deviation over seeds {spread['without']:.2f} and {spread['with']:.2f}. FID is "
        f"{fid_before.value:.2f} without and {fid_after.value:.2f} with clamping."
    )
    return Outcome(holds, numbers, figure, seen, seeds)


def apart(a: Number, b: Number) -> float:
    """Returns the standard error of the difference of two numbers."""
    return float((a.error**2 + b.error**2) ** 0.5)


def trained(
    method: type[AdversarialModule], seed: int, places: tuple[int, ...]
) -> tuple[dict[int, torch.Tensor], AdversarialModule]:
    """Returns the singular values (CODES, 16) of the Jacobian by the number of batches, and the trained model."""
    torch.manual_seed(seed)
    data = data_in_order(seed)
    model = method.for_data(data.spec, **SETTINGS, **(BOUNDS if method is JacobianClampingGAN else {}))

    def spectrum(module: AdversarialModule) -> torch.Tensor:
        return jacobian_spectrum(module, CODES, generator=torch.Generator().manual_seed(seed))

    along = Along(places, spectrum)
    fit(model, data, places[-1], along)
    return along.values, model
