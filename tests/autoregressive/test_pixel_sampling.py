"""The cached sampler of PixelCNN++ against whole passes, samples against masses, completion."""

import itertools

import pytest
import torch

from lightning_modules.networks.pixelcnn_cache import CachedPasses
from tests.autoregressive.pixelcnns import BITS, MODELS, build, labels_for, seed


@pytest.mark.parametrize("name", MODELS)
def test_cached_parameters_equal_those_of_whole_passes_at_every_pixel(name: str) -> None:
    module = build(**MODELS[name])
    channels, height, width = module.hparams["shape"]
    x = torch.rand(3, channels, height, width, generator=seed()) * 2 - 1
    labels = labels_for(module, 3)
    with torch.no_grad():
        whole = module.network(x, labels)
        passes = CachedPasses(module.network, 3, labels)
        for row, column in itertools.product(range(height), range(width)):
            expected = whole[:, :, row, column]
            torch.testing.assert_close(passes.parameters_at(row, column), expected, atol=1e-5, rtol=1e-5)
            passes.put(row, column, x[:, :, row, column])


@pytest.mark.parametrize("name", MODELS)
def test_cached_samples_equal_those_of_whole_passes(name: str) -> None:
    """In float64: in float32 a sample between two grey values may be rounded either way."""
    module = build(**MODELS[name]).double()
    cached, full = (module.sample(4, generator=seed(), cached=cached) for cached in (True, False))
    assert torch.equal(cached, full)
    assert cached.std() > 0.1


def test_an_image_is_sampled_alike_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    module = build(**BITS, shape=[1, 4, 4])
    together = module.sample(7, generator=seed())
    monkeypatch.setattr("lightning_modules.autoregressive.pixel_sampling.CHUNK", 3)
    assert torch.equal(module.sample(7, generator=seed()), together)


def test_samples_follow_the_masses() -> None:
    """2^4 images, 10 000 samples: chi-square with 15 degrees of freedom exceeds 44.3 once in 10 000 tests."""
    module = build(**BITS, shape=[1, 2, 2], num_scales=2)
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).view(-1, 1, 2, 2)
    with torch.no_grad():
        expected = module.log_prob(images).double().exp() * 10_000
    sampled = module.sample(10_000, generator=seed())
    index = (sampled.flatten(1) @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long()
    observed = index.bincount(minlength=16).double()
    assert ((observed - expected).square() / expected).sum() < 44.3


def test_completion_keeps_the_known_pixels_and_samples_the_rest_from_the_conditional() -> None:
    module = build(**BITS, shape=[1, 4, 4])
    x = module.sample(6, generator=seed(5))
    completed = module.complete(x, 2, generator=seed(6))
    assert torch.equal(completed[:, :, :2], x[:, :, :2])
    assert not torch.equal(completed, x)
    # With the numbers that x was sampled by, the rest of x comes back.
    assert torch.equal(module.complete(x, 2, generator=seed(5)), x)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[1, 2] = True
    partly = module.complete(1 - x, mask=mask, generator=seed(6))
    assert torch.equal(partly[..., 1, 2], (1 - x)[..., 1, 2])
    assert torch.equal(module.complete(x, 4), x)
    full = module.complete(x, 1, generator=seed(6), cached=False)
    assert torch.equal(module.complete(x, 1, generator=seed(6)), full)
