"""A generator that replays k training images: from which k on does FID on test data take it for one that has learned?

Its 2 000 images are drawn with replacement from k random training images. The generator that has learned everything
draws fresh images of the same split, none of the k. Both are compared with the test split by the zoo's classifier of
garments, so that they differ by the repetition alone. FID informed of copies, and the distance to the nearest of the k
images over that of fresh ones, are taken of the first 200 images; the threshold is half of the distance of fresh ones.
The SNGAN stands for models that have learned something.
"""

import torch
from torch import Generator, Tensor

from lightning_modules.adversarial.spectral_norm import SNGAN
from lightning_modules.metrics.image import frechet_distance, moments
from lightning_modules.metrics.memorisation import memorisation_distance, memorisation_informed_fid
from lightning_modules.metrics.neighbours import Memorisation, nearest
from zoo.loading import load, load_classifier
from zoo.studies.garments import CLASSIFIER, extracted, images, sampled
from zoo.studies.study import Number, Outcome, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels, truth

MODEL = "sngan.fashion_mnist"
SEEDS, NUM, COMPARED = (0, 1, 2, 3, 4), 2000, 200
SIZES = (100, 300, 1000, 3000, 10_000, 30_000, 50_000)
Measured = dict[str, float]


@study(
    place="1.2.3, evaluation criteria; eq. 1.47",
    claim="FID can be evaluated on the test data, so it can directly test against overfitting.",
    rule="For each number k of replayed training images from 100 to 50 000, FID on the test split of the replayed "
    "images is above that of as many fresh ones by more than three standard errors of the difference, over five seeds. "
    "The k are told from which on this fails, and whether the informed FID of replayed images is above that of fresh "
    "ones, and their relative distance 0, for each seed where it does.",
    checkpoints=(CLASSIFIER, MODEL),
)
def memorisation(quick: bool) -> Outcome:
    """Replays k training images for each k and seed."""
    classifier, model = load_classifier(CLASSIFIER), load(MODEL, SNGAN)
    seeds, sizes, num = (SEEDS[:1], (20, 40), 40) if quick else (SEEDS, SIZES, NUM)
    training = extracted(classifier, images("train", 90 if quick else None)[0]).features
    test = moments(extracted(classifier, images("test", 90 if quick else None)[0]).features)
    drawn = [extracted(classifier, sampled(model, num, seed)).features for seed in seeds]
    of_model = mean_of_runs([frechet_distance(*moments(features), *test) for features in drawn])
    runs = [[measured(training, test, size, num, seed) for seed in seeds] for size in sizes]

    numbers: dict[str, Number] = {"fid_sngan": of_model}
    undetected, caught = [], True
    for size, found in zip(sizes, runs, strict=True):
        for name in found[0]:
            numbers[f"{name}_{size}"] = mean_of_runs([run[name] for run in found])
        gap = mean_of_runs([run["fid_replayed"] - run["fid_fresh"] for run in found])
        numbers[f"fid_gap_{size}"] = gap
        if not gap.value > 3 * gap.error:
            undetected.append(size)
        caught &= all(
            run["informed_replayed"] > run["informed_fresh"] and run["relative_distance_replayed"] == 0 for run in found
        )
    below = [size for size in sizes if numbers[f"fid_replayed_{size}"].value < of_model.value]

    figure, (left, right) = panels("FID on the test split", "FID informed of copies")
    for axes, kind in ((left, "fid"), (right, "informed")):
        for index, name in enumerate(("replayed", "fresh")):
            found_ = [numbers[f"{kind}_{name}_{size}"] for size in sizes]
            curve(axes, sizes, [value for value, _ in found_], index, name, None if quick else [e for _, e in found_])
        truth(axes, of_model.value, "SNGAN")
        axes.set_xscale("log")
        axes.set_yscale("log")
        labels(axes, "number of training images k", "FID" if kind == "fid" else "informed FID")
    gaps = numbers[f"fid_gap_{sizes[0]}"].value, numbers[f"fid_gap_{sizes[-1]}"].value
    seen = (
        f"Replaying {sizes[0]} images costs {gaps[0]:.2f} of FID on the test split over fresh ones, replaying "
        f"{sizes[-1]} costs {gaps[1]:.4f}. It does not tell them apart for k = "
        f"{', '.join(map(str, undetected)) or 'none'}; from k = {below[0] if below else 'none'} on a replay has a "
        f"lower FID than the SNGAN's {of_model.value:.2f}. The informed FID and the nearest training images "
        f"{'tell' if caught else 'do not tell'} them apart for each k and seed."
    )
    return Outcome(not undetected, numbers, figure, seen, seeds)


def measured(training: Tensor, test: tuple[Tensor, Tensor], size: int, num: int, seed: int) -> Measured:
    """Returns FIDs, informed FIDs and relative distances of replayed and of fresh images."""
    generator = Generator().manual_seed(seed)
    order = torch.randperm(len(training), generator=generator)
    memory = training[order[:size]]
    sets = {
        "replayed": memory[torch.randint(size, (num,), generator=generator)],
        "fresh": training[order[size : size + num]],
    }
    few = {name: features[:COMPARED] for name, features in sets.items()}
    distances = {name: memorisation_distance(features, memory) for name, features in few.items()}
    of_fresh = nearest(few["fresh"], memory)
    found: Measured = {}
    for name, features in sets.items():
        found[f"fid_{name}"] = fid = frechet_distance(*moments(features), *test)
        found[f"informed_{name}"] = memorisation_informed_fid(fid, distances[name], distances["fresh"] / 2)
        near = Memorisation(nearest(few[name], memory), of_fresh, of_fresh.distances.median().item())
        found[f"relative_distance_{name}"] = near.relative_distance
    return found
