"""FID grows with every corruption of real images, and the Inception Score should notice only other images among them.

Images of the test split are corrupted in six ways at three strengths and compared with images of the training split, as
in the study that introduced FID; strengths in pixels are scaled to 28 pixels, and the other images are emoji in grey.
The features are those of the zoo's classifier of garments, 400 images for each of three seeds, and those of
EfficientNet-Lite0, which has only seen photographs, where `python -m zoo fetch efficientnet_lite0` has put it: of 50
images, because it takes as long for one as the classifier for fifty. FID of so few images with so many features is
mostly bias; all levels are measured alike, so their order can be read, but not their values. The reference of the
classifier is the whole training split, that of EfficientNet as many training images.
"""

from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from lightning_modules.metrics.image import frechet_distance, inception_score, moments
from lightning_modules.metrics.protocol import Extracted
from lightning_modules.pretrained.named_features import find_weights
from zoo.features import load_extractor
from zoo.loading import load_classifier
from zoo.studies.garments import CLASSIFIER, extracted, grey_emoji, images
from zoo.studies.image_corruptions import blurred, mixed, noisy, salted, swirled, with_rectangles
from zoo.studies.study import Number, Outcome, exact, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels

SEEDS, NUM, NUM_PRETRAINED = (0, 1, 2), 400, 50
PRETRAINED = "efficientnet_lite0"
STRENGTHS = {
    "noise": (0.25, 0.5, 0.75),
    "blur": (0.5, 1.0, 2.0),
    "rectangles": (0.25, 0.5, 0.75),
    "swirl": (1.0, 2.0, 4.0),
    "salt_and_pepper": (0.1, 0.2, 0.3),
    "mixing": (0.25, 0.5, 0.75),
}
"""Strengths by corruption; level 0 of each is the uncorrupted images."""
CORRUPTIONS = {
    "noise": noisy,
    "blur": blurred,
    "rectangles": with_rectangles,
    "swirl": swirled,
    "salt_and_pepper": salted,
}


class Level(NamedTuple):
    """What is measured of images at one level of a corruption."""

    fid: float
    score: float


@study(
    place="1.2.3, evaluation criteria; eq. 1.46 and 1.47",
    claim="FID grows with the strength of noise, blur, removed regions, swirl, salt and pepper, and of the share of "
    "images from another data set; the Inception Score gets worse only by the last of these.",
    rule="FID is larger at each level than at the one before, for each of the six corruptions, under the classifier "
    "for each of three seeds and under EfficientNet where its weights are here. The Inception Score by the classifier, "
    "a mean over seeds, falls at each level of mixing, and at the last level of no other corruption is it lower than "
    "at the first.",
    checkpoints=(CLASSIFIER,),
)
def fid_corruption(quick: bool) -> Outcome:
    """Measures every corruption at every level."""
    classifier = load_classifier(CLASSIFIER)
    seeds, num, names = (SEEDS[:1], 60, ("noise", "swirl")) if quick else (SEEDS, NUM, tuple(STRENGTHS))
    others = torch.empty(0) if quick else grey_emoji(NUM)
    reference = extracted(classifier, images("train", 90 if quick else None)[0]).features
    measured = [levels(classifier, names, num, others, reference, seed) for seed in seeds]
    fids = {name: [mean_of_runs([run[name][level].fid for run in measured]) for level in range(4)] for name in names}
    scores = {
        name: [mean_of_runs([run[name][level].score for run in measured]) for level in range(4)] for name in names
    }
    by_pretrained: dict[str, list[float]] = {}
    if not quick and find_weights(PRETRAINED) is not None:
        extractor = load_extractor(PRETRAINED)
        real = extracted(extractor, images("train", NUM_PRETRAINED)[0]).features
        seen_by_it = levels(extractor, names, NUM_PRETRAINED, others, real, SEEDS[0])
        by_pretrained = {name: [level.fid for level in row] for name, row in seen_by_it.items()}

    figure, (left, middle, right) = panels("FID, classifier of garments", "FID, EfficientNet", "Inception Score")
    numbers: dict[str, Number] = {}
    for index, name in enumerate(names):
        for axes, kind, found in ((left, "fid", fids[name]), (right, "inception_score", scores[name])):
            errors = None if quick else [error for _, error in found]
            curve(axes, range(4), [value for value, _ in found], index, name.replace("_", " "), errors)
            numbers |= {f"{kind}_{name}_{level}": number for level, number in enumerate(found)}
        if by_pretrained:
            curve(middle, range(4), by_pretrained[name], index)
            numbers |= {f"fid_efficientnet_{name}_{level}": exact(fid) for level, fid in enumerate(by_pretrained[name])}
    for axes, title in ((left, "FID"), (middle, "FID of 50 images"), (right, "Inception Score")):
        axes.set_xticks(range(4))
        labels(axes, "level of the corruption", title, legend=axes is left)
    for axes in (left, middle) if by_pretrained else (left,):
        axes.set_yscale("log")

    unordered = [name for name in names if not all(rising([level.fid for level in run[name]]) for run in measured)]
    unordered_pretrained = [name for name, values in by_pretrained.items() if not rising(values)]
    values = {name: [score for score, _ in row] for name, row in scores.items()}
    falling = [name for name in names if values[name][3] < values[name][0]]
    steady = "mixing" in names and rising([-value for value in values["mixing"]])
    seen = (
        f"FID rises with the level of all corruptions but {listed(unordered)} by the classifier, and but "
        f"{listed(unordered_pretrained) if by_pretrained else 'all, for want of its weights,'} by EfficientNet. "
        f"The Inception Score of {values[names[0]][0]:.2f} falls by {listed(falling)}; at each level of mixing it does "
        f"{'' if steady else 'not '}fall."
    )
    holds = not unordered and not unordered_pretrained and steady and falling == ["mixing"]
    return Outcome(holds, numbers, figure, seen, seeds)


def levels(
    extractor: nn.Module, names: tuple[str, ...], num: int, others: Tensor, reference: Tensor, seed: int
) -> dict[str, list[Level]]:
    """Returns FID and Inception Score of test images by corruption and level; level 0 is that of all alike."""
    clean, real = images("test", num, seed)[0], moments(reference)

    def measured(found: Extracted) -> Level:
        fid = frechet_distance(*moments(found.features), *real)
        return Level(fid, inception_score(found.logits, splits=1).mean)

    first = measured(extracted(extractor, clean))
    rows = {}
    for name in names:
        rows[name] = [first]
        for strength in STRENGTHS[name]:
            generator = Generator().manual_seed(seed)
            corrupted = (
                mixed(clean, strength, others) if name == "mixing" else CORRUPTIONS[name](clean, strength, generator)
            )
            rows[name].append(measured(extracted(extractor, corrupted)))
    return rows


def rising(values: list[float]) -> bool:
    """Returns whether each value is above the one before."""
    return all(after > before for before, after in zip(values, values[1:], strict=False))


def listed(names: list[str]) -> str:
    """Returns names for a sentence."""
    return " and ".join(name.replace("_", " ") for name in names) or "none"
