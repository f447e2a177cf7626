"""Gram matrices forget positions; tiles and circular borders change the memory, not the result."""

import pytest
import torch

from lightning_modules.image.feature_statistics import FeatureStatistics
from lightning_modules.networks.efficientnet_lite import EfficientNetLite0
from lightning_modules.networks.feature_networks import WrappedFeatures
from lightning_modules.runtime.memory import saved_bytes
from tests.image.small_images import SmallFeatures

LAYERS = ("first", "second")


def image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


def statistics(tile: int | None = None, is_torus: bool = False) -> FeatureStatistics:
    return FeatureStatistics(SmallFeatures(dtype=torch.float64), LAYERS, ["second"], tile, is_torus)


def test_the_gram_matrix_is_the_mean_of_outer_products() -> None:
    x = image(12, 16)
    features = SmallFeatures(dtype=torch.float64)(x, LAYERS)
    for layer, gram in statistics().grams(x).items():
        vectors = features[layer][0].flatten(1).T
        torch.testing.assert_close(gram, torch.stack([torch.outer(v, v) for v in vectors]).mean(0))


@pytest.mark.parametrize("size", [(224, 160), (200, 250)])
def test_tiles_give_the_loss_and_the_gradient_of_the_whole(size: tuple[int, int]) -> None:
    results = []
    for tile in (None, 32, 64):
        x = image(*size).requires_grad_()
        compared = statistics(tile)
        grams, distances = compared.compute(x, compared.content(image(*size, seed=1)))
        total = sum(gram.square().sum() for gram in grams.values()) + distances["second"]
        (gradient,) = torch.autograd.grad(torch.as_tensor(total), x)
        results.append((grams, distances, gradient))
    for grams, distances, gradient in results[1:]:
        torch.testing.assert_close(grams, results[0][0])
        torch.testing.assert_close(distances, results[0][1])
        torch.testing.assert_close(gradient, results[0][2])


def test_tiles_bound_the_memory() -> None:
    x = image(512, 512).requires_grad_()
    whole, tiled = (saved_bytes(lambda tile=tile: statistics(tile).grams(x)) for tile in (None, 32))  # type: ignore[misc]
    assert tiled < whole / 3


def test_content_is_compared_at_every_position() -> None:
    x, compared = image(16, 16), statistics()
    target = compared.content(x)
    assert float(compared.compute(x, target)[1]["second"]) == 0
    assert float(compared.compute(x.flip(3), target)[1]["second"]) > 0.01
    (_, distances), values = compared.compute(torch.zeros_like(x), target), SmallFeatures(dtype=torch.float64)
    expected, found = values(x, ["second"])["second"], values(torch.zeros_like(x), ["second"])["second"]
    torch.testing.assert_close(distances["second"], (found - expected).square().sum() / expected.square().sum())


def test_a_torus_has_no_border() -> None:
    """A cyclic shift by whole cells of the coarsest layer changes no Gram matrix; with borders it does."""
    x = image(64, 96)
    shifted = torch.roll(x, (10, 34), (2, 3))
    torus, plane = (statistics(is_torus=is_torus) for is_torus in (True, False))
    torch.testing.assert_close(torus.grams(shifted), torus.grams(x))
    assert (plane.grams(shifted)["second"] - plane.grams(x)["second"]).abs().max() > 1e-4
    tiled = statistics(tile=32, is_torus=True)
    torch.testing.assert_close(tiled.grams(x), torus.grams(x))


def test_a_torus_has_no_border_for_features_that_see_as_far_as_those_of_vgg() -> None:
    torch.manual_seed(0)
    network = WrappedFeatures(
        torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, dilation=78, padding=78), torch.nn.Sigmoid())
    )
    compared = FeatureStatistics(network, ["1"], is_torus=True)
    for size in ((64, 96), (40, 40)):
        x = image(*size).float()
        torch.testing.assert_close(compared.grams(torch.roll(x, (7, 31), (2, 3))), compared.grams(x))


@pytest.mark.parametrize("length", [230, 250, 256])
def test_tiles_are_padded_as_the_whole_is(length: int) -> None:
    """TensorFlow's padding depends on the length of a side: that of a tile must not shift its features."""
    torch.manual_seed(0)
    network = WrappedFeatures(EfficientNetLite0())
    layers = ["stem.activation", "blocks.2.project", "blocks.4.project"]  # which see less than the overlap
    x = image(length, 96).float()
    whole, tiled = (FeatureStatistics(network, layers, tile=tile) for tile in (None, 64))
    with torch.no_grad():
        found, expected = tiled.grams(x), whole.grams(x)
    for layer in layers:
        assert (found[layer] - expected[layer]).norm() < 1e-4 * expected[layer].norm()


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no layer 'third'; its layers are first, second"):
        FeatureStatistics(SmallFeatures(), ["third"])
    for tile in (0, 33, -32):
        with pytest.raises(ValueError, match=f"tile={tile} must be a multiple of 32"):
            statistics(tile)
