"""Every architecture on every kind of data: shapes, gradients, classes, refusals."""

import re

import pytest
import torch
from torch import nn

from lightning_modules.networks import ARCHITECTURES, architecture

SHAPES = [(2,), (1, 28, 28), (3, 32, 32), (3, 64, 64)]
PAIRS = [
    (name, shape) for name, entry in ARCHITECTURES.items() for shape in SHAPES if len(shape) == 3 or entry.takes_points
]


@pytest.mark.parametrize(("name", "shape"), PAIRS)
@pytest.mark.parametrize("num_classes", [None, 3])
def test_shapes_range_and_gradients(name: str, shape: tuple[int, ...], num_classes: int | None) -> None:
    entry = architecture(name, shape)
    generator = entry.generator(shape, 6, 2, num_classes)
    discriminator = entry.discriminator(shape, 2, num_classes, False)
    labels = None if num_classes is None else torch.tensor([0, 1, 2, 0])
    x = generator(torch.randn(4, 6), labels)
    logits = discriminator(x, labels)
    assert x.shape == (4, *shape)
    assert logits.shape == (4,)
    if len(shape) == 3:
        assert x.abs().max() <= 1
    logits.square().sum().backward()
    missing = [
        f"{player}.{key}"
        for player, network in (("generator", generator), ("discriminator", discriminator))
        for key, parameter in network.named_parameters()
        if parameter.grad is None or not torch.isfinite(parameter.grad).all()
    ]
    assert missing == []


@pytest.mark.parametrize(("name", "shape"), PAIRS)
def test_labels_change_both_players(name: str, shape: tuple[int, ...]) -> None:
    entry = architecture(name, shape)
    generator, discriminator = entry.generator(shape, 6, 2, 3).eval(), entry.discriminator(shape, 2, 3, False).eval()
    if name == "resnet":  # its classes start alike: scale 1 and shift 0 for all
        for layer in generator.modules():
            if isinstance(layer, nn.Embedding):
                nn.init.normal_(layer.weight)
    z = torch.randn(1, 6)
    first, second = (generator(z, torch.tensor([label])) for label in (0, 1))
    assert not torch.equal(first, second)
    assert discriminator(first, torch.tensor([0])) != discriminator(first, torch.tensor([1]))


@pytest.mark.parametrize(("name", "shape"), PAIRS)
def test_examples_are_independent_of_one_another_in_the_discriminator(name: str, shape: tuple[int, ...]) -> None:
    discriminator = architecture(name, shape).discriminator(shape, 2, None, False)
    x = torch.randn(3, *shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(discriminator(x)[0], x)
    assert gradient[0].abs().sum() > 0
    assert gradient[1:].abs().sum() == 0


def test_batch_norm_is_there_when_asked_for_and_refused_where_it_is_not() -> None:
    network = ARCHITECTURES["dcgan"].discriminator((1, 28, 28), 2, None, True)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()) == 2
    for name in ("mlp", "resnet"):
        with pytest.raises(ValueError, match=f"{name}.*batch_norm"):
            ARCHITECTURES[name].discriminator((1, 28, 28), 2, None, True)


def test_unknown_names_list_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="'unet'.*mlp, dcgan, resnet"):
        architecture("unet", (1, 28, 28))


@pytest.mark.parametrize("name", ["dcgan", "resnet"])
def test_points_need_the_perceptron(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}.*\[2\].*mlp"):
        architecture(name, (2,))


@pytest.mark.parametrize("shape", [(1, 28, 32), (1, 30, 30), (1, 5, 5), (3, 33, 33)])
def test_sides_that_cannot_be_halved_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"shape={list(shape)}")):
        ARCHITECTURES["dcgan"].generator(shape, 4, 2, None)


def test_zoo_sizes_stay_under_a_million_parameters_per_player() -> None:
    for name in ("mlp", "dcgan", "resnet"):
        entry = architecture(name, (1, 28, 28))
        for network in (entry.generator((1, 28, 28), 64, 32, 10), entry.discriminator((1, 28, 28), 32, 10, False)):
            assert sum(p.numel() for p in network.parameters()) < 1_000_000
