"""Against a discriminator near its optimum the minimax loss saturates, and the other one becomes unstable.

After 1, 10 and 25 epochs of a non-saturating GAN on 6 400 images of Fashion-MNIST the generator is fixed, and a new
discriminator is trained against it with the cross-entropy of eq. 1.38, as Arjovsky and Bottou did (2017,
https://arxiv.org/abs/1701.04862, figures 2 and 3). Along its training the gradient of both generator losses is taken by
the generator's parameters, over 16 batches at the same weights. Of the minimax loss the norm of the mean gradient
counts, of the non-saturating loss the total variance between batches, the sum of the variances of all parameters.

In a first run epochs were of 1 280 images, 20 batches each, so that the generators were all near the beginning of their
training; the least growth of the variance was then by 6.2, after 25 epochs. The rule is as it was.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules import NonSaturatingGAN
from lightning_modules.networks.mlp import Discriminator
from lightning_modules.parts.games import MINIMAX, NON_SATURATING, Game, cross_entropy
from lightning_modules.parts.noise import Noise
from zoo.studies.garments import BATCH, data_in_order
from zoo.studies.quiet_training import Along, fit
from zoo.studies.study import Number, Outcome, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels

SEEDS = (0, 1, 2)
EPOCHS = (1, 10, 25)
PLACES = (10, 30, 100, 300, 600)
IMAGES, CODE, WIDTH, RATE, DRAWS = 6400, 64, 32, 1e-3, 16


@study(
    place="1.2.3, eq. 1.38 and 1.39; Arjovsky and Bottou (2017)",
    claim="Where the supports of data and model do not overlap, the minimax loss saturates and the gradient of the "
    "generator vanishes, and the non-saturating loss leads to instability.",
    rule="For each of three seeds and each of three generators, from 10 steps of the new discriminator to 600 the "
    "norm of the mean minimax gradient falls by a factor of 100 or more, and the variance of the non-saturating "
    "gradient between batches grows by a factor of 10 or more.",
)
def saturation(quick: bool) -> Outcome:
    """Trains a GAN with each seed, and a discriminator against each of its generators."""
    seeds, epochs, places, images = (
        (SEEDS[:1], EPOCHS[:2], PLACES[:2], 2 * BATCH) if quick else (SEEDS, EPOCHS, PLACES, IMAGES)
    )
    runs = [one_run(seed, epochs, places, images) for seed in seeds]
    figure, panel = panels("minimax: mean gradient", "non-saturating: spread of the gradient")
    numbers: dict[str, Number] = {}
    for which, (axes, name) in enumerate(zip(panel, ("minimax_norm", "variance"), strict=True)):
        for index, epoch in enumerate(epochs):
            # Their logarithms are averaged, because they differ by factors.
            means = [
                mean_of_runs([torch.tensor(run[epoch][place][which]).log10().item() for run in runs])
                for place in places
            ]
            curve(axes, places, [10**mean.value for mean in means], index, f"generator of {epoch} epochs")
            numbers[f"log10_{name}_first_epoch_{epoch}"], numbers[f"log10_{name}_last_epoch_{epoch}"] = (
                means[0],
                means[-1],
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
    labels(panel[0], "steps of the new discriminator", "norm of the mean")
    labels(panel[1], "steps of the new discriminator", "variance between batches", legend=False)

    falls = [run[epoch][places[0]][0] / run[epoch][places[-1]][0] for run in runs for epoch in epochs]
    grows = [run[epoch][places[-1]][1] / run[epoch][places[0]][1] for run in runs for epoch in epochs]
    seen = (
        f"Between {places[0]} and {places[-1]} steps of the discriminator the minimax gradient falls by factors of "
        f"{min(falls):.3g} to {max(falls):.3g} over seeds and generators. The variance of the non-saturating gradient "
        f"becomes {min(grows):.3g} to {max(grows):.3g} times as large."
    )
    return Outcome(min(falls) >= 100 and min(grows) >= 10, numbers, figure, seen, seeds)


Spread = tuple[float, float]


def one_run(seed: int, epochs: tuple[int, ...], places: tuple[int, ...], images: int) -> dict[int, dict[int, Spread]]:
    """Returns both measurements by the epochs of the generator and the steps of the discriminator."""
    data = data_in_order(seed)
    x = data.transform(data.images("train")[0][:images])
    torch.manual_seed(seed)
    gan = NonSaturatingGAN(architecture="mlp", latent_dim=CODE, width=WIDTH)
    along = Along([epoch * images // BATCH for epoch in epochs], lambda module: deepcopy(module.generator))
    fit(gan, DataLoader(TensorDataset(x), batch_size=BATCH, shuffle=True), epochs[-1] * images // BATCH, along)
    noise = Noise(torch.Generator().manual_seed(seed))
    return {epoch: against(along.values[epoch * images // BATCH], x, noise, places) for epoch in epochs}


def against(generator: nn.Module, x: Tensor, noise: Noise, places: tuple[int, ...]) -> dict[int, Spread]:
    """Trains a new discriminator against a fixed generator; returns both measurements by its steps."""
    discriminator, found = Discriminator(x.shape[1:], WIDTH), {}
    optimizer = torch.optim.Adam(discriminator.parameters(), RATE, (0.5, 0.999))
    for step in range(1, places[-1] + 1):
        real = x[(noise.uniform(BATCH, device=x.device) * len(x)).long()]
        with torch.no_grad():
            fake = generator(noise.normal(BATCH, CODE, device=x.device))
        optimizer.zero_grad()
        cross_entropy(discriminator(real), discriminator(fake)).backward()
        optimizer.step()
        if step in places:
            minimax, other = (gradients(generator, discriminator, game, noise) for game in (MINIMAX, NON_SATURATING))
            found[step] = (minimax.mean(0).norm().item(), other.var(0).sum().item())
    return found


def gradients(generator: nn.Module, discriminator: nn.Module, game: Game, noise: Noise) -> Tensor:
    """Returns the gradient of the generator's loss by its parameters for several batches of codes, (DRAWS, P)."""
    parameters, rows = list(generator.parameters()), []
    for _ in range(DRAWS):
        loss = game.generator(discriminator(generator(noise.normal(BATCH, CODE, device=parameters[0].device))))
        rows.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)]))
    return torch.stack(rows)
