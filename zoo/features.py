"""Pretrained networks by name: feature networks for losses between images, extractors for FID, and ``zoo fetch``."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from lightning_modules.metrics.efficientnet_extractor import EfficientNetExtractor
from lightning_modules.networks.feature_networks import FeatureNetwork, WrappedFeatures
from lightning_modules.pretrained.named_features import NAMED, fetch_weights, find_weights
from lightning_modules.pretrained.named_features import load_features as load_named
from lightning_modules.pretrained.packaged_weights import PACKAGED, WeightsError
from lightning_modules.pretrained.torchvision_weights import size_of, source_of, torchvision_names
from zoo.bounds import check_arguments
from zoo.errors import UsageError, ZooError
from zoo.listing import columns
from zoo.loading import load_classifier
from zoo.paths import command, is_checkpoint

EXTRACTORS: dict[str, Callable[[], nn.Module]] = {"efficientnet_lite0": EfficientNetExtractor}
"""Feature extractors for FID that are no checkpoints of the zoo."""


def load_extractor(name: str | Path, *, device: str | torch.device = "cpu") -> nn.Module:
    """Returns a feature extractor for FID: ``"efficientnet_lite0"``, or a classifier of the zoo; see ``load``.

    Raises:
        ZooError: If there is none of that name, it is damaged, or its weights cannot be fetched.
    """
    check_arguments(load_extractor, name=name, device=device)
    if name not in EXTRACTORS:
        return load_classifier(name, device=device)
    try:
        return EXTRACTORS[str(name)]().to(device)
    except WeightsError as error:
        raise ZooError(str(error)) from error


def load_features(name: str | None = None) -> FeatureNetwork:
    """Returns a feature network by name, for style transfer and textures, with its weights.

    Args:
        name: ``"vgg19"``, ``"vgg16_hed"``, ``"efficientnet_lite0"``, ``"random"``, a classification network of
            torchvision, or a classifier of the zoo: its name, or the path of its folder. By default the best of VGG
            that is on this machine or can be fetched.

    Raises:
        ZooError: If there is none of that name, it is damaged, or its weights cannot be fetched.
    """
    check_arguments(load_features, name=name)
    # A folder of a network's name must not take its place: a path such as ./random says that a folder is meant.
    is_known = name in NAMED or name in torchvision_names()
    if name is not None and not is_known and (is_checkpoint(name) or Path(name).expanduser().is_dir()):
        return WrappedFeatures(load_classifier(name), name=name)
    try:
        return load_named(name)
    except ValueError as error:
        raise ZooError(str(error)) from error


def fetch(arguments: Namespace) -> None:
    """Fetches weights of pretrained networks, or lists those that there are."""
    if arguments.list and arguments.names:
        raise UsageError("--list shows what there is: leave out the names, or --list.")
    if arguments.list:
        print(columns([("NAME", "SIZE", "HERE", "WHAT"), *map(_listed, NAMED), OTHERS]))
        return
    if not arguments.names:
        raise UsageError(f"Name what to fetch: {command('fetch', 'vgg16_hed')}. `{command('fetch', '--list')}` has it.")
    for name in arguments.names:
        path = fetch_weights(name)
        print(f"{name} is in {path}: {_source(name)}")


OTHERS = ("...", "", "", "any classification network of torchvision, such as resnet50, with its ImageNet weights")


def _listed(name: str) -> tuple[str, ...]:
    if name == "random":
        return name, "", "yes", "random filters of several sizes, drawn from a seed: not trained"
    size = f"{PACKAGED[name].wheel_size / 1e6:.0f} MB" if name in PACKAGED else f"{size_of(name):.0f} MB"
    try:
        here = "no" if find_weights(name) is None else "yes"
    except WeightsError:
        here = "damaged"
    return name, size, here, _source(name)


def _source(name: str) -> str:
    return PACKAGED[name].source if name in PACKAGED else source_of(name)
