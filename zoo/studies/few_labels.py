"""Features that were learned without labels, under a linear probe: do they serve where labels are few?

The features of an image are the mean code of the VAE, ALI and GibbsNet, the probabilities of the RBM's hidden units
given random bits that are on by the grey values, and what the SNGAN's discriminator computes before its head; raw
pixels and their first 64 principal components stand for what is there without learning. The probe is ridge regression
on one-hot labels, whose weight is the best of five by leave-one-out on the labelled images alone. Labels are of as many
images of each class, 10, 100 and 1 000 in all, drawn from 1 500 training images; accuracy is on 1 500 test images.
Features are centred, and scaled to a standard deviation of 1, by all 1 500 training images, which needs no labels.

In a first run the RBM was given grey values cut at one half, which it was not trained on, and there was no GibbsNet.
The rule is as it was.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from datamodules.images.pixels import Pixels
from lightning_modules.adversarial.ali import ALI
from lightning_modules.adversarial.gibbsnet import GibbsNet
from lightning_modules.adversarial.spectral_norm import SNGAN
from lightning_modules.energy.rbm import RBM
from lightning_modules.latent.vae import VAE
from lightning_modules.metrics.image import moments
from zoo.loading import load
from zoo.studies.garments import images
from zoo.studies.study import Number, Outcome, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels

SEEDS, SIZES, NUM, CLASSES = (0, 1, 2, 3, 4), (10, 100, 1000), 1500, 10
COMPONENTS, WEIGHTS = 64, (1e-3, 1e-2, 1e-1, 1.0, 10.0)
LEARNED, BASELINES = ("vae", "ali", "gibbsnet", "rbm", "sngan"), ("pixels", "pca")
Features = dict[str, Callable[[Tensor], Tensor]]


@study(
    place="1.1, motivations",
    claim="Features that a generative model has learned without labels serve a task for which labels are few.",
    rule="With 100 labels the accuracy of a linear probe on the features of each of the five models is above that on "
    "raw pixels and above that on principal components, by more than two standard errors of the difference over five "
    "choices of the labelled images.",
    checkpoints=tuple(f"{name}.fashion_mnist" for name in LEARNED),
)
def few_labels(quick: bool) -> Outcome:
    """Fits a probe for each kind of features, number of labels and seed."""
    seeds, sizes, num = (SEEDS[:1], (10, 20), 60) if quick else (SEEDS, SIZES, NUM)
    (pool, pool_labels), (test, test_labels) = images("train", num), images("test", num)
    accuracies: dict[str, list[list[float]]] = {}
    for name, features in kinds_of_features(pool).items():
        known, asked = (features(x).double() for x in (pool, test))
        mean, deviation = known.mean(0), known.std(0).clamp(min=1e-6)
        known, asked = (known - mean) / deviation, (asked - mean) / deviation
        accuracies[name] = []
        for size in sizes:
            runs = []
            for seed in seeds:
                rows = balanced(pool_labels, size, seed)
                predicted = probe(known[rows], pool_labels[rows], asked)
                runs.append((predicted == test_labels).double().mean().item())
            accuracies[name].append(runs)

    numbers: dict[str, Number] = {}
    figure, (left, right) = panels("accuracy on test images", "above raw pixels")
    for index, (name, rows_) in enumerate(accuracies.items()):
        found = [mean_of_runs(runs) for runs in rows_]
        gains = [paired(runs, other) for runs, other in zip(rows_, accuracies["pixels"], strict=True)]
        for axes, values in ((left, found), (right, gains)):
            if axes is left or name != "pixels":
                errors = None if quick else [100 * error for _, error in values]
                curve(axes, sizes, [100 * value for value, _ in values], index, name.upper(), errors)
        numbers |= {f"accuracy_{name}_{size}_labels": value for size, value in zip(sizes, found, strict=True)}
    for axes, title in ((left, "percent"), (right, "percentage points")):
        axes.set_xscale("log")
        labels(axes, "number of labels", title, legend=axes is left)
    right.axhline(0, color="0.35", linewidth=1.2, linestyle="dashed")

    better = {}
    for name in LEARNED:
        gaps = [paired(accuracies[name][1], accuracies[baseline][1]) for baseline in BASELINES]
        numbers |= {f"gain_{name}_over_{baseline}": gap for baseline, gap in zip(BASELINES, gaps, strict=True)}
        better[name] = all(gap.value > 2 * gap.error for gap in gaps)
    told = ", ".join(f"{name} {100 * mean_of_runs(rows_[1]).value:.1f}" for name, rows_ in accuracies.items())
    seen = (
        f"Percent of test images that a probe of {sizes[1]} labels gets right: {told}. Above both raw pixels and "
        f"principal components by more than two standard errors: "
        f"{', '.join(name for name in LEARNED if better[name]) or 'none'}."
    )
    return Outcome(all(better.values()), numbers, figure, seen, seeds)


def kinds_of_features(pool: Tensor) -> Features:
    """Returns functions of uint8 images (N, 1, 28, 28) to features (N, D); components are those of ``pool``."""
    vae, ali = load("vae.fashion_mnist", VAE), load("ali.fashion_mnist", ALI)
    gibbsnet, rbm = load("gibbsnet.fashion_mnist", GibbsNet), load("rbm.fashion_mnist", RBM)
    body: Any = load("sngan.fashion_mnist", SNGAN).discriminator.features
    _, covariance = moments(pool.flatten(1).float())
    components = torch.linalg.eigh(covariance)[1][:, -COMPONENTS:]

    def bits(x: Tensor) -> Tensor:
        return Pixels(binarize=True)(x, torch.rand(x.shape, generator=Generator().manual_seed(0)))

    @torch.no_grad()
    def trunk(x: Tensor) -> Tensor:
        return torch.cat([body(part) for part in Pixels()(x).split(250)])

    return {
        "vae": lambda x: vae.encode(Pixels()(x)),
        "ali": lambda x: ali.encode(Pixels()(x)),
        "gibbsnet": lambda x: gibbsnet.encode(Pixels()(x)),
        "rbm": lambda x: rbm.encode(bits(x)).detach(),
        "sngan": trunk,
        "pixels": lambda x: x.flatten(1).float(),
        "pca": lambda x: x.flatten(1).double() @ components,
    }


def balanced(labels: Tensor, num: int, seed: int) -> Tensor:
    """Returns random indices of as many examples of each class, ``num`` in all."""
    order = torch.randperm(len(labels), generator=Generator().manual_seed(seed))
    rows = [order[labels[order] == label][: num // CLASSES] for label in range(CLASSES)]
    return torch.cat(rows)


def probe(features: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
    """Returns the classes (M,) that ridge regression predicts, its weight chosen by the leave-one-out error.

    Args:
        features: Features of labelled examples, (N, D).
        labels: Their classes (N,).
        asked: Features of other examples, (M, D).
    """
    targets = F.one_hot(labels, CLASSES).to(features)
    centre, level = features.mean(0), targets.mean(0)
    kernel = (features - centre) @ (features - centre).T
    best, chosen = float("inf"), torch.empty(0)
    for weight in WEIGHTS:
        inverse = torch.linalg.inv(kernel + weight * features.shape[1] * torch.eye(len(features)).to(kernel))
        dual = inverse @ (targets - level)
        error = (dual / inverse.diagonal()[:, None]).square().mean().item()
        if error < best:
            best, chosen = error, dual
    return ((asked - centre) @ ((features - centre).T @ chosen) + level).argmax(1)


def paired(values: list[float], others: list[float]) -> Number:
    """Returns the mean difference of runs of the same seeds."""
    return mean_of_runs([value - other for value, other in zip(values, others, strict=True)])
