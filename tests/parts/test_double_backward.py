"""Second gradients in ``fast_double_backward`` are those of torch, without the work in vain."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.dcgan import Discriminator
from lightning_modules.networks.resnet import Discriminator as ResNetDiscriminator
from lightning_modules.networks.resnext import Discriminator as ResNeXtDiscriminator
from lightning_modules.parts import double_backward
from lightning_modules.parts.constraints import spectrally_normalized
from lightning_modules.parts.double_backward import REPLACED, fast_double_backward, input_gradient


def second_gradients(network: nn.Module, x: Tensor, fast: bool) -> list[Tensor]:
    """Returns value, input gradient, and the gradient of a function of the latter by all weights."""
    network.zero_grad()
    x = x.detach().requires_grad_()
    if fast:
        with fast_double_backward():
            value = network(x).sum()
    else:
        value = network(x).sum()
    gradient = input_gradient(value, x) if fast else torch.autograd.grad(value, x, create_graph=True)[0]
    (gradient.square().sum() + value.square()).backward()
    weights = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in network.parameters()]
    return [value.detach(), gradient.detach(), *weights]


class Flattened(nn.Module):
    """Applies a function to feature maps and a linear layer to the result."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.head = nn.Sequential(*layers, nn.Flatten()), nn.LazyLinear(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x))


class KernelOfTheInput(nn.Module):
    """Convolves images with a kernel that is computed from them."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Linear(2, 4 * 2 * 9)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel(x.mean((0, 2, 3))).view(4, 2, 3, 3))


def trained(network: nn.Module) -> nn.Module:
    """Returns a network of which no weight is 0, as it may be at the start."""
    for p in network.parameters():
        nn.init.normal_(p, std=0.3)
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "strides and padding": lambda: Flattened(
        nn.Conv2d(2, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 3, 3), nn.ReLU()
    ),
    "groups and dilation": lambda: Flattened(
        nn.Conv2d(2, 4, 3, dilation=2, groups=2, bias=False), nn.ReLU(), nn.Conv2d(4, 4, (3, 1), padding=(1, 0))
    ),
    "same padding": lambda: Flattened(nn.Conv2d(2, 4, 3, padding="same"), nn.LeakyReLU(), nn.Conv2d(4, 2, 1)),
    "curved activations": lambda: Flattened(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.Softplus()),
    "pooling": lambda: Flattened(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 3)),
    "kernel of the input": lambda: Flattened(KernelOfTheInput(), nn.ReLU(), nn.Conv2d(4, 2, 3)),
    "spectral norm": lambda: spectrally_normalized(Discriminator([2, 8, 8], width=4).eval()),
    "dcgan": lambda: Discriminator([2, 8, 8], width=4),
    "resnext": lambda: trained(ResNeXtDiscriminator([2, 8, 8], width=4)),
    "resnet": lambda: ResNetDiscriminator([2, 8, 8], width=4),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_values_and_second_gradients_are_those_of_torch(name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    network = NETWORKS[name]()
    network.double()
    network(x)  # lazy layers, power iteration
    network.eval()
    for fast, plain in zip(second_gradients(network, x, True), second_gradients(network, x, False), strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-12)


def test_finite_differences_agree() -> None:
    torch.manual_seed(0)
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64, requires_grad=True)

    def function(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        with fast_double_backward():
            return F.leaky_relu(F.conv2d(x, weight, bias, stride=2, padding=1), 0.2).square()

    assert torch.autograd.gradcheck(function, (x, weight, bias))
    assert torch.autograd.gradgradcheck(function, (x, weight, bias))


def test_no_gradient_goes_through_the_forward_pass() -> None:
    """A bias does not enter the input gradient of a piecewise linear network; torch computes zeros for it."""
    torch.manual_seed(0)
    network = Discriminator([1, 8, 8], width=4)
    x = torch.randn(2, 1, 8, 8, requires_grad=True)
    with fast_double_backward():
        value = network(x).sum()
    input_gradient(value, x).square().sum().backward()
    biases = [p for name, p in network.features.named_parameters() if name.endswith("bias")]
    assert biases
    assert all(bias.grad is None for bias in biases)


def test_the_first_backward_pass_computes_no_gradients_of_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(double_backward, "kernel_gradient", lambda *arguments: calls.append(arguments))
    network = Discriminator([1, 8, 8], width=4)
    x = torch.randn(2, 1, 8, 8, requires_grad=True)
    with fast_double_backward():
        value = network(x).sum()
    gradient = input_gradient(value, x)
    assert calls == []
    gradient.square().sum().backward()
    assert len(calls) == sum(isinstance(layer, nn.Conv2d) for layer in network.modules()) > 0


class LearnedImage(nn.Module):
    """Compares images with one that is learned, whose features a convolution computes."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.convolution = nn.Parameter(torch.randn(1, 2, 6, 6)), nn.Conv2d(2, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return (self.convolution(x) * self.convolution(self.image)).flatten(1).sum(1)


def test_a_second_backward_pass_computes_no_gradient_by_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = Discriminator([1, 28, 28], width=4), torch.randn(3, 1, 28, 28, requires_grad=True)
    with fast_double_backward():
        logits = network(x)
    penalty = input_gradient(logits.sum(), x).square().sum()
    (logits.square().sum() + penalty).backward()
    assert x.grad is None
    assert all(p.grad is not None for p in network.parameters() if p.ndim > 1)
    own, images = LearnedImage(), torch.randn(3, 2, 6, 6)
    for found, expected in zip(second_gradients(own, images, True), second_gradients(own, images, False), strict=True):
        torch.testing.assert_close(found, expected)
    assert own.image.grad is not None


@pytest.mark.parametrize("value", [-float("inf"), -1.0, -0.0, 0.0, 2.0, float("inf")])
def test_rectifiers_have_torchs_values(value: float) -> None:
    x = torch.tensor([value])
    for function in (F.relu, torch.relu, F.leaky_relu):
        with fast_double_backward():
            found = function(x)
        assert torch.equal(found, function(x))
        assert torch.equal(found.signbit(), function(x).signbit())


def test_the_mode_ends_with_its_context() -> None:
    calls: list[Any] = []
    replaced = dict(REPLACED)
    assert set(replaced) >= {torch.conv2d, F.leaky_relu, F.relu}
    x = torch.randn(1, 1, 4, 4, requires_grad=True)
    with fast_double_backward():
        calls.append(F.relu(x).grad_fn)
    calls.append(F.relu(x).grad_fn)
    assert [type(call).__name__ for call in calls] == ["LeakyReLUBackward", "ReluBackward0"]
