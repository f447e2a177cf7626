"""``compare gans``: every GAN on Fashion-MNIST with the same generator, discriminator trunk and number of steps.

The learning rate of each method is that of 0.0004, 0.001 and 0.002 with which its FID on the validation split was best
after 1 500 steps of the generator, and falls linearly to zero over the run. The clipped critic of the WGAN has batch
normalisation, as its paper has. ALI and GibbsNet add an encoder. R3GAN and growing networks are made of networks of
their own, in a second table; their rates were chosen in the same way, of 0.0002, 0.001 and 0.002, and of 0.002, 0.005
and 0.02.

Metrics are those of the checkpoints' cards: 10 000 samples of averaged weights against the test split, under the zoo's
classifier of garments. The row of real data has as many training images in place of samples.
"""

from functools import cache

import torch

from datamodules.images.public_images import FashionMNIST
from lightning_modules.base import GenerativeModule
from lightning_modules.metrics.classifier import Classifier
from lightning_modules.metrics.feature_metrics import IMAGE_METRICS
from lightning_modules.metrics.names import metric_name
from lightning_modules.metrics.protocol import extract_images
from lightning_modules.metrics.reference_statistics import real_statistics
from lightning_modules.metrics.sample_evaluation import evaluate_samples
from zoo.comparing.comparison import Block, Column, Comparison, Entry, Values
from zoo.loading import load_classifier

NUM_IMAGES = 10_000
SHARED = {"architecture": "dcgan", "latent_dim": 64, "width": 16, "discriminator_width": 32}
METRICS = ("fid", "kid", "precision_recall")
COLUMNS = (
    Column("fid", "FID", ".2f"),
    Column("fid_over_real", "FID / real", ".0f"),
    Column("kid", "KID", ".4f"),
    Column("precision", "precision", ".2f"),
    Column("recall", "recall", ".2f"),
)
ADAM = {"lr": 2e-3, "betas": (0.0, 0.99)}
ENTRIES = (
    Entry("minimax_gan", "MinimaxGAN", ADAM),
    Entry("non_saturating_gan", "NonSaturatingGAN", ADAM),
    Entry("lsgan", "LSGAN", ADAM),
    Entry("instance_noise_gan", "InstanceNoiseGAN", {**ADAM, "instance_noise": 0.3}, {"noise_steps": 0.75}),
    Entry("roth_gan", "RothGAN", {**ADAM, "gamma": 2.0}, {"gamma_steps": 1.0}),
    Entry("wgan", "WGAN", {"lr": 1e-3, "weight_clip": 0.03, "critic_steps": 2, "batch_norm": True}),
    Entry("wgan_gp", "WGANGP", {**ADAM, "critic_steps": 1}),
    Entry("sngan", "SNGAN", ADAM),
    Entry("jacobian_clamping_gan", "JacobianClampingGAN", {**ADAM, "clamp_fraction": 0.5}),
    Entry("ali", "ALI", ADAM),
    Entry("gibbsnet", "GibbsNet", ADAM),
    Entry("creative_adversarial_network", "CreativeAdversarialNetwork", ADAM),
)
OWN_NETWORKS = (
    Entry(
        "progressive_gan",
        "ProgressiveGAN",
        {
            "game": "non_saturating",
            "penalty": "r1",
            "penalty_weight": 0.2,
            "lazy_every": 4,
            "drift_weight": 0.0,
            "latent_dim": 64,
            "width": 16,
            "lr": 0.02,
        },
        {"growth_steps": 0.5, "decay_steps": 1.0},
    ),
    Entry(
        "r3gan",
        "R3GAN",
        {"lr": 2e-3, "lazy_every": 8, "augment": ("translation",), "augment_end": 0.3, "latent_dim": 64, "width": 16},
        {"schedule_steps": 1.0},
    ),
)


@cache
def classifier() -> Classifier:
    """Returns the classifier under which everything is measured."""
    return load_classifier("classifier.fashion_mnist")


def of_samples(module: GenerativeModule) -> Values:
    """Returns FID, also over that of real images, KID, precision and recall of 10 000 samples."""
    spec = module.data_spec
    values = evaluate_samples(module, classifier(), spec=spec, num_samples=NUM_IMAGES, metrics=METRICS, progress=False)
    return named(values)


@cache
def of_real_images() -> dict[str, float]:
    """Returns the same of 10 000 training images."""
    data = FashionMNIST()
    data.setup()
    images = data.images("train")[0]
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:NUM_IMAGES]
    extracted = extract_images(classifier(), images[chosen])
    statistics = real_statistics(classifier(), data.spec, "test")
    values: Values = {"fid_over_real": 1.0}
    for metric in METRICS:
        values |= IMAGE_METRICS[metric].measure(extracted, statistics)
    return values


def named(values: Values) -> Values:
    """Returns values without the protocol in their names, with FID over that of real images."""
    end = metric_name("test", "", classifier().extractor_name, NUM_IMAGES).removeprefix("test/")
    short = {name.removeprefix("test/").removesuffix(end): value for name, value in values.items()}
    return short | {"fid_over_real": short["fid"] / of_real_images()["fid"]}


GANS = Comparison(
    "gans",
    "GANs on Fashion-MNIST after 8 000 steps of the generator",
    (
        Block(
            "fashion_mnist",
            "The same generator and discriminator trunk, batches of 64",
            datamodule=FashionMNIST,
            shared=SHARED,
            entries=ENTRIES,
            seeds=(0, 1),
            updates=8000,
            half_life_images=20_000,
            measure=of_samples,
            real=of_real_images,
            columns=COLUMNS,
            lengths={"decay_steps": 1.0},
        ),
        Block(
            "own_networks",
            "Networks of their own, batches of 64",
            datamodule=FashionMNIST,
            shared={},
            entries=OWN_NETWORKS,
            seeds=(0, 1),
            updates=8000,
            half_life_images=20_000,
            measure=of_samples,
            real=of_real_images,
            columns=COLUMNS,
        ),
    ),
)
