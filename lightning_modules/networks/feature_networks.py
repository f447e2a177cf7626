"""Features of images at named layers of a frozen network, for losses between images (style, texture, content).

A ``FeatureNetwork`` maps images to the outputs of the layers that are asked for, and computes no layer beyond the
deepest of them. Its parameters are frozen and it stays in eval mode; gradients flow to the images. Any network becomes
one by ``WrappedFeatures``; ``RandomFeatures`` need no training at all.

NOTE: Only the receptive field and the nonlinearity of random filters are meaningful, so they are good for textures, and
say little about the content of an image.

Texture Synthesis Using Shallow Convolutional Networks with Random Filters (Ustyuzhaninov et al., 2016),
https://arxiv.org/abs/1606.00021
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RANDOM_SCALES = (3, 5, 7, 11, 15, 23, 37, 55)
"""Sides of the random filters of Ustyuzhaninov et al., in pixels."""
PROBE_SIDE = 64
PROBE_STEP = 64
"""Pixels by which the second image is larger by which layers are found: a multiple of the strides of networks."""
LARGE_ENOUGH = 256
"""Side in pixels that no network finds too small: an error at a larger one has another cause, such as memory."""
NUM_STYLE_LAYERS = 5  # as many as Gatys et al. use


class FeatureNetwork(nn.Module, ABC):
    """Abstract: maps images to the outputs of named layers; a subclass computes them.

    Args:
        name: Name of the network with its weights, ``"vgg19"``; results are recorded with it.
        layers: Names of all layers, in order of depth.
        content_layers: Layers that are compared for content unless others are named.
        style_layers: Layers that are compared for style unless others are named.
    """

    def __init__(
        self, name: str, layers: Sequence[str], content_layers: Sequence[str], style_layers: Sequence[str]
    ) -> None:
        super().__init__()
        self.name = name
        self.layers = tuple(layers)
        self.content_layers, self.style_layers = tuple(content_layers), tuple(style_layers)

    @abstractmethod
    def compute(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Returns the outputs of known layers for checked images; see ``forward``."""

    def forward(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Returns the outputs (N, K, h, w) of layers, in the order in which these are named.

        Args:
            x: RGB images (N, 3, H, W) in [-1, 1]; values outside, as during an optimization, are allowed.
            layers: Names of layers; nothing beyond the deepest of them is computed.

        Raises:
            ValueError: If a layer is unknown, or x has another shape or is not floating point.
        """
        self.check_layers(layers)
        if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
            raise ValueError(
                f"{self.name} takes floating-point RGB images (N, 3, H, W), not {x.dtype} {tuple(x.shape)}: repeat the "
                "channel of grey images."
            )
        found = self.compute(x, layers)
        return {layer: found[layer] for layer in layers}

    def check_layers(self, layers: Sequence[str]) -> None:
        """Raises ValueError, with the valid names, if a layer is unknown or none is named."""
        if isinstance(layers, str) or not layers:
            raise ValueError(f"layers={layers!r} must be a list of one or more layers of {self.name}.")
        if unknown := [layer for layer in layers if layer not in self.layers]:
            raise ValueError(f"{self.name} has no layer {unknown[0]!r}; its layers are {', '.join(self.layers)}.")

    def depth(self, layers: Sequence[str]) -> int:
        """Returns the index of the deepest of some layers in ``self.layers``."""
        return max(map(self.layers.index, layers))

    def freeze(self) -> None:
        """Ends the construction of a subclass: no gradients of parameters, and eval mode."""
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "FeatureNetwork":
        """Stays in eval mode, because the network is frozen."""
        return super().train(False)


class RandomFeatures(FeatureNetwork):
    """Rectified random filters of several sizes side by side, one layer ``"scale<side>"`` for each size.

    The style is compared at all scales, the content at the smallest. Filters are drawn uniformly with Glorot's variance
    2 / (fan in + fan out), as in the authors' code; borders are padded with zeros.

    Args:
        seed: Seed of the filters.
        num_filters: Filters of each size.
        scales: Sides of the filters, odd, in pixels.

    Raises:
        ValueError: If there is no filter, or a side is even or below 1.
    """

    def __init__(self, seed: int = 0, num_filters: int = 128, scales: Sequence[int] = RANDOM_SCALES) -> None:
        if num_filters < 1 or not scales or len(set(scales)) < len(scales) or any(s < 1 or s % 2 == 0 for s in scales):
            raise ValueError(
                f"num_filters={num_filters} must be at least 1, and scales={list(scales)} different odd sides."
            )
        scales = sorted(scales)
        layers = [f"scale{side}" for side in scales]
        super().__init__("random", layers, layers[:1], layers)
        generator = torch.Generator().manual_seed(seed)
        for layer, side in zip(layers, scales, strict=True):
            bound = math.sqrt(6 / ((3 + num_filters) * side**2))
            filters = bound * (2 * torch.rand(num_filters, 3, side, side, generator=generator) - 1)
            self.register_buffer(layer, filters)
        self.freeze()

    def compute(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Returns the outputs (N, num_filters, H, W) of known layers; see ``forward``."""
        found = {}
        for layer in layers:
            filters = self.get_buffer(layer)
            found[layer] = F.relu(F.conv2d(x, filters, padding=filters.shape[-1] // 2))
        return found


class _Reached(Exception):
    """Ends a forward pass after the deepest layer that was asked for."""


class WrappedFeatures(FeatureNetwork):
    """The outputs of the modules inside of any network, by their names in ``network.named_modules()``.

    Images are normalized as the network expects them; where its first convolution has one channel, they are averaged to
    grey. They keep their size: convolutional networks, such as classifiers of small images, take any. The network is
    copied. Activations that overwrite their input are replaced by ones that do not, so that layers keep their outputs.

    Args:
        network: Maps images (N, 1 or 3, H, W) to anything.
        layers: Names of the modules that can be asked for; by default all that return one image of features, (N, K, h,
            w) with h and w that grow with the image: not positions before channels, as in some transformers.
        name: Name of the network with its weights; its class by default.
        mean: Mean of each channel of the images the network was trained on, in [0, 1], with ``std``; without them it
            gets images in [-1, 1].
        std: Standard deviation of each channel, likewise.
        probe_side: Side in pixels of the smaller of two images by which the layers are found.

    Raises:
        ValueError: If a module is unknown or does not return one image of features, or there is none; if the network
            does not take images of any size; or if mean and std are not one or three numbers each, std above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[str] | None = None,
        *,
        name: str | None = None,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        probe_side: int = PROBE_SIDE,
    ) -> None:
        if not len(mean) == len(std) in (1, 3) or min(std) <= 0:
            raise ValueError(f"mean={list(mean)} and std={list(std)} must be one or three numbers each, std above 0.")
        name = name or type(network).__name__
        network = copy.deepcopy(network).eval()
        for module in network.modules():
            if isinstance(getattr(module, "inplace", None), bool):
                module.inplace = False  # type: ignore[assignment]
        grey = _first_channels(network) == 1
        sides = _layers_of_images(network, 1 if grey else 3, probe_side, name)
        if layers is not None and (unknown := [layer for layer in layers if layer not in sides]):
            raise ValueError(
                f"{name} has no module {unknown[0]!r} that returns features (N, K, H, W); those that do are "
                f"{', '.join(sides)}."
            )
        named = [layer for layer in sides if layers is None or layer in layers]
        if not named:
            raise ValueError(f"{name} has no module that returns features (N, K, H, W): no layer can be compared.")
        super().__init__(name, named, *_default_layers(network, {layer: sides[layer] for layer in named}))
        self.network, self.grey = network, grey
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.freeze()

    def compute(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Returns the outputs of known layers; see ``forward``.

        Raises:
            ValueError: If the images are so small that the network does not take them.
        """
        height, width = x.shape[2:]
        x = ((x + 1) / 2 - self.mean) / self.std
        try:
            return _outputs(self.network, x.mean(1, keepdim=True) if self.grey else x, set(layers))
        except (RuntimeError, AssertionError) as error:
            if max(height, width) > LARGE_ENOUGH or isinstance(error, torch.OutOfMemoryError):
                raise
            raise ValueError(
                f"{self.name} does not take images of {height} x {width} pixels: use larger ones ({error})."
            ) from error


def _first_channels(network: nn.Module) -> int:
    """Returns the channels that the first convolution of a network takes; 3 where there is none."""
    return next((module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d)), 3)


def _outputs(network: nn.Module, x: Tensor, wanted: set[str]) -> dict[str, Tensor]:
    """Returns the outputs of modules by name, in the order in which they ended, and stops when all are there."""
    found: dict[str, Tensor] = {}

    def keep(name: str, output: object) -> None:
        # A module that is called several times has the output of its first call.
        if name not in found and isinstance(output, Tensor) and output.ndim == 4:
            found[name] = output
            if len(found) == len(wanted):
                raise _Reached

    def hook(name: str) -> torch.utils.hooks.RemovableHandle:
        return modules[name].register_forward_hook(lambda module, inputs, output: keep(name, output))

    modules = dict(network.named_modules())
    handles = [hook(name) for name in wanted]
    try:
        network(x)
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return found


def _layers_of_images(network: nn.Module, channels: int, side: int, name: str) -> dict[str, int]:
    """Returns the modules that return one image of features, in order of depth, and the sides of these images.

    An image of features has as many channels for an image of any size, and more rows and columns for a larger one.
    """
    wanted = {module for module, _ in network.named_modules() if module}
    parameter = next(network.parameters(), torch.empty(0))
    shapes: list[dict[str, torch.Size]] = []
    for probed in (side, side + PROBE_STEP):
        try:
            with torch.no_grad():
                found = _outputs(network, parameter.new_zeros(1, channels, probed, probed), wanted)
        except Exception as error:  # a network of the user may raise anything
            other = f", though those of side {side}" if shapes else ""
            raise ValueError(
                f"{name} does not take images (1, {channels}, {probed}, {probed}){other}: {error}"
            ) from error
        shapes.append({layer: output.shape for layer, output in found.items()})
    small, large = shapes
    return {
        layer: shape[3]
        for layer, shape in small.items()
        if layer in large
        and shape[:2] == large[layer][:2]
        and shape[2] < large[layer][2]
        and shape[3] < large[layer][3]
    }


def _default_layers(network: nn.Module, sides: dict[str, int]) -> tuple[list[str], list[str]]:
    """Returns layers for content and style, chosen as Gatys et al. chose those of VGG.

    The style is compared after the first activation at each resolution, at most five, and the content in the middle of
    the resolution before the last of these.
    """
    activations = tuple(vars(nn.modules.activation).values())
    modules = dict(network.named_modules())
    levels: dict[int, list[str]] = {}
    for layer, side in sides.items():
        levels.setdefault(side, []).append(layer)
    chosen = []
    for side in sorted(levels, reverse=True):
        active = [layer for layer in levels[side] if type(modules[layer]) in activations]
        chosen.append(active or levels[side])
    chosen = chosen[:NUM_STYLE_LAYERS]
    content = chosen[-2] if len(chosen) > 1 else chosen[-1]
    return [content[len(content) // 2]], [level[0] for level in chosen]
