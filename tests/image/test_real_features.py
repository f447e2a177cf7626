"""With a network that was trained on photographs, as the commands use it by default."""

from pathlib import Path

import pytest
import torch

from datamodules.spec import Batch
from lightning_modules import TextureSynthesis
from lightning_modules.image.feature_statistics import FeatureStatistics
from lightning_modules.networks.feature_networks import FeatureNetwork
from lightning_modules.pretrained.named_features import find_weights, load_features
from tests.image.small_images import data_of, fit

NAME = "vgg16_hed"


@pytest.fixture(scope="module")
def network() -> FeatureNetwork:
    if find_weights(NAME) is None:
        pytest.skip(f"The weights {NAME} are not on this machine: python -m zoo fetch {NAME}")
    pytest.importorskip("h5py")
    return load_features(NAME)


def test_a_texture_comes_near_its_exemplar(network: FeatureNetwork, tmp_path: Path) -> None:
    data = data_of(tmp_path, "TextureSynthesis", (48, 48))
    first, last = (
        float(fit(module, data, steps, limit_val_batches=0).callback_metrics["train/gram"])
        for steps, module in ((1, texture(network, data.spec)), (30, texture(network, data.spec)))
    )
    assert last < first / 10


def texture(network: FeatureNetwork, spec: object) -> TextureSynthesis:
    module = TextureSynthesis.for_data(spec, num_scales=1)  # type: ignore[arg-type]
    module.use_features(network)
    return module


def test_tiles_give_the_statistics_of_the_whole(network: FeatureNetwork) -> None:
    """The overlap is larger than the receptive field of the deepest layer."""
    x = torch.rand(1, 3, 160, 288, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole, tiled = (FeatureStatistics(network, network.style_layers, tile=tile) for tile in (None, 128))
    with torch.no_grad():
        expected, found = whole.grams(x), tiled.grams(x)
    for layer in network.style_layers:
        torch.testing.assert_close(found[layer], expected[layer], rtol=1e-3, atol=1e-3 * float(expected[layer].max()))


def test_the_loss_is_zero_at_the_exemplar(network: FeatureNetwork) -> None:
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    module = TextureSynthesis((3, 64, 64), num_scales=1)
    module.use_features(network)
    module.prepare(Batch(x), 0)
    assert float(module.losses(x)["gram"]) == 0
    assert float(module.losses(x.flip(1))["gram"]) > 1e-3
