"""EfficientNet-Lite0 as feature extractor of photographs and other colour images, without Inception's file.

It was trained on ImageNet like Inception, is a fifth of its size and is fetched as a package, also without access to
anything but a package index. Metrics carry its name, ``"fid-efficientnet_lite0-10k"``.

NOTE: FIDs with it cannot be compared with FIDs with Inception, which the literature has. A covariance of 1 280 features
needs many samples: fewer than 2 560 are refused.

EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (Tan and Le, 2019),
https://arxiv.org/abs/1905.11946
"""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lightning_modules.metrics.protocol import check_bytes
from lightning_modules.networks.efficientnet_lite import (
    IMAGE_SIDE,
    PIXEL_MEAN,
    PIXEL_STD,
    EfficientNetLite0,
    NormalizedConv,
)
from lightning_modules.pretrained.named_features import load_efficientnet_lite0

AT_ONCE = 10  # images of one pass; on a CPU it takes a third less time than of 25, whose activations leave the cache


class EfficientNetExtractor(nn.Module):
    """EfficientNet-Lite0: 1280 pooled features in [0, 6] and 1000 logits, in one pass.

    Images of any size are resized to 224 x 224 by bicubic interpolation with antialiasing and normalized by
    (x - 127) / 128; grey images are repeated to three channels.

    Args:
        network: The network, for tests; by default that with ImageNet's weights, which are fetched if they are not on
            this machine.

    Raises:
        ValueError: If the weights are damaged or cannot be fetched; the message says what to do.
    """

    extractor_name = "efficientnet_lite0"
    statistics_dir: str | None = None

    def __init__(self, network: EfficientNetLite0 | None = None) -> None:
        super().__init__()
        self.network = _folded(load_efficientnet_lite0() if network is None else network)
        self.num_features = self.network.num_features
        self.least_samples = 2 * self.num_features
        self.to(memory_format=torch.channels_last)  # a third less time on a CPU
        self.requires_grad_(False)

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps uint8 images (N, 1 or 3, H, W) to features (N, 1280) and logits (N, 1000), float32.

        Raises:
            ValueError: If the images are not uint8, or have another number of channels.
        """
        check_bytes(images, "EfficientNet-Lite0")
        features = torch.cat([self._features(part) for part in images.split(AT_ONCE)])
        return features, self.network.classifier(features)

    def train(self, mode: bool = True) -> "EfficientNetExtractor":
        """Stays in eval mode, because the extractor is frozen."""
        return super().train(False)

    def _features(self, images: Tensor) -> Tensor:
        resized = F.interpolate(images.float(), (IMAGE_SIDE, IMAGE_SIDE), mode="bicubic", antialias=True)
        return self.network.features(((resized - PIXEL_MEAN) / PIXEL_STD).expand(-1, 3, -1, -1))


def _folded(network: EfficientNetLite0) -> EfficientNetLite0:
    """Returns a copy whose batch normalization is part of its convolutions, which saves a third of the time."""
    network = deepcopy(network).eval()
    for layer in network.modules():
        if isinstance(layer, NormalizedConv) and isinstance(layer.norm, nn.BatchNorm2d):
            layer.conv, layer.norm = fuse_conv_bn_eval(layer.conv, layer.norm), nn.Identity()
    return network
