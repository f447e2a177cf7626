"""EfficientNet-Lite0: the published size, TensorFlow's padding, and the shapes of each stage."""

import pytest
import torch
from torch.nn import functional as F

from lightning_modules.networks.efficientnet_lite import EfficientNetLite0, NormalizedConv


def test_it_has_the_published_number_of_parameters() -> None:
    network = EfficientNetLite0()
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008
    assert [tuple(block.project.conv.weight.shape[:1]) for block in network.blocks] == [
        (channels,) for channels in (16, 24, 24, 40, 40, *3 * [80], *3 * [112], *4 * [192], 320)
    ]


def test_features_are_averages_in_the_range_of_the_activation() -> None:
    network = EfficientNetLite0().eval()
    with torch.no_grad():
        x = torch.randn(2, 3, 65, 96)
        assert network.stem(x).shape == (2, 32, 33, 48)
        assert network.blocks(network.stem(x)).shape == (2, 320, 3, 3)
        features = network.features(x)
        assert features.shape == (2, 1280)
        assert ((features >= 0) & (features <= 6)).all()
        torch.testing.assert_close(network(x), network.classifier(features))


@pytest.mark.parametrize(
    ("kernel", "stride", "side", "padding"),
    [(3, 2, 8, (0, 1)), (3, 2, 7, (1, 1)), (5, 2, 8, (1, 2)), (5, 2, 7, (2, 2)), (5, 1, 7, (2, 2)), (1, 1, 7, (0, 0))],
)
def test_padding_is_tensorflows(kernel: int, stride: int, side: int, padding: tuple[int, int]) -> None:
    layer = NormalizedConv(2, 3, kernel, stride).eval()
    x = torch.randn(1, 2, side, side)
    expected = F.conv2d(F.pad(x, 2 * padding), layer.conv.weight, stride=stride) / (1 + 1e-3) ** 0.5
    torch.testing.assert_close(layer(x), expected.clamp(0, 6))
