"""Feature networks by name, each with real weights; a name is recorded with results, because they depend on it.

NOTE: A name always means the same weights. What is not on this machine is fetched, or refused with what to do: random
weights are never passed off as trained ones, and ``"random"`` says what it is.

References:
    Image Style Transfer Using Convolutional Neural Networks (Gatys et al., 2016),
    https://doi.org/10.1109/CVPR.2016.265
    Holistically-Nested Edge Detection (Xie and Tu, 2015), https://arxiv.org/abs/1504.06375
"""

import difflib
import re
from collections.abc import Callable
from pathlib import Path

import torch

from lightning_modules.networks.efficientnet_lite import IMAGE_SIDE, PIXEL_MEAN, PIXEL_STD, EfficientNetLite0
from lightning_modules.networks.feature_networks import FeatureNetwork, RandomFeatures, WrappedFeatures
from lightning_modules.networks.vgg import STYLE_LAYERS, VGG16_DEPTHS, VGG19_DEPTHS, VGGFeatures, vgg_layers
from lightning_modules.pretrained.packaged_weights import (
    EFFICIENTNET_LITE0,
    PACKAGED,
    VGG16_HED,
    WeightsError,
    fetch_packaged,
    find_packaged,
)
from lightning_modules.pretrained.torchvision_weights import (
    fetch_torchvision,
    find_torchvision,
    normalization_of,
    torchvision_names,
    torchvision_network,
    torchvision_state,
)

CAFFE_MEAN = (123.68, 116.779, 103.939)
"""Mean of the channels red, green and blue, of [0, 255], that Caffe's VGG networks subtract."""
EFFICIENTNET_PARTS = (
    (r"_blocks\.(\d+)\._expand_conv", r"blocks.\1.expand.conv"),
    (r"_blocks\.(\d+)\._bn0", r"blocks.\1.expand.norm"),
    (r"_blocks\.(\d+)\._depthwise_conv", r"blocks.\1.depthwise.conv"),
    (r"_blocks\.(\d+)\._bn1", r"blocks.\1.depthwise.norm"),
    (r"_blocks\.(\d+)\._project_conv", r"blocks.\1.project.conv"),
    (r"_blocks\.(\d+)\._bn2", r"blocks.\1.project.norm"),
    ("_conv_stem", "stem.conv"),
    ("_bn0", "stem.norm"),
    ("_conv_head", "head.conv"),
    ("_bn1", "head.norm"),
    ("_fc", "classifier"),
)
"""Names in the published file, as patterns, and in ``EfficientNetLite0``."""


def load_features(name: str | None = None) -> FeatureNetwork:
    """Returns a feature network by name; weights that are not on this machine are fetched, which is said in one line.

    Args:
        name: ``"vgg19"``, ``"vgg16_hed"``, ``"efficientnet_lite0"``, ``"random"``, or any classification network of
            torchvision, such as ``"resnet50"``. By default the best that there is: ``"vgg19"``, else ``"vgg16_hed"``
            if they are on this machine, else the first of them that can be fetched.

    Raises:
        ValueError: If the name is unknown.
        WeightsError: If the weights are damaged or cannot be had; a ``ValueError`` that says what to do.
    """
    if name is None:
        return _load_best()
    if name in NAMED:
        return NAMED[name]()
    check_features_name(name)
    mean, std, side = normalization_of(name)
    return WrappedFeatures(torchvision_network(name), name=name, mean=mean, std=std, probe_side=side)


def check_features_name(name: str) -> None:
    """Raises ValueError, with the valid names, if there is no feature network of that name."""
    names = [*NAMED, *torchvision_names()]
    if name not in names:
        near = [*(valid for valid in NAMED if name in valid), *difflib.get_close_matches(name, names, n=3)]
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(
            f"There are no features {name!r}.{hint} There are {', '.join(NAMED)}, and the classification networks of "
            "torchvision, such as resnet50; a classifier of the zoo is given by use_features(zoo.load_features(name))."
        )


def fetch_weights(name: str) -> Path:
    """Fetches the weights of a feature network unless they are on this machine, and returns their file.

    Raises:
        ValueError: If the name is unknown, or has no weights.
        WeightsError: If they are damaged or cannot be fetched.
    """
    check_features_name(name)
    if name == "random":
        raise ValueError("The features 'random' are drawn from a seed: they have no weights to fetch.")
    return fetch_packaged(PACKAGED[name]) if name in PACKAGED else fetch_torchvision(name)


def find_weights(name: str) -> Path | None:
    """Returns the file of weights of a feature network with weights if it is on this machine, else ``None``.

    Raises:
        WeightsError: If they are damaged.
    """
    return find_packaged(PACKAGED[name]) if name in PACKAGED else find_torchvision(name)


def load_vgg19() -> FeatureNetwork:
    """Returns VGG-19 with torchvision's ImageNet weights, its layers and average pooling as in Gatys et al.

    Raises:
        WeightsError: If the weights are damaged or cannot be downloaded.
    """
    state, convolutions, place = torchvision_state("vgg19"), {}, 0
    for layer in vgg_layers(VGG19_DEPTHS):
        while f"features.{place}.weight" not in state:  # activations and pooling are counted too
            place += 1
        convolutions[layer] = state[f"features.{place}.weight"], state[f"features.{place}.bias"]
        place += 1
    mean, std, _ = normalization_of("vgg19")
    return VGGFeatures("vgg19", VGG19_DEPTHS, convolutions, mean, std)


def load_vgg16_hed() -> FeatureNetwork:
    """Returns the convolutions of VGG-16, trained on ImageNet by its authors and fine-tuned on BSDS500 for edges.

    The default layers of style are conv1_1 to conv4_1: the edges have made conv5_1 another layer than Gatys'. After 300
    steps a texture of 96 pixels had colours that the exemplar has not, and a Gram distance of 4.9e-3 with conv5_1
    among the layers; without, it had 1.2e-3 over the four, and the exemplar's colours.

    Raises:
        WeightsError: If the weights are damaged or cannot be fetched.
    """
    path = fetch_packaged(VGG16_HED)
    import h5py  # an extra, which fetch_packaged has looked for

    convolutions = {}
    with h5py.File(path) as file:
        for layer in vgg_layers(VGG16_DEPTHS):
            block, index = layer.removeprefix("conv").split("_")
            place = "conv2d" if index == "1" else f"conv2d_{int(index) - 1}"
            weight, bias = (torch.from_numpy(file[f"block{block}/layers/{place}/vars/{part}"][()]) for part in "01")
            convolutions[layer] = weight.permute(3, 2, 0, 1).contiguous(), bias
    weight, bias = convolutions["conv1_1"]
    convolutions["conv1_1"] = weight.flip(1), bias  # Caffe's images are BGR
    mean = [value / 255 for value in CAFFE_MEAN]
    return VGGFeatures("vgg16_hed", VGG16_DEPTHS, convolutions, mean, 3 * [1 / 255], STYLE_LAYERS[:-1])


def load_efficientnet_lite0() -> EfficientNetLite0:
    """Returns EfficientNet-Lite0, trained on ImageNet, in eval mode and frozen.

    Raises:
        WeightsError: If the weights are damaged or cannot be fetched.
    """
    state = torch.load(fetch_packaged(EFFICIENTNET_LITE0), map_location="cpu", weights_only=True)
    network = EfficientNetLite0()
    network.load_state_dict({_renamed(name): tensor for name, tensor in state.items()})
    return network.requires_grad_(False).eval()


def _efficientnet_features() -> FeatureNetwork:
    mean, std = 3 * [PIXEL_MEAN / 255], 3 * [PIXEL_STD / 255]
    network = load_efficientnet_lite0()
    return WrappedFeatures(network, name="efficientnet_lite0", mean=mean, std=std, probe_side=IMAGE_SIDE)


NAMED: dict[str, Callable[[], FeatureNetwork]] = {
    "vgg19": load_vgg19,
    "vgg16_hed": load_vgg16_hed,
    "efficientnet_lite0": _efficientnet_features,
    "random": RandomFeatures,
}
"""Feature networks of this library, besides all networks of torchvision."""
BEST = ("vgg19", "vgg16_hed")
"""What the default is chosen from, the best first."""


def _load_best() -> FeatureNetwork:
    for name in BEST:
        if find_weights(name) is not None:
            return NAMED[name]()
    reasons = []
    for name in BEST:
        try:
            return NAMED[name]()
        except WeightsError as error:
            reasons.append(f"{name}: {error}")
    raise WeightsError(
        "No trained features are on this machine or could be fetched. Fetch some with `python -m zoo fetch vgg16_hed`, "
        f"or name others: {', '.join(name for name in NAMED if name not in BEST)}, or a network of torchvision. "
        + " ".join(reasons)
    )


def _renamed(key: str) -> str:
    part, _, tensor = key.rpartition(".")
    for pattern, name in EFFICIENTNET_PARTS:
        if match := re.fullmatch(pattern, part):
            return f"{match.expand(name)}.{tensor}"
    return key
