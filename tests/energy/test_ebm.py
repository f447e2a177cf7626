"""The two phases, the chains and their buffer, and a density that can be checked on a grid."""

import math
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from datamodules import Ring
from lightning_modules import EBM
from lightning_modules.energy.ebm import RunawayEnergy
from tests.training import train

POINTS = {"shape": [2], "architecture": "mlp", "reference_scale": 2.0, "temperature": 1.0, "max_gradient": None}


def points(**overrides: Any) -> EBM:
    torch.manual_seed(0)
    return EBM(**{**POINTS, "width": 4, "step_size": 0.01, "initial_scale": 3.0, **overrides})


def quiet(**settings: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **settings,
    )


def test_the_gradient_is_that_of_the_log_likelihood() -> None:
    """Eq. 1.28: with samples of the model itself, contrast has the gradient of the exact -log p, found on a grid."""
    torch.manual_seed(0)
    module = points().double()
    weights = list(module.network.parameters())
    data = torch.randn(40, 2, dtype=torch.float64)
    axis = torch.linspace(-9, 9, 400, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    log_z = (-module.energy(grid)).logsumexp(0) + 2 * math.log(18 / 399)
    exact = torch.autograd.grad((module.energy(data) + log_z).mean(), weights)
    masses = (-module.energy(grid)).softmax(0).detach()
    contrast = module.energy(data).mean() - (masses * module.energy(grid)).sum()
    ours = torch.autograd.grad(contrast, weights)
    for a, b in zip(exact, ours, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-6)


def test_energy_is_the_potential_over_the_temperature_that_the_sampler_has() -> None:
    """Chains on a quadratic potential have the variance T / curvature: of exp(-energy), not of exp(-potential)."""
    module = points(temperature=0.25, step_size=0.05)
    module.unchecked_potential = lambda x: 2 * x.square().sum(1)  # type: ignore[method-assign]
    x = module.sample(20_000, generator=torch.Generator().manual_seed(0), steps=60, start="noise")
    biased = 0.25 / 4 / (1 - 0.05 * 4 / 2)
    assert x.var(0).tolist() == pytest.approx([biased, biased], rel=0.05)  # 5 s.e.
    assert torch.equal(module.energy(x), module.potential(x) / 0.25)


def test_metropolis_hastings_proposals_carry_chains_between_modes_by_their_mass() -> None:
    """Two far modes of masses 3 : 1, all chains in the lighter one: proposals alone find the ratio."""
    module = points(mh_proposal_every=1, step_size=0.002)
    centres, masses = torch.tensor([[1.5, 0.0], [-1.5, 0.0]]), torch.tensor([0.75, 0.25])

    def potential(x: Tensor) -> Tensor:
        return -((x[:, None] - centres).square().sum(2) / -0.08 + masses.log()).logsumexp(1)

    module.unchecked_potential = potential  # type: ignore[method-assign]
    module.particles.copy_(centres[1].expand_as(module.particles))
    x = module.sample(4000, generator=torch.Generator().manual_seed(0), steps=500)
    assert (x[:, 0] > 0).float().mean().item() == pytest.approx(0.75, abs=5 * math.sqrt(0.75 * 0.25 / 4000))


def test_training_keeps_settled_chains_as_particles() -> None:
    _, module, _ = train("EBM", 6, shape=(1, 8, 8), overrides={"width": 2, "steps": 2, "buffer_size": 16, "burn_in": 1})
    assert isinstance(module, EBM)
    assert module.replay is not None
    assert module.replay.chains.shape == (8, 2, 1, 8, 8)
    assert module.replay.visits.sum() <= 6 * 8
    settled = module.replay.chains.transpose(0, 1)[module.replay.visits.T >= 1]
    kept = module.particles_at(torch.arange(len(settled)))
    assert (kept - settled).abs().max() <= 1 / 255 + 1e-6
    assert (settled.abs() <= 1).all()


def test_energies_in_nats_are_not_rounded_under_autocast() -> None:
    module = points(temperature=1e-3)
    x = torch.linspace(-2, 2, 40).view(20, 2)
    expected = module.energy(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module.energy(x), expected)


def test_chains_go_on_in_batches_of_other_sizes() -> None:
    """A loader of one's own gives 16, 16 and 8 examples: no chain is lost in 12 batches; a longer one adds chains."""
    x = torch.rand(40, 2)
    module = points(steps=2, buffer_size=32, fresh_share=0.0, burn_in=0)
    quiet(max_epochs=4).fit(module, *[DataLoader(TensorDataset(x), batch_size=16)] * 2)
    assert module.replay is not None
    assert module.replay.visits.shape == (16, 2)
    assert module.replay.visits.sum() == 4 * 40
    assert module.replay.visits[:8].sum() == 8 * 12
    before = module.replay.visits
    quiet(max_steps=1).fit(module, *[DataLoader(TensorDataset(x), batch_size=20)] * 2)
    assert module.replay.visits.shape == (20, 2)
    assert (module.replay.visits[:16] >= before).all()
    assert module.replay.visits.sum() == 4 * 40 + 20


def test_a_run_away_energy_stops_the_run_with_step_and_energies() -> None:
    data = Ring(batch_size=16, train_size=64, val_size=16, test_size=16, scale=0.2)
    module = EBM.for_data(data.spec, width=2, steps=2, buffer_size=32, lr=1e-9, runaway=1e-6)
    with pytest.raises(RunawayEnergy, match=r"\b0\b\D+\d\S*\D+\d\S*\D+runaway=1e-06"):
        quiet(max_steps=3).fit(module, data)


@pytest.mark.parametrize(
    ("name", "value"),
    [("runaway", 0.0), ("runaway", -1.0), ("steps", 0), ("step_size", 0.0), ("temperature", -1.0), ("max_gradient", 0)],
)
def test_numbers_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}={value}"):
        EBM(**{name: value})  # type: ignore[arg-type]


def test_arguments_that_do_not_fit_are_refused() -> None:
    for bad in ({"fresh_share": 1.5}, {"data_noise": -0.1}, {"reference_scale": 1.0}, {"architecture": "dcgan"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            EBM(**bad)
    with pytest.raises(ValueError, match="start='data'"):
        points().sample(1, start="data")


def test_a_short_run_learns_the_ring() -> None:
    data = Ring(batch_size=128, train_size=20_000, val_size=256, test_size=2000, scale=0.4)
    torch.manual_seed(0)
    module = EBM.for_data(data.spec, width=16, steps=5, buffer_size=2048, lr=3e-3, decay_steps=300)
    trainer = quiet(max_steps=300, limit_val_batches=0)
    trainer.fit(module, data)
    measured = quiet().test(module, data, verbose=False)[0]
    assert measured["test/kl-grid"] < 0.3
    assert measured["test/energy_gap"] > 1
    # The grid's -log p is the entropy of the data plus KL, within five standard errors of 2 000 points.
    axis = torch.linspace(-3, 3, 600)
    x = torch.cartesian_prod(axis, axis)
    modes, scale = torch.tensor(data.spec.modes), data.spec.mode_scale
    assert scale is not None
    density = (-(x[:, None] - modes).square().sum(2) / (2 * scale**2)).exp().mean(1) / (2 * math.pi * scale**2)
    entropy = -torch.xlogy(density, density).sum().item() * (6 / 599) ** 2
    error = measured["test/nll_standard_error-grid"]
    assert measured["test/nll-grid"] == pytest.approx(entropy + measured["test/kl-grid"], abs=5 * error)
