"""Gated units follow their formula, in the encoder and the decoder."""

from typing import Any

import pytest
import torch
from torch import nn

from lightning_modules.networks.autoencoder import Sizes, autoencoder, hidden_layers


def test_a_gated_layer_multiplies_a_linear_map_by_a_sigmoid() -> None:
    torch.manual_seed(0)
    layers, x = hidden_layers(3, 4, 2, gated=True), torch.randn(5, 3)
    h = x
    for layer in layers:
        linear: Any = layer[0]  # type: ignore[index]
        (w, v), (b, c) = linear.weight.chunk(2), linear.bias.chunk(2)
        h = (h @ w.T + b) * torch.sigmoid(h @ v.T + c)
    torch.testing.assert_close(layers(x), h)
    assert h.shape == (5, 4)


@pytest.mark.parametrize("which", [0, 1], ids=["encoder", "decoder"])
def test_the_gated_architecture_has_two_numbers_per_hidden_unit(which: int) -> None:
    """Of the published network, 784-300-300-80 and 40-300-300-784, all but the last layer are doubled."""
    sizes = Sizes((1, 28, 28), 40, 300, 2, 32, None)
    gated, plain = (autoencoder(name, sizes, 1)[which] for name in ("gated_mlp", "mlp"))
    features = (784, 40)[which]
    hidden = 300 * (features + 1) + 300 * 301
    numbers = [sum(p.numel() for p in network.parameters()) for network in (gated, plain)]
    assert numbers[0] - numbers[1] == hidden
    assert sum(isinstance(layer, nn.GLU) for layer in gated.modules()) == 2
    assert not any(isinstance(layer, nn.SiLU) for layer in gated.modules())
