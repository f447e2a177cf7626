"""A batch normalised by the statistics of another: values, gradients, running averages."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.networks import dcgan
from lightning_modules.parts.batch_statistics import BatchStatistics, ChannelMoments, moments_of


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
    recorded = {layer: len(moments) for layer, moments in statistics.moments.items()}
    torch.testing.assert_close(network(2 * z), other(2 * z))
    assert {layer: len(moments) for layer, moments in statistics.moments.items()} == recorded
    deepcopy(network)


def test_layers_that_take_their_running_averages_go_on_to() -> None:
    network, z = network_of("plain").eval(), torch.randn(12, 4, dtype=torch.float64)
    statistics = BatchStatistics(network)
    with statistics.recorded():
        network(z)
    assert not statistics.moments
    always = network_of("sequences").eval()  # without running averages there is nothing else to take
    statistics = BatchStatistics(always)
    with statistics.recorded():
        always(z)
    assert len(statistics.moments) == 1


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (4, 3, 2, 5)])
def test_moments_and_their_gradients(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    variance, mean = torch.var_mean(x, [d for d in range(x.ndim) if d != 1], correction=0)
    for layer in (nn.BatchNorm1d(3), nn.SyncBatchNorm(3)):  # of one process
        found = moments_of(layer, x)
        torch.testing.assert_close(found, (mean, variance))
    torch.autograd.gradcheck(ChannelMoments.apply, (x,))


def test_variances_are_not_lost_beside_large_means() -> None:
    x = 1e4 + torch.randn(64, 3, 8, 8)
    expected = torch.var_mean(x.to(torch.float64), (0, 2, 3), correction=0)[0].float()
    torch.testing.assert_close(ChannelMoments.apply(x)[1], expected, rtol=1e-2, atol=0)
