"""Instance noise: the same on both sides, gone after its horizon, and an overlap of what does not overlap."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from lightning_modules import InstanceNoiseGAN
from lightning_modules.parts.corruption import InstanceNoise
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.schedules import Constant, changing
from tests.adversarial.games import POINTS, fit


def inputs_of(module: InstanceNoiseGAN, step: int) -> list[Tensor]:
    """Returns what the discriminator sees of real points and of generated ones, which are all at the origin."""
    seen: list[Tensor] = []
    judge = module.discriminator.forward
    module.generator.forward = lambda z, condition=None: torch.zeros(len(z), 2)
    module.discriminator.forward = lambda x, condition=None: (seen.append(x), judge(x, condition))[1]
    module.discriminator_losses(torch.zeros(20_000, 2), None, step)
    module.generator_losses(torch.zeros(20_000, 2), None, step)
    module.discriminator.forward = judge
    return seen


def test_equal_distributions_stay_equal_under_the_noise() -> None:
    """Eq. 1.40: three independent samples of N(0, sigma^2 I), within five standard errors, 1 in 10^5 by chance."""
    torch.manual_seed(0)
    module = InstanceNoiseGAN(**POINTS, instance_noise=0.4, noise_steps=10)
    for step, sigma in ((0, 0.4), (5, 0.2)):
        real, fake, again = inputs_of(module, step)
        for x in (real, fake, again):
            assert x.mean(0).abs().max() < 5 * sigma / math.sqrt(len(x))
            covariance = x.T @ x / len(x) / sigma**2
            assert (covariance - torch.eye(2)).abs().max() < 5 * math.sqrt(2 / len(x))
            assert x.norm(dim=1).quantile(0.5).item() == pytest.approx(sigma * math.sqrt(2 * math.log(2)), rel=0.03)
        for other in (fake, again):
            assert (real * other).mean().abs() < 5 * sigma**2 / math.sqrt(real.numel())


def test_after_the_horizon_there_is_no_noise() -> None:
    module = InstanceNoiseGAN(**POINTS, instance_noise=0.4, noise_steps=10)
    for step in (10, 11, 1000):
        assert all(not x.any() for x in inputs_of(module, step))
    assert inputs_of(module, 9)[0].any()
    constant = InstanceNoiseGAN(**POINTS, instance_noise=0.4)
    assert inputs_of(constant, 10**6)[0].std().item() == pytest.approx(0.4, rel=0.05)


def jensen_shannon(distance: float, sigma: float) -> float:
    """Returns JS(N(0, sigma^2), N(distance, sigma^2)) by the trapezoidal rule."""
    x = torch.linspace(-12 * sigma, distance + 12 * sigma, 20_001, dtype=torch.float64)
    p, q = (torch.distributions.Normal(mean, sigma).log_prob(x) for mean in (torch.tensor(0.0), torch.tensor(distance)))
    middle = torch.logaddexp(p, q) - math.log(2)
    return torch.trapezoid(p.exp() * (p - middle) + q.exp() * (q - middle), x).item() / 2


def test_the_best_discriminator_tells_disjoint_points_apart_less_the_more_noise_there_is() -> None:
    """Two points have JS = ln 2 at any distance. Under noise it is less, and -2 JS + 2 ln 2 is the best loss.

    The discriminator with the posterior's logit log p(x) - log q(x) has that loss, so that it is estimated by the game
    itself on the noisy inputs that ``InstanceNoise`` makes. 40 000 examples a side: a standard error of .004 at most.
    """
    torch.manual_seed(0)
    distance, values = 1.0, []
    for sigma in (0.2, 0.4, 0.8):
        noisy = InstanceNoise(Constant(sigma))
        real, fake = (noisy(torch.full((40_000, 1), place), 0, Noise())[:, 0] for place in (0.0, distance))
        module = InstanceNoiseGAN(**POINTS, instance_noise=sigma)
        loss = module.game.discriminator(*(distance * (distance - 2 * x) / (2 * sigma**2) for x in (real, fake)))
        estimate = math.log(2) - loss.item() / 2
        assert estimate == pytest.approx(jensen_shannon(distance, sigma), abs=0.012)
        values.append(estimate)
    assert math.log(2) > values[0] > values[1] > values[2] > 0


def test_noise_that_would_not_fade_within_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match=r"noise_steps=4.*planned for 3"):
        fit(InstanceNoiseGAN(**POINTS, noise_steps=4), 3)
    fit(InstanceNoiseGAN(**POINTS, noise_steps=3), 3)
    fit(InstanceNoiseGAN(**POINTS, noise_steps=4), -1, fast_dev_run=True)
    for bad in ({"instance_noise": 0.0}, {"instance_noise": -0.1}, {"noise_steps": 0}):
        with pytest.raises(ValueError, match=next(f"{key}={value}" for key, value in bad.items())):
            InstanceNoiseGAN(**POINTS, **bad)


def test_a_resumed_run_is_refused_like_a_new_one_and_continues_exactly(tmp_path: Path) -> None:
    saved = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    settings: dict[str, Any] = {"callbacks": [saved], "enable_checkpointing": True}
    torch.manual_seed(0)
    whole = InstanceNoiseGAN(**POINTS, noise_steps=4)
    fit(whole, 5, **settings)
    resumed = InstanceNoiseGAN(**POINTS, noise_steps=4)
    with pytest.raises(ValueError, match=r"noise_steps=4.*planned for 3"):
        fit(InstanceNoiseGAN(**POINTS, noise_steps=4), 3, ckpt_path=tmp_path / "step=2.ckpt", **settings)
    fit(resumed, 5, ckpt_path=tmp_path / "step=2.ckpt", **settings)
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


def test_noisy_examples_keep_their_type() -> None:
    noisy = InstanceNoise(changing(0.5, 0.0, 4, name="noise_steps"))
    for dtype in (torch.bfloat16, torch.float64):
        assert noisy(torch.zeros(4, 2, dtype=dtype), 0, Noise()).dtype == dtype
    x = torch.zeros(4, 2)
    assert noisy(x, 4, Noise()) is x
