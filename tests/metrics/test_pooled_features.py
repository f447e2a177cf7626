"""A layer of a feature network as extractor: its means over positions, whatever the number of channels."""

import pytest
import torch

from lightning_modules.metrics.pooled_features import AT_ONCE, PooledFeatures
from lightning_modules.metrics.protocol import check_extractor
from lightning_modules.networks.feature_networks import RandomFeatures

NETWORK = RandomFeatures(num_filters=6, scales=(3, 5))


def test_features_are_means_of_the_layer_over_positions() -> None:
    extractor = PooledFeatures(NETWORK, "scale5")
    images = torch.randint(256, (AT_ONCE + 3, 3, 12, 12), dtype=torch.uint8)
    features, logits = check_extractor(extractor).extract(images)
    expected = NETWORK(images / 127.5 - 1, ["scale5"])["scale5"].mean((2, 3))
    torch.testing.assert_close(features, expected)
    assert extractor.num_features == 6
    assert logits.shape == (len(images), 1)
    assert extractor.extractor_name == "random_scale5"


def test_grey_images_are_repeated() -> None:
    extractor, grey = PooledFeatures(NETWORK, "scale3"), torch.randint(256, (4, 1, 12, 12), dtype=torch.uint8)
    torch.testing.assert_close(extractor.extract(grey)[0], extractor.extract(grey.expand(-1, 3, -1, -1))[0])


def test_what_is_no_image_or_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="has no layer 'conv9'; its layers are scale3, scale5"):
        PooledFeatures(NETWORK, "conv9")
    with pytest.raises(ValueError, match=r"needs uint8 images .* not torch.float32 \(2, 3, 8, 8\)"):
        PooledFeatures(NETWORK, "scale3").extract(torch.zeros(2, 3, 8, 8))
