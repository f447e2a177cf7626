"""R3GAN: its losses written out, closed forms of both penalties, networks that start as identities, four schedules."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, logsigmoid

from lightning_modules import R3GAN
from lightning_modules.networks.resnext import (
    Discriminator,
    Generator,
    InvertedBottleneck,
    downsampled,
    upsampled,
)
from tests.adversarial.games import POINTS, fit
from tests.adversarial.tiny_loop import Watch

SMALL: dict[str, Any] = {"shape": [1, 28, 28], "latent_dim": 4, "width": 2}


def linear_module(**settings: Any) -> tuple[R3GAN, Tensor]:
    """Returns the method with D(x) = w . x and all generated points at (1, -1)."""
    module = R3GAN(**POINTS, gamma=0.8, **settings)
    w = torch.tensor([3.0, -1.0])
    module.discriminator.forward = lambda x, condition=None: x @ w
    module.generator.forward = lambda z, condition=None: z * 0 + torch.tensor([1.0, -1.0])
    return module, w


def test_losses_are_those_of_the_formulas() -> None:
    module, w = linear_module()
    real = torch.randn(6, 2)
    losses, penalties = module.discriminator_losses(real, None, 0)
    generator_losses, none = module.generator_losses(real, None, 0)
    difference = real @ w - torch.tensor([1.0, -1.0]) @ w
    torch.testing.assert_close(losses["discriminator"], -logsigmoid(difference).mean())
    torch.testing.assert_close(generator_losses["generator"], -logsigmoid(-difference).mean())
    # gamma / 2 ||w||^2 on real and on generated points alike
    assert {name: value.item() for name, value in penalties.items()} == pytest.approx(dict.fromkeys(["r1", "r2"], 4.0))
    assert none == {}


def test_r1_is_of_real_points_and_r2_of_generated_ones() -> None:
    """D(x) = |x|^2 / 2 has the gradient x: gamma / 2 E |x|^2."""
    module, _ = linear_module()
    module.discriminator.forward = lambda x, condition=None: x.square().sum(1) / 2
    real = 3 * torch.randn(6, 2)
    _, penalties = module.discriminator_losses(real, None, 0)
    torch.testing.assert_close(penalties["r1"], 0.4 * real.square().sum(1).mean())
    assert penalties["r2"].item() == pytest.approx(0.4 * 2.0)


def test_each_fake_is_compared_with_one_real_example_of_its_class() -> None:
    module = R3GAN(**POINTS, num_classes=3)
    seen: list[tuple[str, Tensor]] = []
    module.generator.forward = lambda z, condition: (seen.append(("fake", condition)), z)[1]
    module.discriminator.forward = lambda x, condition: (seen.append(("judged", condition)), x.sum(1))[1]
    labels = torch.tensor([2, 0, 1, 1])
    module.discriminator_losses(torch.randn(4, 2), labels, 0)
    module.generator_losses(torch.randn(4, 2), labels, 0)
    assert {name for name, _ in seen} == {"fake", "judged"}
    assert all(torch.equal(condition, labels) for _, condition in seen)


def test_lazy_penalties_have_the_same_weight_on_average() -> None:
    """Eighteen batches of gamma: every batch, or every third with three times the weight."""
    totals = []
    for every in (1, 3):
        module, _ = linear_module(lazy_every=every)
        terms = [module.discriminator_losses(torch.randn(4, 2), None, step)[1] for step in range(18)]
        totals.append(sum(value.item() for penalties in terms for value in penalties.values()))
        assert sum(map(bool, terms)) == 18 // every
    assert totals[0] == pytest.approx(totals[1])


def test_blocks_start_as_identities_and_do_not_stay_so() -> None:
    torch.manual_seed(0)
    for network in (Generator([1, 28, 28], 4, 4), Discriminator([1, 28, 28], 4)):
        blocks = [layer for layer in network.modules() if isinstance(layer, InvertedBottleneck)]
        assert len(blocks) == 3
        for block in blocks:
            x = torch.randn(2, block.contract.out_channels, 7, 7)
            assert torch.equal(block(x), x)
            (gradient,) = torch.autograd.grad(block(x).square().sum(), block.contract.weight)
            assert gradient.any()
        assert not [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._NormBase)]


def test_activations_keep_their_size_through_the_first_layers_of_a_block() -> None:
    """Weights take account of a leaky ReLU, and of L blocks of m = 3 layers by L^(-1 / (2 m - 2)), L^(-1 / 4) here."""
    torch.manual_seed(0)
    block = InvertedBottleneck(64, num_blocks=16)
    x = torch.randn(64, 64, 9, 9)
    expanded = block.expand(x)
    gain = math.sqrt(2 / 1.04)
    assert expanded.std().item() == pytest.approx(gain * 16**-0.25, rel=0.05)
    mixed = block.mix(torch.nn.functional.leaky_relu(expanded, 0.2))[:, :, 1:-1, 1:-1]
    assert mixed.square().mean().sqrt().item() == pytest.approx(gain * 16**-0.5, rel=0.1)


def test_resampling_is_by_the_binomial_filter() -> None:
    """[1, 2, 1] and nearest neighbours or 2x2 means: one filter [1, 3, 3, 1] of stride 2, away from the border."""
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    blur = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4
    kernel = (blur[:, None] * blur).expand(3, 1, 3, 3)
    blurred = conv2d(x, kernel, padding=1, groups=3)
    torch.testing.assert_close(downsampled(x), nn.functional.avg_pool2d(blurred, 2))
    nearest = conv_transpose2d(x, torch.ones(3, 1, 2, 2, dtype=torch.float64), stride=2, groups=3)
    expected = conv2d(nearest, kernel, padding=1, groups=3)
    torch.testing.assert_close(upsampled(x)[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1])


def test_four_schedules_go_from_start_to_end_as_a_cosine() -> None:
    module = R3GAN(
        **SMALL, schedule_steps=100, lr=2e-4, lr_end=5e-5, gamma=2.0, gamma_end=0.2, augment=["cutout"], augment_end=0.5
    )
    assert module.beta2 is not None
    augment: Any = module.augment
    for step, share in ((0, 0.0), (50, 0.5), (25, (1 - math.sqrt(0.5)) / 2), (100, 1.0), (10**6, 1.0)):
        assert module.lr_schedule(step) == pytest.approx(1 - 0.75 * share)
        assert module.beta2(step) == pytest.approx(0.9 + 0.09 * share)
        assert module.penalties["r1"].weight_at(step) == pytest.approx(2.0 - 1.8 * share)
        assert module.penalties["r2"].weight_at(step) == pytest.approx(2.0 - 1.8 * share)
        assert augment.probability(step) == pytest.approx(0.5 * share)


def test_optimizers_follow_the_schedules() -> None:
    def settings(trainer: Any, _: Any) -> list[tuple[float, float]]:
        groups = [optimizer.param_groups[0] for optimizer in trainer.optimizers]
        return [(group["lr"], group["betas"][1]) for group in groups]

    watch = Watch(settings)
    fit(R3GAN(**POINTS, schedule_steps=4, lr=1e-3, lr_end=5e-4, discriminator_lr=2e-3), 6, callbacks=[watch])
    for step, found in enumerate(watch.seen):
        share = (1 - math.cos(math.pi * min(step / 4, 1))) / 2
        for (lr, beta2), own in zip(found, (1e-3, 2e-3), strict=True):
            assert lr == pytest.approx(own * (1 - 0.5 * share))
            assert beta2 == pytest.approx(0.9 + 0.09 * share)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"gamma": 0.0}, r"gamma=0\.0"),
        ({"lr_end": 0.0}, r"lr_end=0\.0"),
        ({"beta2_end": 1.0}, r"beta2_end=1\.0"),
        ({"augment_end": 1.2}, r"augment_end=1\.2"),
        ({"lazy_every": 0}, "lazy_every=0"),
        ({"lr_end": 1e-4}, r"lr_end=0\.0001 has no effect without schedule_steps"),
        ({"gamma_end": 0.1}, r"gamma_end=0\.1 has no effect without schedule_steps"),
        ({"beta2_end": 0.95}, r"beta2_end=0\.95 has no effect without schedule_steps"),
        ({"augment_end": 0.9, "schedule_steps": 10}, r"augment_end=0\.9 has no effect without augment"),
        ({"lr": 1e-5, "schedule_steps": 10}, r"lr_end=5e-05 is above lr=1e-05"),
        ({"gamma": 0.001, "schedule_steps": 10}, r"gamma_end=0\.005 is above gamma=0\.001"),
        ({"schedule_steps": 0}, "schedule_steps=0"),
        ({"augment": ["cutout"]}, r"augment=\['cutout'\] has no effect with schedule_steps=None"),
        ({"augment": ["cutout"], "schedule_steps": 10, "shape": [2], "architecture": "mlp"}, r"images.*shape=\[2\]"),
        ({"architecture": "resnext", "shape": [2]}, r"architecture='resnext'.*shape=\[2\]"),
    ],
)
def test_settings_without_sense_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        R3GAN(**{**SMALL, **settings})


def test_a_schedule_longer_than_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match=r"schedule_steps=9.*planned for 8"):
        fit(R3GAN(**POINTS, schedule_steps=9), 8)
