"""VGG's convolutions as features: torchvision's network of the same weights with average pooling is the truth."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from lightning_modules.networks import vgg
from lightning_modules.networks.vgg import VGG16_DEPTHS, VGG19_DEPTHS, VGGFeatures, vgg_layers

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgg, "CHANNELS", (2, 3, 4, 5, 5))


def narrow_torchvision(name: str) -> nn.Sequential:
    """The layers of torchvision with a hundredth of the channels, and average pooling."""
    channels = {64: 2, 128: 3, 256: 4, 512: 5}
    layers = make_layers([channels.get(part, part) for part in cfgs[name]])
    return nn.Sequential(*(nn.AvgPool2d(2) if isinstance(layer, nn.MaxPool2d) else layer for layer in layers))


def features_of(layers: nn.Sequential, depths: tuple[int, ...]) -> VGGFeatures:
    convolutions = [(layer.weight, layer.bias) for layer in layers if isinstance(layer, nn.Conv2d)]
    return VGGFeatures("narrow", depths, dict(zip(vgg_layers(depths), convolutions, strict=True)), MEAN, STD)


@pytest.mark.parametrize(("name", "depths"), [("D", VGG16_DEPTHS), ("E", VGG19_DEPTHS)])
def test_every_layer_is_that_of_torchvision(
    name: str, depths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow(monkeypatch)
    layers = narrow_torchvision(name)
    features = features_of(layers, depths)
    images = torch.rand(2, 3, 33, 48)
    found = features(2 * images - 1, features.layers)
    x: Tensor = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    rectified = []
    for layer in layers:
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            rectified.append(x)
    assert len(rectified) == len(features.layers) == {"D": 13, "E": 16}[name]
    for layer, expected in zip(features.layers, rectified, strict=True):
        torch.testing.assert_close(found[layer], expected)


def test_gatys_layers_are_the_defaults_and_nothing_deeper_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow(monkeypatch)
    features = features_of(narrow_torchvision("E"), VGG19_DEPTHS)
    assert features.content_layers == ("conv4_2",)
    assert features.style_layers == ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
    calls: list[str] = []
    for layer, convolution in features.convolutions.items():
        convolution.register_forward_hook(lambda *_, layer=layer: calls.append(layer))
    features(torch.zeros(1, 3, 8, 8), ["conv2_1", "conv1_1"])
    assert calls == ["conv1_1", "conv1_2", "conv2_1"]


def test_small_images_and_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow(monkeypatch)
    features = features_of(narrow_torchvision("D"), VGG16_DEPTHS)
    features(torch.zeros(1, 3, 8, 16), ["conv4_3"])
    with pytest.raises(ValueError, match="conv5_1 of narrow needs images of at least 16 pixels, not 8 x 16"):
        features(torch.zeros(1, 3, 8, 16), features.style_layers)
    with pytest.raises(ValueError, match=r"narrow needs conv1_2 with weight \(2, 2, 3, 3\)"):
        VGGFeatures("narrow", (2,), {"conv1_1": (torch.zeros(2, 3, 3, 3), torch.zeros(2))}, MEAN, STD)
