"""FID grows with every corruption of real images, and the Inception Score should notice only other images among them.

Images of the test split are corrupted in six ways at three strengths and compared with images of the training split, as
in the study that introduced FID; strengths in pixels are scaled to 28 pixels, and the other images are emoji in grey.
The features are those of the zoo's classifier of garments and those of EfficientNet-Lite0, which has only seen
photographs, where `python -m zoo fetch efficientnet_lite0` has put it. The reference of the classifier is the whole
training split, that of EfficientNet as many training images as are compared. FID of so few images with so many
features is biased upwards, but at all levels alike, so their order can be read.
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
from zoo.studies.study import Number, Outcome, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels

SEEDS, NUM, NUM_PRETRAINED = (0, 1, 2), 2000, 500
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
    rule="FID is larger at each level than at the one before, for each of the six corruptions and each of three seeds, "
    "under the classifier and, where its weights are here, under EfficientNet. The Inception Score by the classifier, "
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
    by_level = {name: [*zip(*(run[name] for run in measured), strict=True)] for name in names}
    fids = {name: [mean_of_runs([run.fid for run in level]) for level in row] for name, row in by_level.items()}
    scores = {name: [mean_of_runs([run.score for run in level]) for level in row] for name, row in by_level.items()}
    seen_by_it: list[dict[str, list[Level]]] = []
    if not quick and find_weights(PRETRAINED) is not None:
        extractor = load_extractor(PRETRAINED)
        for seed in seeds:
            real = extracted(extractor, images("train", NUM_PRETRAINED, seed)[0]).features
            seen_by_it.append(levels(extractor, names, NUM_PRETRAINED, others, real, seed))

    figure, (left, middle, right) = panels("FID, classifier of garments", "FID, EfficientNet", "Inception Score")
    numbers: dict[str, Number] = {}
    for index, name in enumerate(names):
        rows = [(left, "fid", fids[name]), (right, "inception_score", scores[name])]
        if seen_by_it:
            of_it = [mean_of_runs([run[name][level].fid for run in seen_by_it]) for level in range(4)]
            rows.append((middle, "fid_efficientnet", of_it))
        for axes, kind, found in rows:
            errors = None if quick else [error for _, error in found]
            curve(axes, range(4), [value for value, _ in found], index, name.replace("_", " "), errors)
            numbers |= {f"{kind}_{name}_{level}": number for level, number in enumerate(found)}
    for axes, title in ((left, "FID"), (middle, "FID"), (right, "Inception Score")):
        axes.set_xticks(range(4))
        labels(axes, "level of the corruption", title, legend=axes is left)
    for axes in (left, middle) if seen_by_it else (left,):
        axes.set_yscale("log")

    unordered, by_efficientnet = (
        [name for name in names if not all(rising([level.fid for level in run[name]]) for run in found)]
        for found in (measured, seen_by_it)
    )
    values = {name: [score for score, _ in row] for name, row in scores.items()}
    falling = [name for name in names if values[name][3] < values[name][0]]
    steady = "mixing" in names and rising([-value for value in values["mixing"]])
    seen = (
        f"By the classifier FID rises with the level of {all_but(unordered)}, by EfficientNet "
        f"{f'with that of {all_but(by_efficientnet)}' if seen_by_it else 'it was not measured for want of weights'}. "
        f"The Inception Score of {values[names[0]][0]:.2f} falls by {listed(falling)}; at each level of mixing it does "
        f"{'' if steady else 'not '}fall."
    )
    holds = not unordered and not by_efficientnet and steady and falling == ["mixing"]
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


def all_but(names: list[str]) -> str:
    """Returns "all corruptions", without those of the names."""
    return f"all corruptions but {listed(names)}" if names else "all corruptions"


def listed(names: list[str]) -> str:
    """Returns names for a sentence."""
    return " and ".join(name.replace("_", " ") for name in names) or "none"
