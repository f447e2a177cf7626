"""Spectral norm against the singular value decomposition, and clipping against its definition."""

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from lightning_modules.networks import ARCHITECTURES
from lightning_modules.parts.constraints import clip_weights, spectrally_normalized


def singular_value(weight: torch.Tensor) -> float:
    return torch.linalg.svdvals(weight.flatten(1))[0].item()


def iterate(network: nn.Module, x: torch.Tensor, times: int) -> None:
    network.train()
    with torch.no_grad():
        for _ in range(times):
            network(x)


def test_a_weight_that_starts_at_zero_is_refused_by_name() -> None:
    """It has no singular vectors, so that 0 / 0 would be its normalised value."""
    with pytest.raises(ValueError, match=r"blocks\.0\.contract start at 0"):
        spectrally_normalized(ARCHITECTURES["resnext"].discriminator((1, 28, 28), 2, None, False))


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "resnext"])
def test_every_weight_has_norm_one_after_a_hundred_power_iterations(name: str) -> None:
    """Eq. 1.43 and 1.44: each is divided by its largest singular value."""
    shape = (1, 28, 28)
    network = spectrally_normalized(ARCHITECTURES[name].discriminator(shape, 4, 3, False))
    x, labels = torch.randn(2, *shape), torch.tensor([0, 2])
    network.train()
    with torch.no_grad():
        for _ in range(150):
            network(x, labels)
    network.eval()
    weights = [m.weight for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d, nn.Embedding))]
    assert len(weights) >= 4
    for weight in weights:
        assert singular_value(weight) == pytest.approx(1, abs=0.02)


def test_the_norm_of_a_matrix_is_its_largest_stretch_and_the_root_of_an_eigenvalue() -> None:
    """Eq. 1.43: no vector is stretched further, on the sphere as in the ball, and sigma squared is that of A*A."""
    matrix = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).double()
    sigma = singular_value(matrix)
    h = torch.randn(7, 10_000, generator=torch.Generator().manual_seed(1)).double()
    stretches = (matrix @ h).norm(dim=0) / h.norm(dim=0)
    assert 0.9 * sigma < stretches.max() <= sigma
    inside = h / h.norm(dim=0) * torch.rand(10_000, generator=torch.Generator().manual_seed(2))
    assert (matrix @ inside).norm(dim=0).max() <= sigma
    vector = torch.linalg.svd(matrix).Vh[0]
    assert (matrix @ vector).norm().item() == pytest.approx(sigma, rel=1e-12)
    largest = torch.linalg.eigvalsh(matrix.T @ matrix)[-1].item()
    assert largest == pytest.approx(sigma**2, rel=1e-12)
    assert largest > 1.5 * sigma  # the text calls them the same


def test_the_iteration_finds_singular_vectors_of_a_matrix_that_is_not_square_and_divides_by_their_value() -> None:
    """Eq. 1.44: W / sigma(W) and not another matrix of norm 1; the vectors that are kept are those of W^T W."""
    layer: Any = nn.Linear(9, 5, bias=False).double()
    left, right = (torch.linalg.qr(torch.randn(rows, 5, dtype=torch.float64))[0] for rows in (5, 9))
    original = left @ torch.tensor([3.0, 2.0, 1.5, 1.0, 0.5]).double().diag() @ right.T
    layer.weight.data.copy_(original)
    network = spectrally_normalized(nn.Sequential(layer))
    iterate(network, torch.randn(1, 9, dtype=torch.float64), 60)
    network.eval()
    torch.testing.assert_close(layer.weight.detach(), original / 3, atol=1e-6, rtol=0)
    state = layer.parametrizations.weight[0]
    for kept, exact in ((state._u, left[:, 0]), (state._v, right[:, 0])):
        assert (kept @ exact).abs().item() == pytest.approx(1, abs=1e-6)


def test_eval_leaves_the_singular_vectors_alone() -> None:
    network = spectrally_normalized(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 1)))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.eval()
    network(torch.randn(3, 6))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    iterate(network, torch.randn(3, 6), 1)
    moved = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    assert moved
    assert all(name.endswith(("_u", "_v")) for name in moved)


def test_dense_product_bounds_the_slope_at_random_points() -> None:
    """Eq. 1.42: layers of any norm, then of norm 1, and an activation of slope at most 1."""
    network = nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1)).double()
    bound = 1.0
    for factor, weight in ((5.0, network[0].weight), (2.0, network[2].weight)):
        assert isinstance(weight, nn.Parameter)
        weight.data.mul_(factor)
        bound *= singular_value(weight)
    x = torch.randn(500, 8, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(x).sum(), x)
    assert 0.05 * bound < gradient.norm(dim=1).max() <= bound
    assert bound > 2
    spectrally_normalized(network)
    iterate(network, torch.randn(1, 8, dtype=torch.float64), 200)
    network.eval()
    (gradient,) = torch.autograd.grad(network(x).sum(), x)
    assert gradient.norm(dim=1).max() <= 1 + 1e-3


def test_convolution_is_bounded_by_the_root_of_its_window() -> None:
    conv = spectrally_normalized(nn.Conv2d(2, 3, 3, padding=1, bias=False)).double()
    iterate(conv, torch.randn(1, 2, 6, 6, dtype=torch.float64), 200)
    conv.eval()
    jacobian = torch.autograd.functional.jacobian(conv, torch.zeros(1, 2, 6, 6, dtype=torch.float64))
    norm = torch.linalg.matrix_norm(jacobian.reshape(3 * 36, 2 * 36), ord=2).item()
    assert 1 < norm <= math.sqrt(9)


def test_gradient_flows_through_the_singular_value() -> None:
    layer = spectrally_normalized(nn.Linear(4, 1, bias=False))
    iterate(layer, torch.randn(1, 4), 50)
    layer(torch.randn(5, 4)).sum().backward()
    weight = dict(layer.named_parameters())["parametrizations.weight.original"]
    assert weight.grad is not None
    # The normalised weight does not change along the weight itself, so neither may the loss.
    assert (weight.grad * weight).sum().abs() < 1e-5
    assert weight.grad.norm() > 1e-3


def test_cached_weights_take_one_power_iteration_for_two_passes() -> None:
    twice = spectrally_normalized(nn.Linear(6, 5))
    once = spectrally_normalized(nn.Linear(6, 5))
    once.load_state_dict(twice.state_dict())
    with parametrize.cached():
        twice(torch.randn(2, 6))
        twice(torch.randn(2, 6))
    once(torch.randn(2, 6))
    for name, buffer in once.named_buffers():
        assert torch.equal(dict(twice.named_buffers())[name], buffer), name
    assert any(name.endswith("_u") for name, _ in once.named_buffers())


def test_clip_bounds_every_weight_and_leaves_small_ones() -> None:
    layer = nn.Linear(10, 10)
    network = nn.Sequential(layer, nn.BatchNorm1d(10))
    small, before = layer.weight.abs() < 0.01, layer.weight.clone()
    clip_weights(network, 0.01)
    assert all(p.abs().max() <= 0.01 for p in network.parameters())
    assert torch.equal(layer.weight[small], before[small])
