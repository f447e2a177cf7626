"""Growing networks: at both ends of a fade they are the smaller and the larger network, bit for bit."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.equalized import EqualizedConv2d, EqualizedLinear, MinibatchStd, pixel_norm
from lightning_modules.networks.growing import Discriminator, Generator, growth_levels

SHAPES = [(1, 28, 28), (3, 32, 32), (2, 64, 64)]
SIDES = {28: [7, 14, 28], 32: [4, 8, 16, 32], 64: [4, 8, 16, 32, 64]}


def players(shape: tuple[int, ...], num_classes: int | None = None) -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    return Generator(shape, 6, 2, num_classes), Discriminator(shape, 2, num_classes)


def enlarged(x: Tensor, factor: int) -> Tensor:
    return x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def of_levels(network: Any, num: int) -> Any:
    """The network of the lowest ``num`` levels alone, with the same weights: another object, that never grew."""
    shape = (1, 7 * 2 ** (num - 1), 7 * 2 ** (num - 1))
    widths = 2 * 2 ** (3 - num)
    smaller: Any = Discriminator(shape, widths, None, num)
    if isinstance(network, Generator):
        smaller = Generator(shape, 6, widths, None, num)
    own = network.state_dict()
    kept = {key: own[key] for key in smaller.state_dict() if key not in ("level", "alpha")}
    smaller.load_state_dict(kept, strict=False)
    return smaller


@pytest.mark.parametrize("level", [1, 2])
def test_alpha_0_is_the_smaller_generator_upsampled_and_alpha_1_the_deeper_one(level: int) -> None:
    generator, _ = players((1, 28, 28))
    z = torch.randn(5, 6)
    generator.set_stage(level, 0.0)
    smaller, deeper = of_levels(generator, level), of_levels(generator, level + 1)
    side = 7 * 2**level
    assert smaller(z).shape[-1] == side // 2
    expected = enlarged(smaller(z), 2 * 28 // side)
    assert torch.equal(generator(z), expected)
    generator.set_stage(level - 1, 1.0)
    assert torch.equal(generator(z), expected)
    expected = enlarged(deeper(z), 28 // side)
    generator.set_stage(level, 1.0)
    assert torch.equal(generator(z), expected)
    generator.alpha.fill_(1.0)
    generator.fading = True  # the blend itself, not only the branch without it
    assert torch.equal(generator(z), expected)
    generator.set_stage(level, 0.3)
    blend = 0.7 * F.interpolate(smaller(z), scale_factor=2.0) + 0.3 * deeper(z)
    torch.testing.assert_close(generator(z)[..., :: 28 // side, :: 28 // side], blend)


@pytest.mark.parametrize("level", [1, 2])
def test_alpha_0_is_the_smaller_discriminator_of_averaged_pixels_and_alpha_1_the_deeper_one(level: int) -> None:
    _, discriminator = players((1, 28, 28))
    x = torch.rand(5, 1, 28, 28) * 2 - 1
    smaller, deeper = of_levels(discriminator, level), of_levels(discriminator, level + 1)
    side = 7 * 2**level
    present = F.avg_pool2d(x, 28 // side)
    discriminator.set_stage(level, 0.0)
    assert torch.equal(discriminator(x), smaller(F.avg_pool2d(present, 2)))
    discriminator.set_stage(level, 1.0)
    assert torch.equal(discriminator(x), deeper(present))
    discriminator.fading = True
    assert torch.equal(discriminator(x), deeper(present))
    discriminator.set_stage(level, 0.5)
    assert not torch.equal(discriminator(x), deeper(present))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_discriminator_sees_what_the_generator_made_and_real_images_likewise(shape: tuple[int, ...]) -> None:
    """Repeated pixels are averaged back to what they were; real images get the resolution of generated ones."""
    generator, _ = players(shape)
    real = torch.rand(3, *shape) * 2 - 1
    assert generator.as_grown(real) is real
    for level, side in enumerate(SIDES[shape[1]]):
        factor = shape[1] // side
        generator.set_stage(level, 1.0)
        for x in (generator(torch.randn(3, 6)), generator.as_grown(real)):
            assert x.shape == (3, *shape)
            small = x[..., ::factor, ::factor]
            assert torch.equal(x, enlarged(small, factor))
        torch.testing.assert_close(generator.as_grown(real)[..., ::factor, ::factor], F.avg_pool2d(real, factor))
        if level:
            generator.set_stage(level, 0.25)
            below = enlarged(F.avg_pool2d(real, 2 * factor), 2)
            expected = 0.75 * below + 0.25 * F.avg_pool2d(real, factor)
            torch.testing.assert_close(generator.as_grown(real)[..., ::factor, ::factor], expected)


@pytest.mark.parametrize("num_classes", [None, 3])
def test_what_is_not_used_is_frozen_and_all_the_rest_has_a_gradient(num_classes: int | None) -> None:
    shape = (1, 28, 28)
    generator, discriminator = players(shape, num_classes)
    labels = None if num_classes is None else torch.tensor([0, 1, 2, 0])
    trained: set[str] = set()
    for level, alpha in ((0, 1.0), (1, 0.5), (1, 1.0), (2, 0.5), (2, 1.0)):
        for network in (generator, discriminator):
            network.zero_grad()
            network.set_stage(level, alpha)
        discriminator(generator(torch.randn(4, 6), labels), labels).square().sum().backward()
        for name, network in (("generator", generator), ("discriminator", discriminator)):
            with_gradient = {key for key, p in network.named_parameters() if p.grad is not None and p.grad.any()}
            assert with_gradient == {key for key, p in network.named_parameters() if p.requires_grad}
            trained |= {f"{name}.{key}" for key in with_gradient}
    both = nn.ModuleDict({"generator": generator, "discriminator": discriminator})
    assert trained == {key for key, _ in both.named_parameters()}


def test_a_stage_is_part_of_the_weights() -> None:
    for network, other in zip(players((1, 28, 28)), players((1, 28, 28)), strict=True):
        for level, alpha in ((0, 1.0), (2, 0.25), (1, 1.0)):
            network.set_stage(level, alpha)
            other.load_state_dict(network.state_dict())
            assert (other.present, other.fading, other.alpha.item()) == (level, alpha < 1, alpha)


# Layers


def test_equalized_layers_have_weights_of_one_size_and_outputs_too() -> None:
    torch.manual_seed(0)
    for layer, x in (
        (EqualizedLinear(400, 300), torch.randn(200, 400)),
        (EqualizedConv2d(50, 60, 3), torch.randn(20, 50, 12, 12)),
    ):
        assert layer.weight.std().item() == pytest.approx(1, abs=0.02)
        assert layer.scale == pytest.approx((2 / layer.weight[0].numel()) ** 0.5)
        used = layer.weight * (2 / layer.weight[0].numel()) ** 0.5
        expected = F.linear(x, used) if x.ndim == 2 else F.conv2d(x, used, padding=1)
        torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)
        inside = layer(x)[..., 1:-1, 1:-1] if x.ndim == 4 else layer(x)
        assert inside.square().mean().item() == pytest.approx(2, rel=0.05)


def test_pixel_norm_divides_by_the_root_mean_square_over_channels() -> None:
    x = torch.randn(4, 7, 3, 3, dtype=torch.float64)
    expected = x / x.norm(dim=1, keepdim=True) * 7**0.5
    torch.testing.assert_close(pixel_norm(x), expected, rtol=1e-6, atol=1e-6)
    assert pixel_norm(torch.zeros(2, 3)).isfinite().all()


def test_the_deviation_over_the_batch_is_one_more_feature_map() -> None:
    layer = MinibatchStd()
    h = torch.randn(6, 5, 3, 3)
    out = layer(h)
    assert torch.equal(out[:, :5], h)
    expected = h.numpy().std(0).mean()
    torch.testing.assert_close(out[:, 5], torch.full((6, 3, 3), float(expected)))
    alike = layer(h[:1].repeat(6, 1, 1, 1))
    assert alike[:, 5].max() < 1e-3
    (gradient,) = torch.autograd.grad(layer(x := torch.ones(4, 2, 3, 3).requires_grad_())[:, 2].sum(), x)
    assert gradient.isfinite().all()


def test_in_evaluation_examples_do_not_depend_on_each_other() -> None:
    _, discriminator = players((1, 28, 28))
    x = torch.rand(4, 1, 28, 28)
    assert not torch.allclose(discriminator(x)[:1], discriminator(x[:1]))
    discriminator.eval()
    torch.testing.assert_close(discriminator(x)[:1], discriminator(x[:1]))


# Refusals


@pytest.mark.parametrize(("side", "number"), [(28, 4), (28, 0), (32, 5), (30, 3), (28, 2**40)])
def test_resolutions_that_do_not_divide_the_image_are_refused(side: int, number: int) -> None:
    with pytest.raises(ValueError, match=rf"num_resolutions={number} .*shape=\[1, {side}, {side}\]"):
        growth_levels((1, side, side), number)


def test_resolutions_are_those_of_the_data_or_fewer() -> None:
    assert {side: growth_levels((1, side, side), None) for side in SIDES} == {28: 3, 32: 4, 64: 5}
    assert growth_levels((1, 28, 28), 2) == 2
    assert growth_levels((1, 30, 30), 2) == 2
    with pytest.raises(ValueError, match=r"shape=\[1, 28, 32\]"):
        growth_levels((1, 28, 32), 2)


def test_images_of_level_0_have_the_lowest_resolution() -> None:
    generator = Generator((1, 28, 28), 6, 2, num_resolutions=2)
    generator.set_stage(0, 1.0)
    x: Tensor = generator(torch.randn(2, 6))
    assert torch.equal(x, enlarged(F.avg_pool2d(x, 2), 2))
