"""FID is biased by about c / n for n images, and which of two models is better depends on the network that looks.

The bias is that of training images against the test split under the zoo's classifier of garments: c and the limit are
fitted to FID(n) by least squares in 1 / n. Subsets of n of the N training images overlap, so errors over them are
divided by sqrt(1 - n / N). Models of the zoo are then ranked by FID of 2 560 samples against as many test images under
three networks: the classifier, the fourth block of a VGG-16 and EfficientNet-Lite0, both trained on photographs, where
`python -m zoo fetch vgg16_hed efficientnet_lite0` has put them. Two networks disagree on a pair of models only if each
of them ranks it alike by both halves of the samples: halves have as many images, so their bias is nearly the same.
"""

from itertools import combinations

import torch
from torch import Generator, Tensor, nn

from lightning_modules.metrics.image import frechet_distance, moments
from lightning_modules.metrics.pooled_features import PooledFeatures
from lightning_modules.pretrained.named_features import find_weights
from zoo.features import load_extractor, load_features
from zoo.loading import load, load_classifier
from zoo.studies.garments import CLASSIFIER, extracted, images, sampled
from zoo.studies.study import Number, Outcome, exact, mean_of_runs, study
from zoo.studies.study_figures import COLOURS, MARKERS, curve, labels, panels

SEEDS = (0, 1, 2, 3, 4)
SIZES = (100, 300, 1000, 3000, 10_000, 30_000)
FITTED = 300
"""Number of images from which the law is fitted: about twice that of the features."""
MODELS = ("sngan", "ali", "wgan_gp", "gaussian_mixture", "vae", "gaussian")
NUM_SAMPLES = 2560
"""Number of samples of each model; each half has as many as EfficientNet has features."""


@study(
    place="1.2.3, evaluation criteria; eq. 1.47",
    claim="FID is highly dependent on the choice of the classifier and lacks statistical consistency guarantees.",
    rule="From 300 training images on, FID on the test split under the classifier, a mean over five seeds, is within "
    "10 % of limit + c / n with a fitted limit and c > 0, and FID of 300 images is above twice the limit. At least one "
    "pair of the zoo's models is ranked one way by both halves of its samples under one network, and the other way by "
    "both halves under another.",
    checkpoints=(CLASSIFIER, *(f"{name}.fashion_mnist" for name in MODELS)),
)
def fid_bias(quick: bool) -> Outcome:
    """Measures FID by the number of images, then the models under every network that is here."""
    classifier = load_classifier(CLASSIFIER)
    seeds, sizes, most = (SEEDS[:1], (50, 80), 90) if quick else (SEEDS, SIZES, None)
    training = extracted(classifier, images("train", most)[0]).features
    test = moments(extracted(classifier, images("test", most)[0]).features)
    runs = [[subset_fid(training, test, size, seed) for size in sizes] for seed in seeds]
    by_size = [
        Number(mean, error / (1 - size / len(training)) ** 0.5)
        for size, (mean, error) in zip(sizes, map(mean_of_runs, zip(*runs, strict=True)), strict=True)
    ]
    from_size = 0 if quick else sizes.index(FITTED)
    fits = [fitted([(1 / n, fid) for n, fid in zip(sizes, run, strict=True)][from_size:]) for run in runs]
    limit, c = fitted([(1 / n, value) for n, (value, _) in zip(sizes, by_size, strict=True)][from_size:])
    law = [limit + c / n for n in sizes]
    off = max(abs(v / w - 1) for (v, _), w in [*zip(by_size, law, strict=True)][from_size:])

    extractors = networks(classifier, quick)
    ranked = {name: halves_of_models(extractor, quick) for name, extractor in extractors.items()}
    disagreed = [
        (better, worse, one, other)
        for better, worse in combinations(MODELS, 2)
        for one, other in combinations(ranked, 2)
        if sign(ranked[one], better, worse) * sign(ranked[other], better, worse) < 0
    ]

    figure, (left, right) = panels("training images, classifier of garments", "models, over the FID of the SNGAN")
    curve(left, sizes, [v for v, _ in by_size], 0, "measured", None if quick else [e for _, e in by_size])
    left.plot(sizes, law, color="0.35", linestyle=(0, (6, 3)), linewidth=1.2, label=f"{limit:.3f} + {c:.3g} / n")
    left.set_xscale("log")
    left.set_yscale("log")
    labels(left, "number of images n", "FID on the test split")
    numbers: dict[str, Number] = {f"fid_of_{n}_training_images": value for n, value in zip(sizes, by_size, strict=True)}
    numbers["fitted_limit"], numbers["fitted_c"] = (mean_of_runs(values) for values in zip(*fits, strict=True))
    numbers["largest_percent_off_the_law"] = exact(100 * off)
    for index, (name, halves) in enumerate(ranked.items()):
        found = {model: mean_of_runs(values) for model, values in halves.items()}
        numbers |= {f"fid_{model}_by_{name}": number for model, number in found.items()}
        places = [place + 0.18 * (index - 1) for place in range(len(MODELS))]
        ratios = [found[model].value / found[MODELS[0]].value for model in MODELS]
        right.plot(ratios, places, MARKERS[index], color=COLOURS[index], label=name.replace("_", " "), markersize=5)
    right.set_yticks(range(len(MODELS)), [name.replace("_", " ") for name in MODELS])
    right.invert_yaxis()
    right.set_xscale("log")
    labels(right, "FID / FID of the SNGAN", "")
    pairs = ", ".join(f"{a} and {b} ({one} against {other})" for a, b, one, other in disagreed)
    seen = (
        f"FID of n training images is {limit:.3f} + {c:.3g} / n to {100 * off:.1f} %: {by_size[0].value:.2f} of "
        f"{sizes[0]} and {by_size[-1].value:.3f} of {sizes[-1]}. Of {', '.join(ranked)}, two disagree on "
        f"{pairs.replace('_', ' ') or 'no pair of models'}."
    )
    at_least = by_size[sizes.index(FITTED)].value > 2 * limit if FITTED in sizes else False
    return Outcome(off <= 0.1 and c > 0 and at_least and bool(disagreed), numbers, figure, seen, seeds)


def subset_fid(features: Tensor, real: tuple[Tensor, Tensor], num: int, seed: int) -> float:
    """Returns FID of a random subset of features."""
    rows = torch.randperm(len(features), generator=Generator().manual_seed(seed))[:num]
    return frechet_distance(*moments(features[rows]), *real)


def fitted(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Returns limit and slope of a line by least squares of relative errors."""
    x, y = torch.tensor(points, dtype=torch.float64).unbind(1)
    design = torch.stack([1 / y, x / y], 1)
    limit, slope = torch.linalg.lstsq(design, torch.ones_like(y)[:, None]).solution[:, 0].tolist()
    return limit, slope


def networks(classifier: nn.Module, quick: bool) -> dict[str, nn.Module]:
    """Returns the extractors by name: the classifier, and in a whole run those whose weights are here."""
    found: dict[str, nn.Module] = {"classifier": classifier}
    if not quick and find_weights("vgg16_hed") is not None:
        found["vgg16_hed"] = PooledFeatures(load_features("vgg16_hed"), "conv4_3")
    if not quick and find_weights("efficientnet_lite0") is not None:
        found["efficientnet_lite0"] = load_extractor("efficientnet_lite0")
    return found


def halves_of_models(extractor: nn.Module, quick: bool) -> dict[str, list[float]]:
    """Returns FID of both halves of each model's samples against as many test images as all of them."""
    num = 40 if quick else NUM_SAMPLES
    real = moments(extracted(extractor, images("test", num)[0]).features)
    found = {}
    for model in MODELS:
        module = load(f"{model}.fashion_mnist")
        of = images("val", num)[0] if quick else sampled(module, num)  # a block of samples takes too long
        features = extracted(extractor, of).features
        found[model] = [frechet_distance(*moments(half), *real) for half in features.chunk(2)]
    return found


def sign(halves: dict[str, list[float]], one: str, other: str) -> int:
    """Returns 1 if each half of one model has a lower FID than each of the other, -1 the other way, else 0."""
    return int(max(halves[one]) < min(halves[other])) - int(max(halves[other]) < min(halves[one]))
