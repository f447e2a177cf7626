"""Networks of velocities: shapes, their start at zero, and what a condition and its absence do."""

import math
import re

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.networks.text_encoder import TEXT_FEATURES, Condition, Words, condition_of
from lightning_modules.networks.unet import Attention, UNet, WordAttention, pixel_frequencies
from lightning_modules.networks.velocity_networks import velocity_network

SHAPES = [("mlp", (2,)), ("mlp", (1, 4, 4)), ("unet", (1, 8, 8)), ("unet", (1, 28, 28)), ("unet", (3, 32, 32))]
TIME, LABELS = torch.tensor([0.0, 0.3, 1.0]), torch.tensor([2, 0, 1])
CAPTIONS = torch.tensor([[1, 2, 3], [4, 0, 0], [5, 1, 0]])
CONDITIONS: dict[str, tuple[Condition, Tensor]] = {
    "classes": (3, LABELS),
    "captions": (condition_of(None, 5), CAPTIONS),
    "both": (condition_of(3, 5), torch.cat([LABELS[:, None], CAPTIONS], 1)),
}


def network(
    architecture: str, shape: tuple[int, ...], condition: Condition = None, **settings: bool | int
) -> nn.Module:
    """A small network whose zeros have been replaced, as training does."""
    given = {"droppable": True, "fourier_features": 0, **settings}
    built = velocity_network(architecture, shape, 4, 2, condition, **given)
    for parameter in built.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return built


@pytest.mark.parametrize(("architecture", "shape"), SHAPES)
@pytest.mark.parametrize("kind", [None, *CONDITIONS])
def test_shapes_and_gradients(architecture: str, shape: tuple[int, ...], kind: str | None) -> None:
    condition, values = CONDITIONS[kind] if kind else (None, None)
    built = network(architecture, shape, condition)
    x = torch.randn(3, *shape)
    dropped = None if kind is None else torch.tensor([True, False, False])
    velocity = built(x, TIME, values, dropped)
    assert velocity.shape == x.shape
    velocity.square().sum().backward()
    assert [name for name, p in built.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(("architecture", "shape"), SHAPES)
def test_in_the_beginning_nothing_moves(architecture: str, shape: tuple[int, ...]) -> None:
    built = velocity_network(architecture, shape, 4, 2, None, True, False)
    assert not built(torch.randn(3, *shape), TIME).any()


@pytest.mark.parametrize(("architecture", "shape"), SHAPES)
@pytest.mark.parametrize("kind", CONDITIONS)
def test_examples_do_not_see_each_other_but_their_time_and_condition(
    architecture: str, shape: tuple[int, ...], kind: str
) -> None:
    condition, values = CONDITIONS[kind]
    built = network(architecture, shape, condition).double()
    x, time = torch.randn(3, *shape, dtype=torch.float64), TIME.double()
    together = built(x, time, values)
    for i in range(3):
        torch.testing.assert_close(built(x[i : i + 1], time[i : i + 1], values[i : i + 1])[0], together[i])
    assert not torch.allclose(built(x, time.flip(0), values)[0], together[0])
    assert not torch.allclose(built(x, time, values.flip(0))[0], together[0])


@pytest.mark.parametrize(("architecture", "shape"), SHAPES)
@pytest.mark.parametrize("kind", CONDITIONS)
def test_a_dropped_condition_is_none_at_all(architecture: str, shape: tuple[int, ...], kind: str) -> None:
    condition, values = CONDITIONS[kind]
    built, x = network(architecture, shape, condition), torch.randn(3, *shape)
    given, without = built(x, TIME, values), built(x, TIME, None)
    dropped = torch.tensor([True, False, True])
    mixed = built(x, TIME, values, dropped)
    torch.testing.assert_close(mixed, torch.stack([without[0], given[1], without[2]]))
    assert not torch.allclose(given, without)
    other = built(x, TIME, values.flip(0), dropped)
    torch.testing.assert_close(other[[0, 2]], mixed[[0, 2]])  # what is dropped leaves no trace


@pytest.mark.parametrize(("architecture", "shape"), SHAPES)
def test_padding_never_leaks_into_a_velocity(architecture: str, shape: tuple[int, ...]) -> None:
    condition, values = CONDITIONS["captions"]
    built, x = network(architecture, shape, condition).double(), torch.randn(3, *shape, dtype=torch.float64)
    expected = built(x, TIME.double(), values)
    torch.testing.assert_close(built(x, TIME.double(), nn.functional.pad(values, (0, 4))), expected)


def test_positions_attend_to_the_words_that_are_not_hidden() -> None:
    attention = WordAttention(4).double()
    for parameter in (attention.output.weight, attention.no_word):
        nn.init.normal_(parameter)
    x, vectors = torch.randn(2, 4, 3, 3, dtype=torch.float64), torch.randn(2, 3, TEXT_FEATURES, dtype=torch.float64)
    hidden = torch.tensor([[False, False, True], [True, True, True]])
    found = attention(x, Words(vectors, hidden))
    queries = attention.queries(attention.norm(x)).flatten(2).transpose(1, 2)
    seen: list[list[Tensor]] = [[vectors[0, 0], vectors[0, 1]], []]
    for i in range(2):
        keys, values = attention.keys_values(torch.stack([attention.no_word, *seen[i]])).chunk(2, dim=1)
        mean = nn.functional.scaled_dot_product_attention(queries[i], keys, values)
        expected = x[i : i + 1] + attention.output(mean.T.reshape(1, 4, 3, 3))
        torch.testing.assert_close(found[i : i + 1], expected)
    torch.testing.assert_close(attention(x, None)[1], found[1])


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

    def change(fourier_features: bool | int) -> float:
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

    assert change(False) == change(0) == pytest.approx(1 / 256)
    assert change(1) == change(True) == pytest.approx(2, abs=0.01), (
        f"cos(256 pi x) goes from {math.cos(0)} to {math.cos(math.pi)}"
    )


def test_periods_of_fourier_features_double_from_one_grey_value() -> None:
    periods = [2 * math.pi / frequency for frequency in pixel_frequencies(9)]
    assert periods == pytest.approx([2**octave / 128 for octave in range(8, -1, -1)])
    assert pixel_frequencies(True) == pixel_frequencies(2) == pixel_frequencies(9)[-2:]
    assert pixel_frequencies(False) == ()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("resnet", (1, 28, 28), 4, 1, None, True, False), "architecture='resnet' is not one of unet, mlp"),
        (("unet", (2,), 4, 1, None, True, False), "architecture='unet' needs images.*[2].*'mlp'"),
        (("unet", (1, 30, 30), 4, 1, None, True, False), "shape=[1, 30, 30]"),
        (("mlp", (2,), 4, 1, None, True, True), "fourier_features=True needs architecture='unet'"),
        (("unet", (1, 28, 28), 4, 1, None, True, 10), "fourier_features=10 must lie in 0 to 9"),
        (("unet", (1, 28, 28), 4, 1, None, True, -1), "fourier_features=-1 must lie in 0 to 9"),
        (("unet", (1, 28, 28), 0, 1, None, True, False), "width=0"),
        (("unet", (1, 28, 28), 4, 0, None, True, False), "depth=0"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: tuple, named: str) -> None:
    with pytest.raises(ValueError, match=".*".join(re.escape(part) for part in named.split(".*"))):
        velocity_network(*arguments)
