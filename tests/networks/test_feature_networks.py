"""Named layers of frozen networks: their outputs, in order, no further than needed, with gradients to images."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from lightning_modules.networks.convnet import ConvNet
from lightning_modules.networks.feature_networks import FeatureNetwork, RandomFeatures, WrappedFeatures


class Plain(nn.Module):
    """Two convolutions, each followed by an activation that overwrites its input."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, 4, 3), nn.Conv2d(4, 5, 3, stride=2)
        self.relu1, self.relu2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu2(self.second(self.relu1(self.first(x))))
        self.calls += 1
        return x.mean((2, 3))


@pytest.fixture
def images() -> Tensor:
    return 2 * torch.rand(2, 3, 20, 24) - 1


def test_layers_have_the_outputs_that_they_have_in_the_network(images: Tensor) -> None:
    network = Plain()
    features = WrappedFeatures(network)
    assert features.layers == ("first", "relu1", "second", "relu2")
    found = features(images, ["second", "first"])
    assert list(found) == ["second", "first"]
    first = network.first(images)
    torch.testing.assert_close(found["first"], first)  # and not rectified by what follows
    torch.testing.assert_close(found["second"], network.second(F.relu(first)))
    assert network.relu1.inplace, "the network that was given is not changed"


def test_nothing_is_computed_beyond_the_deepest_layer(images: Tensor) -> None:
    features = WrappedFeatures(Plain())
    calls = features.network.calls
    features(images, ["relu1", "relu2"])
    assert features.network.calls == calls
    assert not any(module._forward_hooks for module in features.modules())


def test_the_network_is_frozen_and_images_have_gradients(images: Tensor) -> None:
    for features in (WrappedFeatures(resnet18()), RandomFeatures(num_filters=2)):
        features.train()
        assert not any(module.training for module in features.modules())
        assert not any(parameter.requires_grad for parameter in features.parameters())
        x = images.clone().requires_grad_()
        (features(x, features.style_layers)[features.style_layers[-1]] ** 2).sum().backward()
        assert x.grad is not None
        assert x.grad.abs().sum() > 0


def test_images_are_normalized_and_made_grey_as_the_network_expects(images: Tensor) -> None:
    colour, grey = Plain(), Plain(channels=1)
    mean, std = (0.2, 0.4, 0.6), (0.5, 0.3, 0.1)
    expected = ((images + 1) / 2 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    found = WrappedFeatures(colour, mean=mean, std=std)(images, ["first"])["first"]
    torch.testing.assert_close(found, colour.first(expected))
    found = WrappedFeatures(grey)(images, ["first"])["first"]
    torch.testing.assert_close(found, grey.first(images.mean(1, keepdim=True)))


def test_default_layers_are_one_of_each_resolution_after_its_activation() -> None:
    features = WrappedFeatures(resnet18())
    assert features.style_layers == ("relu", "layer1.0.relu", "layer2.0.relu", "layer3.0.relu", "layer4.0.relu")
    assert features.content_layers == ("layer3.1.relu",)
    classifier = WrappedFeatures(ConvNet(1, 4))
    assert classifier.style_layers == ("layers.2", "layers.3.2", "layers.5.2")


class ChannelsLast(nn.Module):
    """Positions before channels in the middle, as in ConvNeXt and Swin, and weights of channels at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.active = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 8), nn.GELU()
        self.last, self.pool = nn.Conv2d(8, 8, 2, stride=2), nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.active(self.inner(self.first(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return self.pool(self.last(x))


def test_only_images_of_features_are_layers(images: Tensor) -> None:
    features = WrappedFeatures(ChannelsLast())
    assert features.layers == features.style_layers == ("first", "last")
    assert features(images, ["first"])["first"].shape == (2, 8, 5, 6)
    with pytest.raises(ValueError, match="no module 'active' that returns features"):
        WrappedFeatures(ChannelsLast(), ["active"])


def test_networks_of_one_size_and_images_that_are_too_small_are_refused(images: Tensor) -> None:
    class Fixed(Plain):
        def forward(self, x: Tensor) -> Tensor:
            torch._assert(x.shape[2] == 64, "Wrong image height!")
            return super().forward(x)

    with pytest.raises(ValueError, match=r"Fixed does not take images .*128.* though those of side 64: Wrong image"):
        WrappedFeatures(Fixed())
    features = WrappedFeatures(nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(3)), name="small")
    with pytest.raises(ValueError, match="small does not take images of 4 x 24 pixels: use larger ones"):
        features(images[:, :, :4], ["1"])


def test_unknown_layers_and_other_inputs_are_refused_with_the_valid_ones(images: Tensor) -> None:
    features = WrappedFeatures(Plain(), ["relu1", "relu2"], name="plain")
    for call in (lambda: features(images, ["conv9"]), lambda: features.check_layers(["relu1", "conv9"])):
        with pytest.raises(ValueError, match="plain has no layer 'conv9'; its layers are relu1, relu2"):
            call()
    for layers in ([], "relu1"):
        with pytest.raises(ValueError, match="must be a list"):
            features(images, layers)
    for x in (images[0], images[:, :1], (255 * images).to(torch.uint8)):
        with pytest.raises(ValueError, match=r"RGB images \(N, 3, H, W\)"):
            features(x, ["relu1"])
    with pytest.raises(ValueError, match="no module 'conv9'.*first, relu1, second, relu2"):
        WrappedFeatures(Plain(), ["conv9"])
    with pytest.raises(ValueError, match="Plain does not take images"):
        WrappedFeatures(Plain(channels=5))
    for wrong in ({"mean": (0.5, 0.5)}, {"std": (1.0, 0.0, 1.0)}):
        with pytest.raises(ValueError, match="must be one or three numbers each, std above 0"):
            WrappedFeatures(Plain(), **wrong)
    with pytest.raises(ValueError, match="no module that returns features"):
        WrappedFeatures(nn.Sequential(nn.Flatten(), nn.ReLU()))


def test_random_filters_have_glorots_variance_and_depend_on_the_seed_alone(images: Tensor) -> None:
    first, again, other = (RandomFeatures(seed, num_filters=64) for seed in (3, 3, 4))
    assert first.layers == ("scale3", "scale5", "scale7", "scale11", "scale15", "scale23", "scale37", "scale55")
    assert torch.equal(first.scale11, again.scale11)
    assert not torch.equal(first.scale11, other.scale11)
    # Of 23 232 uniform draws the variance is within 3 % by far more than 5 standard errors of 0.6 %.
    assert first.scale11.var().item() == pytest.approx(2 / (67 * 11**2), rel=0.03)
    found = first(images, ["scale3"])["scale3"]
    assert found.shape == (2, 64, 20, 24)
    torch.testing.assert_close(found, F.conv2d(images, first.scale3, padding=1).clamp(min=0))
    for wrong in ({"num_filters": 0}, {"scales": (4,)}, {"scales": ()}, {"scales": (3, 3)}):
        with pytest.raises(ValueError, match="different odd sides"):
            RandomFeatures(**wrong)


def test_a_subclass_only_computes(images: Tensor) -> None:
    class Doubled(FeatureNetwork):
        def __init__(self) -> None:
            super().__init__("doubled", ["twice", "four times"], ["twice"], ["twice"])
            self.freeze()

        def compute(self, x: Tensor, layers: list[str]) -> dict[str, Tensor]:
            return {layer: 2 ** (index + 1) * x for index, layer in enumerate(self.layers)}

    doubled = Doubled()
    assert doubled.depth(["four times", "twice"]) == 1
    assert list(doubled(images, ["four times"])) == ["four times"]
