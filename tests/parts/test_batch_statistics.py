"""A batch normalised by the statistics of another: values, gradients, running averages."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.networks import dcgan
from lightning_modules.parts.batch_statistics import (
    BatchStatistics,
    Normalised,
    NormalisedBy,
    normalised,
    statistics_over_processes,
)


class Twice(nn.Module):
    """Calls the same layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(torch.exp(self.norm(x)))


NETWORKS: dict[str, Any] = {
    "dcgan": lambda: dcgan.Generator([1, 8, 8], 4, 2),
    "twice": Twice,
    "plain": lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, affine=False), nn.Tanh()),
    "sequences": lambda: nn.Sequential(nn.Unflatten(1, (2, 2)), nn.BatchNorm1d(2, track_running_stats=False)),
}


def network_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = NETWORKS[name]().to(torch.float64)
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.affine:
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_examples_give_the_same_outputs_and_gradients(name: str) -> None:
    network, z = network_of(name), torch.randn(12, 4, dtype=torch.float64, requires_grad=True)
    statistics = BatchStatistics(network)
    with statistics.recorded():
        first = network(z)
    with statistics.applied():
        second = network(z)
    torch.testing.assert_close(second, first)
    inputs = [z, *network.parameters()]
    cotangent = torch.randn_like(first)
    found = torch.autograd.grad((second * cotangent).sum(), inputs, retain_graph=True)
    for own, other in zip(torch.autograd.grad((first * cotangent).sum(), inputs), found, strict=True):
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize("name", NETWORKS)
def test_each_example_is_mapped_by_itself(name: str) -> None:
    network, z = network_of(name), torch.randn(12, 4, dtype=torch.float64)
    statistics = BatchStatistics(network)
    with statistics.recorded():
        whole = network(z)
    for part, expected in ((z[:1], whole[:1]), (z[3:5], whole[3:5]), (torch.cat([z[::2], 100 * z]), whole[::2])):
        with statistics.applied():
            torch.testing.assert_close(network(part)[: len(expected)], expected)


def test_afterwards_the_network_is_what_it_was() -> None:
    network, other = network_of("dcgan"), network_of("dcgan")
    z = torch.randn(12, 4, dtype=torch.float64)
    statistics = BatchStatistics(network)
    with statistics.recorded():
        network(z)
    with statistics.applied():
        network(3 * z)
    other(z)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], msg=name)  # the averages saw the first batch alone
    recorded = {layer: len(found) for layer, found in statistics.found.items()}
    torch.testing.assert_close(network(2 * z), other(2 * z))
    assert {layer: len(found) for layer, found in statistics.found.items()} == recorded
    deepcopy(network)


def test_layers_that_take_their_running_averages_go_on_to() -> None:
    network, z = network_of("plain").eval(), torch.randn(12, 4, dtype=torch.float64)
    statistics = BatchStatistics(network)
    with statistics.recorded():
        network(z)
    assert not statistics.found
    always = network_of("sequences").eval()  # without running averages there is nothing else to take
    statistics = BatchStatistics(always)
    with statistics.recorded():
        always(z)
    assert len(statistics.found) == 1


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (4, 3, 2, 5)])
@pytest.mark.parametrize("affine", [False, True])
def test_statistics_and_their_gradients(shape: tuple[int, ...], affine: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    variance, mean = torch.var_mean(x, [d for d in range(x.ndim) if d != 1], correction=0)
    layer = nn.BatchNorm1d(3, eps=0.1).to(torch.float64)
    _, found = normalised(layer, x)
    torch.testing.assert_close(found, (mean, torch.rsqrt(variance + 0.1)))
    torch.testing.assert_close(statistics_over_processes(x, 0.1), found)  # of one process
    weight, bias = torch.randn(2, 3, dtype=torch.float64, requires_grad=True) if affine else (None, None)
    assert torch.autograd.gradcheck(lambda *inputs: Normalised.apply(*inputs, None, None, 0.0, 0.1), (x, weight, bias))
    given = [tensor.detach().requires_grad_() for tensor in found]
    assert torch.autograd.gradcheck(lambda *inputs: NormalisedBy.apply(*inputs, 0.1), (x, weight, bias, *given))


@pytest.mark.parametrize("momentum", [0.3, None])
@pytest.mark.parametrize("tracks", [False, True])
def test_running_averages_are_those_of_the_layer(momentum: float | None, tracks: bool) -> None:
    layer, other = (nn.BatchNorm2d(3, momentum=momentum) for _ in range(2))
    for each in (layer, other):
        each.track_running_stats = tracks
    for _ in range(3):
        x = 2 * torch.randn(4, 3, 5, 5) + 1
        torch.testing.assert_close(normalised(layer, x)[0], other(x))
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name])
    assert bool(layer.num_batches_tracked) == tracks


def test_a_single_value_has_no_variance() -> None:
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        normalised(nn.BatchNorm1d(3), torch.randn(1, 3))
