"""Networks of velocities: shapes, their start at zero, and what a condition and its absence do."""

import math
import re

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.networks.unet import Attention, UNet
from lightning_modules.networks.velocity_networks import velocity_network

SHAPES = [("mlp", (2,)), ("mlp", (1, 4, 4)), ("unet", (1, 8, 8)), ("unet", (1, 28, 28)), ("unet", (3, 32, 32))]
TIME, LABELS = torch.tensor([0.0, 0.3, 1.0]), torch.tensor([2, 0, 1])


def network(architecture: str, shape: tuple[int, ...], num_classes: int | None = None, **settings: bool) -> nn.Module:
    """A small network whose zeros have been replaced, as training does."""
    given = {"droppable": True, "fourier_features": False, **settings}
    built = velocity_network(architecture, shape, 4, 2, num_classes, **given)
    for parameter in built.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return built


@pytest.mark.parametrize(("architecture", "shape"), SHAPES)
@pytest.mark.parametrize("num_classes", [None, 3])
def test_shapes_and_gradients(architecture: str, shape: tuple[int, ...], num_classes: int | None) -> None:
    built = network(architecture, shape, num_classes)
    x = torch.randn(3, *shape)
    dropped = None if num_classes is None else torch.tensor([True, False, False])
    velocity = built(x, TIME, None if num_classes is None else LABELS, dropped)
    assert velocity.shape == x.shape
    velocity.square().sum().backward()
    assert [name for name, p in built.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(("architecture", "shape"), SHAPES)
def test_in_the_beginning_nothing_moves(architecture: str, shape: tuple[int, ...]) -> None:
    built = velocity_network(architecture, shape, 4, 2, None, True, False)
    assert not built(torch.randn(3, *shape), TIME).any()


@pytest.mark.parametrize(("architecture", "shape"), SHAPES)
def test_examples_do_not_see_each_other_but_their_time_and_class(architecture: str, shape: tuple[int, ...]) -> None:
    built = network(architecture, shape, 3).double()
    x, time = torch.randn(3, *shape, dtype=torch.float64), TIME.double()
    together = built(x, time, LABELS)
    for i in range(3):
        torch.testing.assert_close(built(x[i : i + 1], time[i : i + 1], LABELS[i : i + 1])[0], together[i])
    assert not torch.allclose(built(x, time.flip(0), LABELS)[0], together[0])
    assert not torch.allclose(built(x, time, LABELS.flip(0))[0], together[0])


@pytest.mark.parametrize(("architecture", "shape"), SHAPES)
def test_a_dropped_condition_is_none_at_all(architecture: str, shape: tuple[int, ...]) -> None:
    built, x = network(architecture, shape, 3), torch.randn(3, *shape)
    given, without = built(x, TIME, LABELS), built(x, TIME, None)
    mixed = built(x, TIME, LABELS, torch.tensor([True, False, True]))
    torch.testing.assert_close(mixed, torch.stack([without[0], given[1], without[2]]))
    assert not torch.allclose(given, without)


def test_all_positions_of_a_u_net_see_each_other() -> None:
    built = network("unet", (1, 28, 28))
    x = torch.randn(1, 1, 28, 28, requires_grad=True)
    built(x, TIME[:1])[0, 0, 0, 0].backward()
    assert x.grad is not None
    assert x.grad[0, 0, -2:, -2:].any()


def test_attention_is_a_mean_of_values_by_similarity() -> None:
    attention = Attention(4).double()
    nn.init.normal_(attention.output.weight)
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    queries, keys, values = attention.queries_keys_values(attention.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)
    expected = nn.functional.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).view_as(x)
    torch.testing.assert_close(attention(x), x + attention.output(expected))


def test_fourier_features_tell_half_a_grey_value() -> None:
    """A network without them sees two images that are alike but for half a grey value as almost the same."""
    x = torch.zeros(1, 1, 28, 28)
    near = x + 1 / 256

    def change(fourier_features: bool) -> float:
        torch.manual_seed(0)
        built = network("unet", (1, 28, 28), fourier_features=fourier_features)
        assert isinstance(built, UNet)

        def inputs(image: Tensor) -> Tensor:
            seen: list[Tensor] = []
            handle = built.input.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
            built(image, TIME[:1])
            handle.remove()
            return seen[0]

        return (inputs(near) - inputs(x)).abs().max().item()

    assert change(False) == pytest.approx(1 / 256)
    assert change(True) == pytest.approx(2, abs=0.01), f"cos(256 pi x) goes from {math.cos(0)} to {math.cos(math.pi)}"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("resnet", (1, 28, 28), 4, 1, None, True, False), "architecture='resnet' is not one of unet, mlp"),
        (("unet", (2,), 4, 1, None, True, False), "architecture='unet' needs images.*[2].*'mlp'"),
        (("unet", (1, 30, 30), 4, 1, None, True, False), "shape=[1, 30, 30]"),
        (("mlp", (2,), 4, 1, None, True, True), "fourier_features=True needs architecture='unet'"),
        (("unet", (1, 28, 28), 0, 1, None, True, False), "width=0"),
        (("unet", (1, 28, 28), 4, 0, None, True, False), "depth=0"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: tuple, named: str) -> None:
    with pytest.raises(ValueError, match=".*".join(re.escape(part) for part in named.split(".*"))):
        velocity_network(*arguments)
