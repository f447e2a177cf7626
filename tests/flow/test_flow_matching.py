"""Training by flow matching: its optimum in closed form, what it draws, and a density on two moons."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules import TwoMoons
from datamodules.spec import Batch
from lightning_modules import FlowMatching
from lightning_modules.parts.noise import FixedNoise, Noise
from lightning_modules.parts.plane import grid_log_integral, on_grid
from tests.flow.gaussian_flows import GaussianVelocity
from tests.standins import quiet_trainer

MEAN, SCALE = torch.tensor([0.7, -1.2], dtype=torch.float64), 0.5
NUM = 200_000


@pytest.mark.parametrize("times", ["logit_normal", "uniform"])
def test_the_mean_velocity_of_a_gaussian_pair_minimises_the_error(times: str) -> None:
    """At the optimum, the gradient by any change of v is 0, and any change makes the error larger."""
    module = FlowMatching(shape=[2], architecture="mlp", width=2, times=times).double()
    module.network = GaussianVelocity(MEAN, SCALE).double()
    x = MEAN + SCALE * torch.randn(NUM, 2, dtype=torch.float64)

    def error(shift: float, slope: float) -> Tensor:
        optimum = module.network

        def changed(x: Tensor, time: Tensor, *condition: Any) -> Tensor:
            return optimum(x, time) + shift + slope * (x * time[:, None] ** 2)

        module.network = Changed(changed)
        errors = module.errors(x, None, None, Noise(torch.Generator().manual_seed(1)))
        module.network = optimum
        return errors

    least = error(0.0, 0.0)
    for change in ((1e-3, 0.0), (0.0, 1e-3)):
        slopes = (error(*change) - error(*(-value for value in change))) / 2e-3
        assert slopes.mean().abs() < 5 * slopes.std() / math.sqrt(NUM)
    for change in ((0.1, 0.0), (-0.1, 0.0), (0.0, 0.1), (0.0, -0.1)):
        rise = error(*change) - least
        assert rise.mean() > 5 * rise.std() / math.sqrt(NUM)


class Changed(torch.nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.forward = function


def test_paths_are_straight_from_noise_to_data() -> None:
    """A network that returns its input shows x_t: at one example, x_t - t x_1 is (1 - t) times the noise."""
    module = FlowMatching(shape=[2], architecture="mlp", width=2, times="uniform").double()
    seen: dict[str, Tensor] = {}

    def recording(x: Tensor, time: Tensor, *condition: Any) -> Tensor:
        seen.update(x=x, time=time)
        return torch.zeros_like(x)

    module.network = Changed(recording)
    x, indices = torch.randn(50, 2, dtype=torch.float64), torch.arange(50)
    errors = module.errors(x, None, None, FixedNoise(indices))
    draws = FixedNoise(indices)
    time, noise = draws.uniform(50, device=x.device), draws.normal(50, 2, device=x.device).double()
    torch.testing.assert_close(seen["time"], time.double())
    torch.testing.assert_close(seen["x"], (1 - time[:, None]) * noise + time[:, None] * x)
    torch.testing.assert_close(errors, (x - noise).square().mean(1))


class Counted(Noise):
    """The training RNG, with what was drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.uniforms: list[Tensor] = []

    def uniform(self, *shape: int, device: torch.device) -> Tensor:
        self.uniforms.append(super().uniform(*shape, device=device))
        return self.uniforms[-1]


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_dropped_conditions_are_drawn_by_the_training_rng(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    module = FlowMatching(shape=[2], architecture="mlp", width=2, num_classes=3, condition_dropout=share)
    module.noise, given = Counted(), {}
    monkeypatch.setattr(module, "objective", lambda terms: terms["velocity_error"])
    module.network.register_forward_pre_hook(lambda network, arguments: given.update(dropped=arguments[3]))
    labels = torch.arange(400) % 3
    module.training_step(Batch(torch.randn(400, 2), labels), 0)
    if share == 0:
        assert given["dropped"] is None
        assert module.noise.uniforms == []
        assert all(p.requires_grad for p in module.parameters())
        return
    (uniform,) = module.noise.uniforms
    assert torch.equal(given["dropped"], uniform < share)
    assert 0.3 - 5 * 0.023 < given["dropped"].float().mean() < 0.3 + 5 * 0.023


def test_held_out_errors_are_of_fixed_times_and_noise() -> None:
    module = FlowMatching(shape=[2], architecture="mlp", width=2, num_classes=3)
    torch.nn.init.normal_(module.network.output.weight)  # type: ignore[union-attr, arg-type]
    batch, indices = Batch(torch.randn(6, 2), torch.arange(6) % 3), torch.arange(6)
    whole = module.diagnostics(batch, indices, "val")["velocity_error"]
    parts = [
        module.diagnostics(Batch(batch.x[i : i + 1], batch.labels[i : i + 1]), indices[i : i + 1], "val")  # type: ignore[index]
        for i in range(6)
    ]
    assert isinstance(whole, Tensor)
    torch.testing.assert_close(torch.cat([part["velocity_error"] for part in parts]), whole)  # type: ignore[misc]


def test_two_moons_are_learnt_with_a_density_that_integrates_to_one() -> None:
    torch.manual_seed(0)
    data = TwoMoons(batch_size=256, train_size=25_600, val_size=500, test_size=500)
    module = FlowMatching.for_data(data.spec, width=16, times="uniform", lr=5e-3, decay_steps=400)
    trainer = quiet_trainer(max_epochs=-1, max_steps=400, limit_val_batches=0)
    trainer.fit(module, data)
    with torch.no_grad():
        log_values = on_grid(lambda x: module.log_prob(x, steps=8), module.device, extent=4.0, resolution=80)
    integral = grid_log_integral(log_values, 4.0).exp().item()
    assert integral == pytest.approx(1, abs=0.02)  # Runge-Kutta with 8 steps, and cells of side 0.1
    (measured,) = trainer.test(module, data, verbose=False)
    x, _ = data.points("test")
    independent = -torch.distributions.MultivariateNormal(x.mean(0), x.T.cov()).log_prob(x).mean().item()
    assert measured["test/nll-exact"] < independent - 0.3, "better than a Gaussian of the same moments"
    assert measured["test/nll-exact"] == pytest.approx(measured["test/nll-exact_half_steps"], abs=0.02)
    assert measured["test/nll_standard_error-exact"] > 0


@pytest.mark.parametrize("architecture", ["unet", "mlp"])
@pytest.mark.parametrize("wrong", [2.5, "false", None])
def test_octaves_that_are_no_number_are_refused(architecture: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"fourier_features=.*(true, false or a whole number|must be)"):
        FlowMatching(architecture=architecture, width=4, fourier_features=wrong)
