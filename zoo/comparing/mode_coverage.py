"""``compare modes``: how many modes of known mixtures each GAN covers, on points and on stacked garments.

Points have 8 modes on a ring or 25 on a grid, around which samples are counted. Stacks have 1 000 classes, which the
zoo's classifier of garments names channel by channel; the reference is its histogram of real stacks, and the row of
real data is that of other real stacks. Growing networks are left out on points, which have no size.
"""

from functools import partial

from torch import Tensor

from datamodules.images.stacked import StackedFashionMNIST
from datamodules.points.toy import Grid, Ring
from lightning_modules.base import GenerativeModule
from lightning_modules.metrics.modes import evaluate_points, mode_coverage, modes_of
from lightning_modules.metrics.protocol import sample_blocks
from lightning_modules.metrics.stacks import stack_coverage, stacked_classes
from lightning_modules.parts.quantization import to_uint8
from zoo.comparing.comparison import Block, Column, Comparison, Entry, Values
from zoo.loading import load_classifier

NUM_POINTS, NUM_STACKS = 2500, 25_600
ON_POINTS = {"architecture": "mlp", "latent_dim": 2, "width": 32}
ON_STACKS = {"architecture": "dcgan", "latent_dim": 64, "width": 16, "discriminator_width": 32}
ADAM = {"lr": 5e-4, "betas": (0.0, 0.9)}
ADAM_ON_IMAGES = {"lr": 2e-3, "betas": (0.0, 0.99)}  # those of ``compare gans``
DECAY = {"decay_steps": 1.0}
POINT_COLUMNS = (
    Column(f"modes-{NUM_POINTS}", "modes", ".0f"),
    Column(f"high_quality-{NUM_POINTS}", "within 3 sd", ".3f"),
    Column(f"kl-{NUM_POINTS}", "KL, nats", ".3f"),
)
STACK_COLUMNS = (
    Column(f"modes-{NUM_STACKS}", "classes of 1 000", ".0f"),
    Column(f"kl-{NUM_STACKS}", "KL, nats", ".3f"),
)


POINT_ENTRIES = (
    Entry("minimax_gan", "MinimaxGAN", ADAM),
    Entry("non_saturating_gan", "NonSaturatingGAN", ADAM),
    Entry("lsgan", "LSGAN", ADAM),
    Entry("instance_noise_gan", "InstanceNoiseGAN", {**ADAM, "instance_noise": 0.1}, {"noise_steps": 0.75}),
    Entry("roth_gan", "RothGAN", {**ADAM, "gamma": 0.1}, {"gamma_steps": 1.0}),
    Entry("wgan", "WGAN", {"lr": 5e-4, "weight_clip": 0.1}),
    Entry("wgan_gp", "WGANGP", {**ADAM, "penalty_weight": 0.1}),
    Entry("sngan", "SNGAN", ADAM),
    Entry("jacobian_clamping_gan", "JacobianClampingGAN", {**ADAM, "lambda_min": 0.1, "lambda_max": 5.0}),
    Entry("ali", "ALI", {"lr": 2e-4, "betas": (0.5, 0.999)}),
    Entry("gibbsnet", "GibbsNet", ADAM),
    Entry("creative_adversarial_network", "CreativeAdversarialNetwork", ADAM),
    Entry("r3gan", "R3GAN", {**ADAM, "gamma": 0.1, "gamma_end": 0.01, "lr_end": 5e-5}, {"schedule_steps": 1.0}),
)
STACK_ENTRIES = (
    Entry("non_saturating_gan", "NonSaturatingGAN", ADAM_ON_IMAGES),
    Entry("roth_gan", "RothGAN", {**ADAM_ON_IMAGES, "gamma": 2.0}, {"gamma_steps": 1.0}),
    Entry("wgan_gp", "WGANGP", {**ADAM_ON_IMAGES, "critic_steps": 1}),
    Entry("sngan", "SNGAN", ADAM_ON_IMAGES),
    Entry("ali", "ALI", ADAM_ON_IMAGES),
)


def of_points(module: GenerativeModule) -> Values:
    """Returns the mode coverage of 2 500 samples."""
    values = evaluate_points(module, spec=module.data_spec, num_samples=NUM_POINTS)
    return {name.removeprefix("test/"): value for name, value in values.items()}


def of_real_points(kind: type[Ring] | type[Grid]) -> Values:
    """Returns the mode coverage of as many points of the mixture."""
    data = kind()
    data.setup()
    found = mode_coverage(data.points("test")[0][:NUM_POINTS], *modes_of(data.spec))
    return {f"{name}-{NUM_POINTS}": float(value) for name, value in found._asdict().items()}


def real_classes(part: int) -> Tensor:
    """Returns the classes of 25 600 real stacks, as the classifier names them; ``part`` 0 and 1 have none in common."""
    data = StackedFashionMNIST()
    data.setup()
    images = data.images("train")[0][part * NUM_STACKS :][:NUM_STACKS]
    return stacked_classes(load_classifier("classifier.fashion_mnist"), images)


def of_stacks(module: GenerativeModule) -> Values:
    """Returns the coverage of the classes by 25 600 samples."""
    samples = sample_blocks(module, NUM_STACKS, module.data_spec.shape)
    images = to_uint8(samples, (-1.0, 1.0))
    return covered(stacked_classes(load_classifier("classifier.fashion_mnist"), images))


def of_real_stacks() -> Values:
    """Returns the coverage of the classes by other real stacks."""
    return covered(real_classes(1))


def covered(classes: Tensor) -> Values:
    """Compares classes with those of real stacks."""
    found = stack_coverage(classes, real_classes(0))
    return {f"{name}-{NUM_STACKS}": float(value) for name, value in found._asdict().items()}


def points_block(name: str, title: str, kind: type[Ring] | type[Grid]) -> Block:
    """Returns the block of a mixture of points."""
    return Block(
        name,
        title,
        datamodule=partial(kind, fresh=True),
        shared=ON_POINTS,
        entries=POINT_ENTRIES,
        seeds=(0, 1, 2),
        updates=4000,
        half_life_images=100_000,
        measure=of_points,
        real=partial(of_real_points, kind),
        columns=POINT_COLUMNS,
        lengths=DECAY,
    )


MODES = Comparison(
    "modes",
    "Mode coverage after 4 000 steps of the generator",
    (
        points_block("ring8", "Eight Gaussians on a ring, batches of 256", Ring),
        points_block("grid25", "25 Gaussians on a grid, batches of 256", Grid),
        Block(
            "stacked_fashion_mnist",
            "Three garments in three channels, 1 000 classes, batches of 64",
            datamodule=StackedFashionMNIST,
            shared=ON_STACKS,
            entries=STACK_ENTRIES,
            seeds=(0, 1),
            updates=4000,
            half_life_images=20_000,
            measure=of_stacks,
            real=of_real_stacks,
            columns=STACK_COLUMNS,
            lengths=DECAY,
        ),
    ),
)
