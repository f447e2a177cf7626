"""The convolutions of VGG as features for style transfer and texture synthesis, with average in place of max pooling.

Five blocks of 3x3 convolutions, each followed by a rectification, with pooling between blocks. A layer ``"conv4_2"`` is
the rectified output of the second convolution of the fourth block, as in the code of Gatys et al.; average pooling
gives smoother gradients and, they found, better images.

NOTE: The fully connected layers are left out, so images of any size are allowed that leave a pixel after the pooling.

Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan and Zisserman, 2014),
https://arxiv.org/abs/1409.1556
Image Style Transfer Using Convolutional Neural Networks (Gatys et al., 2016),
https://doi.org/10.1109/CVPR.2016.265
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.networks.feature_networks import FeatureNetwork

CHANNELS = (64, 128, 256, 512, 512)
VGG16_DEPTHS, VGG19_DEPTHS = (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)
"""Number of convolutions in each block."""
STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
CONTENT_LAYERS = ("conv4_2",)


class VGGFeatures(FeatureNetwork):
    """The convolutions of a VGG network, named ``"conv<block>_<index>"`` from 1; Gatys' layers are the defaults.

    Args:
        name: Name of the network with its weights.
        depths: Number of convolutions in each of the five blocks.
        convolutions: Weight and bias by layer, shapes (K, C, 3, 3) and (K,), of RGB images.
        mean: Mean of each channel of the images it was trained on, in [0, 1].
        std: What each channel was divided by, in the same unit.
        style_layers: Default layers of style and texture.

    Raises:
        ValueError: If convolutions are missing, or have other shapes.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        depths: Sequence[int],
        convolutions: Mapping[str, tuple[Tensor, Tensor]],
        mean: Sequence[float],
        std: Sequence[float],
        style_layers: Sequence[str] = STYLE_LAYERS,
    ) -> None:
        layers = vgg_layers(depths)
        super().__init__(name, layers, CONTENT_LAYERS, style_layers)
        self.convolutions, channels = nn.ModuleDict(), 3
        for layer in layers:
            out = CHANNELS[_block(layer) - 1]
            weight, bias = convolutions.get(layer, (torch.empty(0), torch.empty(0)))
            if weight.shape != (out, channels, 3, 3) or bias.shape != (out,):
                raise ValueError(
                    f"{name} needs {layer} with weight {(out, channels, 3, 3)} and bias {(out,)}, but got "
                    f"{tuple(weight.shape)} and {tuple(bias.shape)}."
                )
            convolution = nn.Conv2d(channels, out, 3, padding=1, device="meta")
            convolution.weight, convolution.bias = nn.Parameter(weight), nn.Parameter(bias)
            self.convolutions[layer], channels = convolution, out
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self.freeze()

    def compute(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Returns the rectified outputs of known layers; see ``forward``.

        Raises:
            ValueError: If the images are so small that nothing is left after the pooling.
        """
        deepest = self.layers[self.depth(layers)]
        if min(x.shape[2:]) < (least := 2 ** (_block(deepest) - 1)):
            height, width = x.shape[2:]
            raise ValueError(
                f"{deepest} of {self.name} needs images of at least {least} pixels, not {height} x {width}."
            )
        found: dict[str, Tensor] = {}
        x = ((x + 1) / 2 - self.mean) / self.std
        for layer, convolution in self.convolutions.items():
            if layer.endswith("_1") and _block(layer) > 1:
                x = F.avg_pool2d(x, 2)
            x = F.relu(convolution(x))
            if layer in layers:
                found[layer] = x
            if layer == deepest:
                break
        return found


def vgg_layers(depths: Sequence[int]) -> list[str]:
    """Returns the names of all layers, in order."""
    return [f"conv{block}_{index}" for block, depth in enumerate(depths, 1) for index in range(1, depth + 1)]


def _block(layer: str) -> int:
    return int(layer[len("conv")])
