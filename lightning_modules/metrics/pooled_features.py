"""A layer of a feature network, averaged over positions, as feature extractor for FID.

NOTE: FIDs of different networks, or layers, cannot be compared with each other. There are no classes, so the Inception
Score of its logits, which are constant, is 1.
"""

import torch
from torch import Tensor, nn

from lightning_modules.metrics.protocol import check_bytes
from lightning_modules.networks.feature_networks import FeatureNetwork

AT_ONCE = 50  # images of one pass


class PooledFeatures(nn.Module):
    """The outputs of one layer of a feature network, averaged over positions.

    Args:
        network: The feature network.
        layer: Name of the layer.

    Raises:
        ValueError: If the network has no such layer.
    """

    statistics_dir: str | None = None

    def __init__(self, network: FeatureNetwork, layer: str) -> None:
        super().__init__()
        network.check_layers([layer])
        self.network, self.layer = network, layer
        self.extractor_name = f"{network.name}_{layer}"
        with torch.no_grad():
            self.num_features = network(torch.zeros(1, 3, 64, 64), [layer])[layer].shape[1]

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps uint8 images (N, 1 or 3, H, W) to features (N, num_features) and constant logits (N, 1).

        Raises:
            ValueError: If the images are not uint8, or have another number of channels.
        """
        check_bytes(images, self.extractor_name)
        parts = ((part.float() / 127.5 - 1).expand(-1, 3, -1, -1) for part in images.split(AT_ONCE))
        features = torch.cat([self.network(part, [self.layer])[self.layer].mean((2, 3)) for part in parts])
        return features, features.new_zeros(len(features), 1)
