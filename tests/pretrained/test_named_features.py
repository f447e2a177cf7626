"""Feature networks by name: real weights, checked against what they are known to say, and no silent replacement."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.vgg import cfgs, make_layers

from lightning_modules.networks.feature_networks import FeatureNetwork, RandomFeatures
from lightning_modules.pretrained import load_features, named_features
from lightning_modules.pretrained.named_features import (
    NAMED,
    check_features_name,
    fetch_weights,
    load_efficientnet_lite0,
    load_vgg16_hed,
)
from lightning_modules.pretrained.packaged_weights import WeightsError

Weights = Callable[[str], Path]


def resized(image: np.ndarray) -> Tensor:
    """An image (H, W, 3) as EfficientNet-Lite0 was trained on it: 224 x 224, (x - 127) / 128."""
    x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    return (F.interpolate(x, (224, 224), mode="bicubic", antialias=True) - 127) / 128


def most_likely(image: np.ndarray) -> list[int]:
    with torch.no_grad():
        return load_efficientnet_lite0()(resized(image))[0].topk(2).indices.tolist()


def test_efficientnet_names_photographs(pretrained_weights: Weights) -> None:
    """ImageNet's classes: 985 is the daisy; of two castles by a river, 442 is the bell cote and 449 the boathouse."""
    pretrained_weights("efficientnet_lite0")
    assert most_likely(load_sample_image("flower.jpg"))[0] == 985
    assert most_likely(load_sample_image("china.jpg")) == [442, 449]


@pytest.mark.parametrize(("name", "classes"), [("zebra.png", {340}), ("f16.png", {895}), ("tuebingen.jpg", {483})])
def test_efficientnet_names_the_papers_images(name: str, classes: set[int], pretrained_weights: Weights) -> None:
    """Zebra, warplane, castle: among the two most likely of 1 000 classes."""
    pretrained_weights("efficientnet_lite0")
    path = Path(os.environ.get("GENERATIVE_ZOO_DATA", "")) / "images" / name
    if not path.is_file():
        pytest.skip(f"{name} is not in the folder images of GENERATIVE_ZOO_DATA")
    assert classes <= set(most_likely(np.array(Image.open(path).convert("RGB"))))


def test_efficientnet_features_are_normalized_as_in_training(pretrained_weights: Weights) -> None:
    pretrained_weights("efficientnet_lite0")
    features, network = load_features("efficientnet_lite0"), load_efficientnet_lite0()
    assert features.name == "efficientnet_lite0"
    x = 255 * torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = network.blocks[:2](network.stem((x - 127) / 128))
        found = features(x / 127.5 - 1, ["blocks.1"])["blocks.1"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_vgg16_hed_is_caffes_network(pretrained_weights: Weights) -> None:
    """The first layers by hand, in float64: BGR of [0, 255] minus Caffe's means, filters as the file has them."""
    h5py = pytest.importorskip("h5py")
    path = pretrained_weights("vgg16_hed")
    features = load_vgg16_hed()
    assert features.name == "vgg16_hed"
    assert features.style_layers == ("conv1_1", "conv2_1", "conv3_1", "conv4_1")
    assert features.layers[-1] == "conv5_3"
    image = np.random.default_rng(0).uniform(0, 255, (6, 8, 3))
    x = torch.from_numpy(image[:, :, ::-1] - [103.939, 116.779, 123.68]).permute(2, 0, 1)[None]
    expected = []
    with h5py.File(path) as file:
        for place in ("block1/layers/conv2d", "block1/layers/conv2d_1", "block2/layers/conv2d"):
            filters, bias = (torch.from_numpy(file[f"{place}/vars/{part}"][()]).double() for part in "01")
            x = F.avg_pool2d(x, 2) if place.startswith("block2") else x
            x = F.relu(F.conv2d(x, filters.permute(3, 2, 0, 1), bias, padding=1))
            expected.append(x.float())
    rgb = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    found = features(rgb, ["conv1_1", "conv1_2", "conv2_1"])
    for layer, output in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(layer, output, rtol=1e-4, atol=1e-3)


def test_vgg19_has_torchvisions_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network of torchvision with weights of our own, because the real ones have half a gigabyte."""
    layers = make_layers(cfgs["E"])
    state = {f"features.{name}": weight for name, weight in layers.state_dict().items()}
    monkeypatch.setattr(named_features, "torchvision_state", lambda name: {**state, "classifier.0.bias": Tensor()})
    features = load_features("vgg19")
    assert len(features.layers) == 16
    x = torch.rand(1, 3, 32, 32)
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    expected = (x - mean) / std
    for layer in layers[:31]:  # up to the 14th convolution
        expected = F.avg_pool2d(expected, 2) if isinstance(layer, nn.MaxPool2d) else layer(expected)
    torch.testing.assert_close(features(2 * x - 1, ["conv5_2"])["conv5_2"], F.relu(expected))


class Choices:
    """Stands in for the networks of the default: which are on disk, and which can be fetched."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, on_disk: Sequence[str], fetched: Sequence[str]) -> None:
        self.loaded: list[str] = []
        self.available = {*on_disk, *fetched}
        monkeypatch.setattr(named_features, "find_weights", lambda name: Path(name) if name in on_disk else None)
        for name in ("vgg19", "vgg16_hed"):
            monkeypatch.setitem(NAMED, name, lambda name=name: self.load(name))

    def load(self, name: str) -> FeatureNetwork:
        if name not in self.available:
            raise WeightsError(f"no {name} here.")
        self.loaded.append(name)
        return RandomFeatures(num_filters=1, scales=(1,))


@pytest.mark.parametrize(
    ("on_disk", "fetched", "chosen"),
    [
        (["vgg19", "vgg16_hed"], [], "vgg19"),
        (["vgg16_hed"], ["vgg19"], "vgg16_hed"),  # no download of half a gigabyte where one is there
        ([], ["vgg19", "vgg16_hed"], "vgg19"),
        ([], ["vgg16_hed"], "vgg16_hed"),
    ],
)
def test_the_default_is_the_best_that_there_is(
    on_disk: list[str], fetched: list[str], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = Choices(monkeypatch, on_disk, fetched)
    load_features()
    assert choices.loaded == [chosen]


def test_without_any_weights_the_choices_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Choices(monkeypatch, [], [])
    with pytest.raises(WeightsError, match="fetch vgg16_hed`.*efficientnet_lite0, random.*vgg19: no vgg19 here"):
        load_features()


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    check_features_name("resnet50")
    for call in (load_features, fetch_weights, check_features_name):
        with pytest.raises(ValueError, match="no features 'hed'. Did you mean vgg16_hed.*vgg19, vgg16_hed, effi"):
            call("hed")
    with pytest.raises(ValueError, match=r"given by use_features\(zoo\.load_features\(name\)\)"):
        load_features("classifier.emoji")
    with pytest.raises(ValueError, match="'random' are drawn from a seed"):
        fetch_weights("random")
    assert load_features("random").name == "random"
