"""What noise-contrastive estimation measures on held-out data, against sums over its noise, and where it saturates."""

import math
from typing import Any

import pytest
import torch

from datamodules.spec import Batch
from lightning_modules import NCE
from tests.density.test_nce import Quadratic, set_log_precision


def build(noise_ratio: float) -> NCE:
    torch.manual_seed(0)
    module = NCE(shape=[2], architecture="mlp", width=2, noise_ratio=noise_ratio)
    with torch.no_grad():
        module.log_normalizer.fill_(0.3)
    return module.eval()


@pytest.mark.parametrize(("noise_ratio", "num"), [(0.3, 1), (1.0, 1), (3.0, 3)])
@torch.no_grad()
def test_loss_and_accuracy_are_of_the_example_and_its_own_noise(noise_ratio: float, num: int) -> None:
    """-log D of the example and nu times the mean of -log(1 - D) over its noise; right answers at equal priors."""
    module, indices = build(noise_ratio), torch.tensor([0, 700, 3])
    x, noise = 2 * torch.randn(3, 2), module.fixed_noise(indices, num)
    measured: Any = module.diagnostics(Batch(x), indices, "val")
    d = torch.cat([module(x)[:, None], module(noise.flatten(0, 1)).view(3, num)], 1)
    expected = -d[:, 0].log() - noise_ratio * torch.log1p(-d[:, 1:]).mean(1)
    torch.testing.assert_close(measured["loss"], expected)
    called_data = torch.cat([x[:, None], noise], 1).flatten(0, 1)
    called_data = (module.log_ratio(called_data) > 0).view(3, -1)
    right = (called_data[:, 0].float() + (~called_data[:, 1:]).float().mean(1)) / 2
    torch.testing.assert_close(measured["accuracy"], right)


@torch.no_grad()
def test_the_noise_of_an_example_belongs_to_its_index() -> None:
    module, indices = build(2.0), torch.tensor([5, 400, 127, 128])
    noise = module.fixed_noise(indices, 2)
    for k, index in enumerate(indices):
        assert torch.equal(module.fixed_noise(index[None], 2)[0], noise[k])
    every = module.fixed_noise(torch.arange(2000), 2).view(4000, 2)
    assert len(every.unique(dim=0)) == 4000
    assert ((every.mean(0)).abs() < 5 / math.sqrt(4000)).all()  # N(0, I), within five standard errors
    assert ((every.var(0) - 1).abs() < 5 * math.sqrt(2 / 4000)).all()


@torch.no_grad()
def test_the_mean_of_the_held_out_loss_is_the_loss_of_training() -> None:
    """Where the ratio is a whole number, on the same data and noise."""
    module, indices = build(3.0), torch.arange(40)
    x, noise = torch.randn(40, 2), module.fixed_noise(torch.arange(40), 3).flatten(0, 1)
    losses = module.classification_losses(x, noise)
    measured: Any = module.diagnostics(Batch(x), indices, "test")
    torch.testing.assert_close(measured["loss"].mean(), losses["data"] + losses["noise"])


def test_saturation_shows_as_an_effective_sample_size_of_one() -> None:
    module = NCE(shape=[1], architecture="mlp", width=1)
    module.network = Quadratic(deviation=1.0)
    module.network.double()
    module.double()
    assert module.importance_ess(1000) > 100
    set_log_precision(module, math.log(1e8))
    assert module.importance_ess(1000) < 3
