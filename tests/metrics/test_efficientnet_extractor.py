"""EfficientNet-Lite0 as extractor: its protocol, any number of images at once, and no FID of too few."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_sample_image
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.callbacks import ImageMetrics, InceptionScore, evaluate_samples
from lightning_modules.metrics.efficientnet_extractor import AT_ONCE, EfficientNetExtractor
from lightning_modules.metrics.names import metric_name
from lightning_modules.networks.efficientnet_lite import EfficientNetLite0
from lightning_modules.parts.capabilities import FeatureExtractor
from tests.standins import SPEC, StandInModel


@pytest.fixture(scope="module")
def extractor() -> EfficientNetExtractor:
    """With random weights, which are enough for the protocol."""
    torch.manual_seed(0)
    return EfficientNetExtractor(EfficientNetLite0())


def random_images(num: int, channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (num, channels, 16, 20), dtype=torch.uint8)


def test_images_are_resized_and_normalized_by_the_protocol(extractor: EfficientNetExtractor) -> None:
    assert isinstance(extractor, FeatureExtractor)
    assert not extractor.train().training
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    images = random_images(2)
    features, logits = extractor.extract(images)
    assert (features.shape, logits.shape) == ((2, 1280), (2, 1000))
    x = F.interpolate(images.float(), (224, 224), mode="bicubic", antialias=True)
    torch.testing.assert_close(features, extractor.network.features((x - 127) / 128))
    torch.testing.assert_close(logits, extractor.network((x - 127) / 128))


def test_features_are_those_of_the_network_that_is_given_which_stays_as_it_was() -> None:
    torch.manual_seed(0)
    network = EfficientNetLite0()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean, layer.running_var = torch.randn(layer.num_features), torch.rand(layer.num_features) + 1
            nn.init.normal_(layer.weight, 1.0, 0.1)
            nn.init.normal_(layer.bias)
    before = [*network.state_dict()]
    images = torch.randint(0, 256, (3, 3, 224, 224), dtype=torch.uint8)
    features, _ = EfficientNetExtractor(network).extract(images)
    assert [*network.state_dict()] == before
    torch.testing.assert_close(features, network.eval().features((images - 127.0) / 128), rtol=1e-4, atol=1e-4)


def test_grey_images_are_repeated_and_parts_do_not_matter(extractor: EfficientNetExtractor) -> None:
    grey = random_images(AT_ONCE + 1, channels=1)
    features, _ = extractor.extract(grey)
    alone, _ = extractor.extract(grey[-1:].repeat(1, 3, 1, 1))
    torch.testing.assert_close(features[-1:], alone)


def test_other_images_are_refused(extractor: EfficientNetExtractor) -> None:
    for images in (random_images(1).float(), random_images(1, channels=2), random_images(1)[0]):
        with pytest.raises(ValueError, match=r"needs uint8 images \(N, 1 or 3, H, W\)"):
            extractor.extract(images)


def test_fid_of_fewer_than_twice_the_features_is_refused_before_anything_is_sampled(
    extractor: EfficientNetExtractor,
) -> None:
    reason = "FID of 2559 samples with the 1280 features of efficientnet_lite0.*at least 2560"
    for numbers in ({"num_samples": 2559}, {"num_test_samples": 2559}):
        with pytest.raises(ValueError, match=reason):
            ImageMetrics(extractor, **numbers)
    model = StandInModel()
    with pytest.raises(ValueError, match=reason):
        evaluate_samples(model, extractor, spec=SPEC, num_samples=2559)
    assert model.calls == []
    ImageMetrics(extractor, num_samples=2560, num_test_samples=2560)
    InceptionScore(extractor, num_samples=20)  # which has no covariance


def test_the_name_of_its_fid() -> None:
    assert metric_name("test", "fid", EfficientNetExtractor.extractor_name, 10_000) == "test/fid-efficientnet_lite0-10k"


def test_classes_are_those_of_imagenet(pretrained_weights: Callable[[str], Path]) -> None:
    pretrained_weights("efficientnet_lite0")
    extractor = EfficientNetExtractor()
    image = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)[None]
    features, logits = extractor.extract(image)
    assert logits.argmax() == 985  # daisy
    assert ((features >= 0) & (features <= 6)).all()
