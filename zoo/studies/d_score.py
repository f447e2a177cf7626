"""A discriminator's score does not rank generators, where the critic of a Wasserstein GAN follows their quality.

The non-saturating GAN and WGAN-GP are trained on Fashion-MNIST with small multi-layer perceptrons. Along the training
each discriminator is asked to tell test images from samples: its accuracy for the GAN, and for WGAN-GP the difference
of its means, the estimate of the Wasserstein distance. Both should be large where the generator is bad, so both are
compared with the FID of the same generator by Spearman's rank correlation.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchmetrics.functional import spearman_corrcoef

import zoo
from lightning_modules import WGANGP, NonSaturatingGAN
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.parts.games import wasserstein
from zoo.studies.garments import CLASSIFIER, data_in_order, fid_of
from zoo.studies.quiet_training import Along, fit
from zoo.studies.study import Number, Outcome, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels

SEEDS = (0, 1, 2)
PLACES = (25, 75, 200, 500, 1000, 1500)
TEST, SAMPLES, CODE, WIDTH = 1000, 1000, 16, 32
Score = Callable[[Tensor, Tensor], float]


@study(
    place="1.2.3, evaluation criteria and Wasserstein GAN",
    claim="The discriminator's score cannot reliably be used to discern the quality of a generator, because it also "
    "says how limited the discriminator is; the Wasserstein critic's estimate follows the quality of the samples.",
    rule="Over six places of the training the rank correlation of FID with the critic's estimate of the Wasserstein "
    "distance is at least 0.8 for each of three seeds, and that of FID with the discriminator's accuracy is below 0.5 "
    "for at least one seed, and lower than the critic's on average.",
    checkpoints=(CLASSIFIER,),
)
def d_score(quick: bool) -> Outcome:
    """Trains both GANs with each seed."""
    seeds, places, num = (SEEDS[:1], (1, 2), 260) if quick else (SEEDS, PLACES, SAMPLES)
    figure, panel = panels("GAN: accuracy of the discriminator", "WGAN-GP: estimate of the critic")
    numbers: dict[str, Number] = {}
    found: dict[str, list[float]] = {}
    extractor = zoo.load_extractor(CLASSIFIER)
    for axes, (name, (method, score)) in zip(panel, METHODS.items(), strict=True):
        found[name] = []
        for number, seed in enumerate(seeds):
            pairs = [*along_training(method, score, seed, places, extractor, num).values()]
            scores, fids = zip(*pairs, strict=True)
            found[name].append(spearman_corrcoef(torch.tensor(scores), torch.tensor(fids)).item())
            curve(axes, fids, scores, number, f"seed {seed}")
        axes.set_xscale("log")
        numbers |= {
            f"rank_correlation_{name}_seed_{s}": Number(c, 0.0) for s, c in zip(seeds, found[name], strict=True)
        }
        numbers[f"rank_correlation_{name}"] = mean_of_runs(found[name])
    labels(panel[0], "FID", "share of images and samples told apart")
    labels(panel[1], "FID", "E f(x) - E f(G(z))")
    accuracy, critic = (numbers[f"rank_correlation_{name}"].value for name in METHODS)
    holds = min(found["critic"]) >= 0.8 and min(found["accuracy"]) < 0.5 and accuracy < critic
    seen = (
        f"The rank correlation with FID along the training is {accuracy:.2f} on average for the discriminator's "
        f"accuracy ({min(found['accuracy']):.2f} to {max(found['accuracy']):.2f} over seeds), and {critic:.2f} for the "
        f"critic's estimate ({min(found['critic']):.2f} to {max(found['critic']):.2f})."
    )
    return Outcome(holds, numbers, figure, seen, seeds)


def accuracy_of(real: Tensor, fake: Tensor) -> float:
    """Returns the share of images (logit above 0) and of samples (below 0) that are told apart."""
    return ((real > 0).float().mean() + (fake < 0).float().mean()).item() / 2


def distance_of(real: Tensor, fake: Tensor) -> float:
    """Returns the critic's estimate of the Wasserstein distance, in units of its own scale."""
    return -wasserstein(real, fake).item()


METHODS: dict[str, tuple[type[AdversarialModule], Score]] = {
    "accuracy": (NonSaturatingGAN, accuracy_of),
    "critic": (WGANGP, distance_of),
}


def along_training(
    method: type[AdversarialModule], score: Score, seed: int, places: tuple[int, ...], extractor: nn.Module, num: int
) -> dict[int, tuple[float, float]]:
    """Trains a GAN; returns the score of its discriminator on held-out images, and FID, by the number of batches."""
    torch.manual_seed(seed)
    data = data_in_order(seed)
    real = data.transform(data.images("test")[0][:TEST])
    model = method.for_data(data.spec, architecture="mlp", latent_dim=CODE, width=WIDTH, lr=5e-4)

    @torch.no_grad()
    def measured(module: AdversarialModule) -> tuple[float, float]:
        fake = module.sample(TEST, generator=torch.Generator().manual_seed(seed))
        return score(module.logits(real, None), module.logits(fake, None)), fid_of(module, extractor, num)

    along = Along(places, measured)
    fit(model, data, places[-1], along)
    return along.values
