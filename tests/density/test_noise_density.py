"""The noise of noise-contrastive estimation: sampled from its density, frozen, kept in the checkpoint."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

import zoo
from datamodules import Ring
from lightning_modules import NCE, Gaussian, GaussianMixture
from lightning_modules.parts.noise import Noise
from tests.training import GlobalNoise


@pytest.mark.parametrize(
    "density",
    [
        Gaussian(shape=[2], covariance="full"),
        Gaussian(shape=[2], covariance="diagonal"),
        GaussianMixture(shape=[2], num_components=3),
        GaussianMixture(shape=[3], num_components=2, covariance="low_rank", rank=1),
    ],
    ids=lambda d: f"{type(d).__name__}-{d.hparams['covariance']}",
)
def test_noise_follows_the_density(density: Any) -> None:
    """Mean and covariance of 20 000 samples within 5 s.e. of those of the density itself."""
    samples = density.draw(Noise(torch.Generator().manual_seed(0)), 20_000)
    components = density.components
    weights = getattr(density, "weights", torch.ones(1)).detach()
    mean = (weights[:, None] * components.mean).sum(0)
    offsets = components.mean - mean
    second = components.covariances() + offsets[:, :, None] * offsets[:, None, :]
    covariance = (weights[:, None, None] * second).sum(0).detach()
    scale = covariance.diagonal().sqrt()
    assert ((samples.mean(0) - mean).abs() < 5 * scale / math.sqrt(20_000)).all()
    found = (samples - mean).T @ (samples - mean) / len(samples)
    assert ((found - covariance).abs() < 5 * math.sqrt(2 / 20_000) * torch.outer(scale, scale)).all()
    halves = [density.draw(GlobalNoise(), 5) for _ in range(2)]
    assert torch.equal(*halves)


def test_the_noise_density_is_frozen_and_travels_in_the_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    density = GaussianMixture(shape=[2], num_components=3)
    data = Ring(batch_size=32, train_size=64, val_size=32, test_size=32, scale=0.2)
    module = NCE.for_data(data.spec, noise_density=density, width=2)
    before = {key: value.clone() for key, value in density.state_dict().items()}
    trainer = Trainer(
        accelerator="cpu",
        max_steps=4,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        log_every_n_steps=1,
    )
    trainer.fit(module, data)
    assert not any(parameter.requires_grad for parameter in module.noise_density.parameters())
    after = module.noise_density.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    recorded = module.hparams["noise_density"]
    assert recorded["method"] == "GaussianMixture"
    assert recorded["hyperparameters"]["num_components"] == 3
    json.dumps(dict(module.hparams))
    zoo.save(module, tmp_path / "folder", samples=False)
    loaded = zoo.load(str(tmp_path / "folder"))
    x = torch.randn(5, 2)
    assert torch.equal(loaded.log_prob(x), module.eval().log_prob(x))  # type: ignore[operator]


class Uniform(nn.Module):
    """A density of a user's own, uniform on [-2, 2]^2, without ``draw``."""

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.full((len(x),), -math.log(16.0))

    def sample(
        self, num_samples: int, *, labels: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return 4 * torch.rand(num_samples, 2, generator=generator) - 2


def test_a_density_of_a_users_own_needs_log_prob_and_sample_alone() -> None:
    module = NCE(shape=[2], noise_density=Uniform(), architecture="mlp", width=2, noise_ratio=2.5)
    noise = module.draw_noise(Noise(torch.Generator().manual_seed(0)), module.num_noise(100))
    assert noise.shape == (250, 2)
    again = module.draw_noise(Noise(torch.Generator().manual_seed(0)), 250)
    assert torch.equal(noise, again)


def test_densities_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="Linear.*log_prob.*sample"):
        NCE(shape=[2], noise_density=nn.Linear(2, 1), architecture="mlp")
    with pytest.raises(ValueError, match=r"noise_density.*\[3\].*\[2\]"):
        NCE(shape=[2], architecture="mlp", noise_density=Gaussian(shape=[3]))
    with pytest.raises(ValueError, match="Cauchy.*Gaussian"):
        NCE(shape=[2], architecture="mlp", noise_density={"method": "Cauchy", "hyperparameters": {}})
