"""Generators that have learned nothing: which of them fool the Inception Score, and which FID.

Each makes 1 000 images: one image a class (one of the fifty training images of which the classifier is surest), twenty
noises that gradient steps have made the classifier certain of, and training images. Beside them stand held-out images
and samples of the SNGAN. Scores are by the zoo's classifier of garments, with a single split. FID is taken on the test
and on the training split. The relative distance is that of an image to its nearest training image in features, over
that of held-out images; FID is informed of it by the mean cosine distance, with half of that of held-out images as
threshold.
"""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from lightning_modules.adversarial.spectral_norm import SNGAN
from lightning_modules.metrics.classifier import Classifier
from lightning_modules.metrics.image import frechet_distance, inception_score, moments, precision_recall
from lightning_modules.metrics.memorisation import memorisation_distance, memorisation_informed_fid
from lightning_modules.metrics.neighbours import Memorisation, nearest
from lightning_modules.metrics.protocol import Extracted
from zoo.loading import load, load_classifier
from zoo.studies.garments import CLASSIFIER, extracted, images, sampled
from zoo.studies.image_corruptions import as_pixels
from zoo.studies.study import Number, Outcome, mean_of_runs, study
from zoo.studies.study_figures import COLOURS, panels

MODEL = "sngan.fashion_mnist"
SEEDS, NUM, COMPARED = (0, 1, 2), 1000, 60
CLASSES, SUREST, ADVERSARIES, STEPS, STEP = 10, 50, 20, 40, 4.0
KINDS = ("held_out", "sngan", "one_a_class", "adversarial", "training")
MEASURES = ("inception_score", "fid_test", "fid_train", "informed_fid", "relative_distance", "precision", "recall")


@study(
    place="1.2.3, evaluation criteria; eq. 1.46 and 1.47",
    claim="The Inception Score can be pushed beyond that of real data by one clear image of each class and by images "
    "that are adversarial to its classifier, and copies of the training images reach a high one. FID is hurt by a lack "
    "of variety, and can be evaluated on test data against overfitting.",
    rule="For each of three seeds the Inception Score of one image a class and of adversarial images is above that of "
    "held-out images, and that of training images is at least 95 % of it. FID on the test split of the first two is "
    "above ten times that of held-out images. FID on the test split is fooled by copies if theirs is below the SNGAN's "
    "for each seed; then the informed FID must be above the SNGAN's, and the relative distance 0, for each seed.",
    checkpoints=(CLASSIFIER, MODEL),
)
def is_fooled(quick: bool) -> Outcome:
    """Builds the five sets of images for each seed and measures them."""
    classifier, model = load_classifier(CLASSIFIER), load(MODEL, SNGAN)
    seeds, num, of_training, of_test = (SEEDS[:1], 80, 90, 90) if quick else (SEEDS, NUM, None, None)
    training_images = images("train", of_training)[0]
    training, test = (extracted(classifier, x) for x in (training_images, images("test", of_test)[0]))
    moments_of = {"test": moments(test.features), "train": moments(training.features)}
    runs: list[dict[str, dict[str, float]]] = []
    for seed in seeds:
        generator = Generator().manual_seed(seed)
        steps = 2 if quick else STEPS
        of_adversaries = extracted(classifier, adversarial(classifier, 10 if quick else ADVERSARIES, steps, generator))
        sets = {
            "held_out": extracted(classifier, images("val", num, seed)[0]),
            "sngan": extracted(classifier, sampled(model, num, seed)),
            "one_a_class": chosen(training, surest(training.logits, generator), num),
            "adversarial": chosen(of_adversaries, torch.arange(len(of_adversaries)), num),
            "training": chosen(training, torch.randperm(len(training.features), generator=generator), num),
        }
        runs.append(measured(sets, training, test, moments_of, COMPARED))

    numbers: dict[str, Number] = {
        f"{measure}_{kind}": mean_of_runs([run[kind][measure] for run in runs])
        for measure in MEASURES
        for kind in KINDS
    }
    figure, row = panels("Inception Score", "FID on the test split", "FID informed of copies")
    for axes, measure in zip(row, ("inception_score", "fid_test", "informed_fid"), strict=True):
        values = [numbers[f"{measure}_{kind}"] for kind in KINDS]
        error = None if quick else [number.error for number in values]
        names = [kind.replace("_", " ") for kind in KINDS]
        axes.barh(names, [number.value for number in values], xerr=error, color=COLOURS[0], height=0.6, capsize=3)
        axes.invert_yaxis()
        if measure != "inception_score":
            axes.set_xscale("log")
    row[0].axvline(numbers["inception_score_held_out"].value, color="0.35", linestyle="dashed", linewidth=1.2)

    def always(first: str, second: str, measure: str, factor: float = 1.0) -> bool:
        return all(run[first][measure] > factor * run[second][measure] for run in runs)

    sureness = (("one_a_class", 1.0), ("adversarial", 1.0), ("training", 0.95))
    fooled = all(always(kind, "held_out", "inception_score", factor) for kind, factor in sureness)
    hurt = all(always(kind, "held_out", "fid_test", 10) for kind in ("one_a_class", "adversarial"))
    copies_fool_fid = always("sngan", "training", "fid_test")
    copies_seen = always("training", "sngan", "informed_fid") and not any(
        run["training"]["relative_distance"] for run in runs
    )
    value = {name: number.value for name, number in numbers.items()}
    seen = (
        f"Inception Scores are {value['inception_score_held_out']:.2f} of held-out images, "
        f"{value['inception_score_one_a_class']:.2f} of one image a class, {value['inception_score_adversarial']:.2f} "
        f"of adversarial ones and {value['inception_score_training']:.2f} of training images. FID on the test split is "
        f"{value['fid_test_held_out']:.2f}, {value['fid_test_one_a_class']:.1f}, {value['fid_test_adversarial']:.1f} "
        f"and {value['fid_test_training']:.2f}, the SNGAN's {value['fid_test_sngan']:.2f}: copies "
        f"{'fool' if copies_fool_fid else 'do not fool'} it. The informed FID of copies is "
        f"{value['informed_fid_training']:.3g}, the SNGAN's {value['informed_fid_sngan']:.2f}."
    )
    return Outcome(fooled and hurt and (copies_seen or not copies_fool_fid), numbers, figure, seen, seeds)


def measured(
    sets: dict[str, Extracted], training: Extracted, test: Extracted, real: dict[str, tuple[Tensor, Tensor]], num: int
) -> dict[str, dict[str, float]]:
    """Returns all measures of each set; nearest neighbours are those of the first ``num`` images."""
    held_out = sets["held_out"].features
    neighbours = nearest(held_out[:num], training.features)
    scale, threshold = neighbours.distances.median().item(), memorisation_distance(held_out, training.features) / 2
    found = {}
    for kind, of in sets.items():
        fids = {f"fid_{split}": frechet_distance(*moments(of.features), *found_) for split, found_ in real.items()}
        distance = memorisation_distance(of.features, training.features)
        near = Memorisation(nearest(of.features[:num], training.features), neighbours, scale)
        found[kind] = {
            "inception_score": inception_score(of.logits, splits=1).mean,
            **fids,
            "informed_fid": memorisation_informed_fid(fids["fid_test"], distance, threshold),
            "relative_distance": near.relative_distance,
            **precision_recall(test.features[: len(of)], of.features)._asdict(),
        }
    return found


def chosen(extracted: Extracted, indices: Tensor, num: int) -> Extracted:
    """Returns what was extracted of some images, repeated in turn until there are ``num``."""
    rows = indices[torch.arange(num) % len(indices)]
    return Extracted(extracted.features[rows], extracted.logits[rows])


def surest(logits: Tensor, generator: Generator) -> Tensor:
    """Returns for each class the index of one of the images of which the classifier is surest that they are of it."""
    best = logits.log_softmax(1).topk(min(SUREST, len(logits)), dim=0).indices
    return best[torch.randint(len(best), (1,), generator=generator)[0]]


def adversarial(classifier: Classifier, num: int, steps: int, generator: Generator) -> Tensor:
    """Returns noises that the classifier takes for one class each, uint8 (num, 1, 28, 28), by signs of gradients."""
    x, target = 255 * torch.rand(num, 1, 28, 28, generator=generator), torch.arange(num) % CLASSES
    for _ in range(steps):
        x.requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(classifier(x / 127.5 - 1), target), x)
        x = (x.detach() - STEP * slope.sign()).clamp(0, 255)
    return as_pixels(x)
