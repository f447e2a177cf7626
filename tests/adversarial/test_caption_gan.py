"""CaptionGAN: the losses of Algorithm 1 and eq. 5 by hand, matching that is learned from real images, and refusals."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from datamodules.spec import Batch, DataSpec
from lightning_modules import CaptionGAN
from lightning_modules.parts.matching import wrong_conditions
from lightning_modules.parts.noise import Noise
from tests.adversarial.covering import covering_rows
from tests.captioned import CAPTIONS, CaptionedBars, tokens_of, with_words
from tests.standins import quiet_trainer
from tests.training import TinyData

SHAPE = (1, 4, 4)
SPEC = with_words(DataSpec("bars", "image", SHAPE, (-1.0, 1.0), num_classes=2))
NUM = 12


def gan(**settings: Any) -> CaptionGAN:
    torch.manual_seed(0)
    small = {"architecture": "mlp", "latent_dim": 3, "width": 8}
    return CaptionGAN.for_data(SPEC, **{**small, **settings})


def fixed(module: CaptionGAN, seed: int = 0) -> CaptionGAN:
    """Returns the module with a training RNG of its own, and without steps of power iteration."""
    module.noise = Noise(torch.Generator().manual_seed(seed))
    return module.eval()


def log_probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the means of log s and of log(1 - s) for s = sigmoid(logits)."""
    return -softplus(-logits).mean(), -softplus(logits).mean()


def test_the_discriminators_loss_is_that_of_algorithm_1() -> None:
    module, real, captions = fixed(gan(game="non_saturating")), torch.rand(NUM, *SHAPE) * 2 - 1, tokens_of(NUM)
    losses, penalties = module.discriminator_losses(real, captions, 0)
    draws = Noise(torch.Generator().manual_seed(0))
    fake = module.generator(draws.normal(NUM, 3, device=real.device), captions)
    wrong, _ = wrong_conditions(captions, draws)
    s_r, s_w, s_f = (module.discriminator(x, y) for x, y in ((real, captions), (real, wrong), (fake, captions)))
    expected = -log_probabilities(s_r)[0] - (log_probabilities(s_w)[1] + log_probabilities(s_f)[1]) / 2
    torch.testing.assert_close(losses, {"discriminator": expected})
    assert penalties == {}


def test_the_generators_losses_are_those_of_algorithm_1_and_equation_5() -> None:
    module, real, captions = fixed(gan(game="non_saturating")), torch.zeros(NUM, *SHAPE), tokens_of(NUM)
    losses, _ = module.generator_losses(real, captions, 0)
    draws = Noise(torch.Generator().manual_seed(0))
    z = draws.normal(NUM, 3, device=real.device)
    plain = -log_probabilities(module.discriminator(module.generator(z, captions), captions))[0]
    pairs = torch.stack([captions, wrong_conditions(captions, draws)[0]], 1)
    z = draws.normal(NUM, 3, device=real.device)
    middle = -log_probabilities(module.discriminator(module.generator(z, pairs), pairs))[0]
    torch.testing.assert_close(losses, {"generator": plain, "interpolation": middle})


@pytest.mark.parametrize("wrong_captions", [False, True])
@pytest.mark.parametrize("interpolation", [False, True])
def test_the_four_variants_of_the_paper(wrong_captions: bool, interpolation: bool) -> None:
    module = gan(wrong_captions=wrong_captions, interpolation=interpolation)
    seen: list[int] = []
    module.discriminator.register_forward_pre_hook(lambda network, given: seen.append(len(given[0])))
    module.discriminator_losses(torch.zeros(NUM, *SHAPE), tokens_of(NUM), 0)
    assert seen == [NUM] * (3 if wrong_captions else 2)
    losses, _ = module.generator_losses(torch.zeros(NUM, *SHAPE), tokens_of(NUM), 0)
    assert list(losses) == ["generator", *(["interpolation"] if interpolation else [])]


def test_real_images_are_augmented_once_for_both_of_their_captions() -> None:
    larger = replace(SPEC, shape=(1, 8, 8))  # smaller images are not shifted
    module, given = CaptionGAN.for_data(larger, architecture="mlp", width=8, augment=["translation", "cutout"]), []
    module.discriminator.register_forward_pre_hook(lambda network, inputs: given.append(inputs[0]))
    real = torch.rand(NUM, 1, 8, 8) * 2 - 1
    module.discriminator_losses(real, tokens_of(NUM), 0)
    matching, _, mismatched = given
    assert not matching.equal(real)
    assert matching.equal(mismatched)


def test_augmentations_that_are_unknown_or_never_applied_are_refused() -> None:
    with pytest.raises(ValueError, match=r"augment=\['blur'\]: blur is not one of translation, cutout"):
        gan(augment=["blur"])
    with pytest.raises(ValueError, match="augment_probability"):
        gan(augment_probability=0.5)
    with pytest.raises(ValueError, match="augment_probability"):
        gan(augment=["translation"], augment_probability=1.5)


PATTERNS = 0.5 * torch.randn(12, math.prod(SHAPE), generator=torch.Generator().manual_seed(0)).sign()
"""By the sum of a caption's tokens, which differs between all of them."""


class PerfectGenerator(nn.Module):
    """Makes for each caption the images that it has."""

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        return images_of(condition, z)


def images_of(captions: Tensor, noise: Tensor) -> Tensor:
    """The pattern of each caption, and a little noise."""
    return (PATTERNS[captions.sum(1)] + 0.1 * noise[:, :1]).view(-1, *SHAPE)


def told_apart(wrong_captions: bool, game: str) -> tuple[float, float]:
    """Trains a discriminator against a generator that is perfect, from which there is nothing to learn.

    Returns:
        The share of new real images whose logit is larger with their own caption than with a wrong one, and how much
        the game's loss rises when real images get wrong captions.
    """
    assert len({sum(row) for row in tokens_of(len(CAPTIONS)).tolist()}) == len(CAPTIONS)
    module = gan(wrong_captions=wrong_captions, game=game)
    module.generator = PerfectGenerator()
    optimizer = torch.optim.Adam(module.discriminator.parameters(), 5e-3, betas=(0.0, 0.99))
    captions = tokens_of(40)
    for step in range(60):
        losses, _ = module.discriminator_losses(images_of(captions, torch.randn(40, 3)), captions, step)
        optimizer.zero_grad()
        losses["discriminator"].backward()
        optimizer.step()
    fixed(module, seed=1)
    with torch.no_grad():
        real = images_of(captions, torch.randn(40, 3))
        wrong, _ = wrong_conditions(captions, module.noise)
        right, mismatched = module.logits(real, captions), module.logits(real, wrong)
        fake = module.logits(images_of(captions, torch.randn(40, 3)), captions)
        rise = module.game.discriminator(mismatched, fake) - module.game.discriminator(right, fake)
    return (right > mismatched).float().mean().item(), rise.item()


@pytest.mark.parametrize("game", ["hinge", "non_saturating"])
def test_wrong_captions_raise_the_matching_loss_of_a_discriminator_that_has_seen_some(game: str) -> None:
    """Which caption belongs to an image is learned from real images alone; a plain GAN learns nothing of it."""
    accuracy, rise = told_apart(True, game)
    assert accuracy > 0.95
    assert rise > 0.3
    if game == "hinge":
        _, plain = told_apart(False, game)
        assert rise > 3 * plain


def test_interpolation_trains_the_generator_alone_and_all_of_it() -> None:
    """After one batch with it, and one without, discriminators are the same bit for bit, and generators are not."""
    weights = []
    for interpolation in (True, False):
        module = gan(interpolation=interpolation)
        torch.manual_seed(1)
        trainer = quiet_trainer(max_epochs=-1, max_steps=1, limit_val_batches=0)
        trainer.fit(module, TinyData(SHAPE, captioned=True))
        assert ("train/interpolation" in trainer.callback_metrics) == interpolation
        weights.append({name: value.clone() for name, value in module.named_parameters()})
    differing = [name for name, value in weights[0].items() if not torch.equal(value, weights[1][name])]
    assert differing
    assert all(name.startswith("generator.") for name in differing)

    module = gan()
    module.interpolation_loss(tokens_of(NUM), 0).backward()
    without = [name for name, p in module.generator.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_wrong_captions_train_all_of_the_discriminator() -> None:
    """And nothing of the generator."""
    module = gan(game="non_saturating")
    losses, _ = module.discriminator_losses(torch.rand(NUM, *SHAPE), tokens_of(NUM), 0)
    losses["discriminator"].backward()
    assert [name for name, p in module.discriminator.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert all(p.grad is None for p in module.generator.parameters())


def test_without_a_wrong_caption_the_loss_is_that_of_a_plain_gan() -> None:
    real, same = torch.rand(NUM, *SHAPE), tokens_of(1).repeat(NUM, 1)
    found = [fixed(gan(wrong_captions=on)).discriminator_losses(real, same, 0)[0] for on in (True, False)]
    torch.testing.assert_close(found[0], found[1])


FACTORS: Mapping[str, Any] = {
    "wrong_captions": [True, False],
    "interpolation": [True, False],
    "game": ["hinge", "non_saturating"],
    "architecture": ["mlp", "dcgan", "resnet"],
    "num_classes": [None, 3],
    "critic_steps": [1, 2],
    "accumulate_batches": [1, 2],
}
ROWS = covering_rows(FACTORS, lambda row: True)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(map(str, row.values())))
def test_settings_train_together(row: dict[str, int]) -> None:
    data = CaptionedBars(shape=(1, 8, 8), num_classes=3, size=16, val_size=4, test_size=4, batch_size=4)
    settings = {name: FACTORS[name][level] for name, level in row.items()}
    module = CaptionGAN.for_data(data.spec, latent_dim=3, width=2, **settings)
    before = {name: value.clone() for name, value in module.named_parameters()}
    trainer = quiet_trainer(max_epochs=-1, max_steps=4, limit_val_batches=1)
    trainer.fit(module, data)
    logged = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
    wanted = {"train/discriminator", "train/generator", *(["train/interpolation"] if settings["interpolation"] else [])}
    assert wanted <= logged.keys()
    assert all(value.isfinite() for value in logged.values())
    for player in ("generator.", "discriminator."):
        names = [name for name in before if name.startswith(player)]
        assert any(not torch.equal(before[name], module.get_parameter(name)) for name in names)
    labels = None if module.num_classes is None else torch.tensor([0, 1])
    assert module.sample(2, captions=["a bar"], labels=labels).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_words": None}, r"num_words=null, but CaptionGAN is a model of captions.*data\.setup\(\)"),
        ({"num_words": 0}, "num_words=0"),
        ({"num_words": 4}, "num_words=4, but the captions of bars have 5 words"),
        ({"game": "wasserstein"}, "game='wasserstein' is not one of hinge, non_saturating"),
        ({"num_classes": 1}, "num_classes=1 must be at least 2"),
    ],
)
def test_hyperparameters_of_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gan(**settings)


def test_data_and_batches_without_captions_are_refused() -> None:
    plain = replace(SPEC, vocabulary=(), captions=(), caption_classes=())
    with pytest.raises(ValueError, match="num_words=null, but CaptionGAN is a model of captions"):
        CaptionGAN.for_data(plain)
    built = CaptionGAN.for_data(plain, num_words=5, architecture="mlp", width=2)  # some know their words after setup
    with pytest.raises(ValueError, match="num_words=5, but tiny has no captions"):
        quiet_trainer().fit(built, TinyData(SHAPE))
    with pytest.raises(ValueError, match="num_words=5; a batch must have tokens"):
        gan().check_batch(Batch(torch.zeros(2, *SHAPE)))
    with pytest.raises(ValueError, match="CaptionGAN models image"):
        CaptionGAN.for_data(replace(SPEC, kind="points", shape=(2,)))
