"""The two-player loop: who moves when, what is counted, what is computed."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from datamodules import Ring
from datamodules.loader import EvaluationLoader
from lightning_modules import SNGAN, WGANGP, ComposedGAN, MinimaxGAN, NonSaturatingGAN
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.adversarial.players import two_adams
from lightning_modules.parts.games import NON_SATURATING, Game
from lightning_modules.parts.noise import Noise, fixed_normal
from lightning_modules.parts.penalties import PENALTIES
from tests.adversarial.games import POINTS, fit


class Counted(Noise):
    """Counts how often codes are drawn: once in every step of the critic, and once in every step of the generator."""

    def __init__(self) -> None:
        self.calls = 0

    def normal(self, *shape: int, device: torch.device) -> Tensor:
        self.calls += 1
        return super().normal(*shape, device=device)


@pytest.mark.parametrize(("critic_steps", "batches"), [(1, 7), (3, 7), (5, 20)])
def test_global_step_counts_batches_and_the_generator_moves_every_nth(critic_steps: int, batches: int) -> None:
    module = WGANGP(**POINTS, critic_steps=critic_steps)
    module.noise = noise = Counted()
    trainer = fit(module, batches)
    assert trainer.global_step == batches
    assert noise.calls == batches + batches // critic_steps


def test_generator_stays_until_its_turn() -> None:
    module = WGANGP(**POINTS, critic_steps=4)
    before = [p.clone() for p in module.generator.parameters()]
    fit(module, 3)
    assert all(torch.equal(a, b) for a, b in zip(before, module.generator.parameters(), strict=True))
    fit(module, 4)
    assert not all(torch.equal(a, b) for a, b in zip(before, module.generator.parameters(), strict=True))


def test_checkpoints_come_at_the_batches_asked_for(tmp_path: Path) -> None:
    checkpoints = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=7, save_top_k=-1)
    fit(WGANGP(**POINTS), 21, enable_checkpointing=True, callbacks=[checkpoints])
    assert sorted(path.stem for path in tmp_path.glob("*.ckpt")) == ["step=14", "step=21", "step=7"]


def test_learning_rates_fall_to_zero_over_decay_steps() -> None:
    module = NonSaturatingGAN(**POINTS, decay_steps=8)
    rates: list[list[float]] = []
    original = module.training_step

    def recorded(batch: Any, batch_idx: int) -> None:
        original(batch, batch_idx)
        rates.append([optimizer.param_groups[0]["lr"] for optimizer in module.trainer.optimizers])

    module.training_step = recorded  # type: ignore[method-assign]
    fit(module, 8)
    expected = [2e-4 * (1 - step / 8) for step in range(8)]
    for player in (0, 1):
        assert [row[player] for row in rates] == pytest.approx(expected)


def test_two_time_scales_reach_their_players() -> None:
    module = MinimaxGAN(**POINTS, lr=1e-3, discriminator_lr=4e-3)
    generator, discriminator = cast(list[Optimizer], module.configure_optimizers())
    assert generator.param_groups[0]["lr"] == 1e-3
    assert discriminator.param_groups[0]["lr"] == 4e-3
    assert {id(p) for p in generator.param_groups[0]["params"]} == {id(p) for p in module.generator.parameters()}


def test_one_step_equals_the_algorithm_written_out() -> None:
    """An independent critic step and generator step with the same random numbers give the same weights."""
    torch.manual_seed(1)
    module = WGANGP(**POINTS, critic_steps=1, penalty_weight=3.0)
    reference = WGANGP(**POINTS, critic_steps=1, penalty_weight=3.0)
    reference.load_state_dict(module.state_dict())
    real = torch.randn(8, 2)
    z = [torch.randn(8, 2), torch.randn(8, 2)]
    t = torch.rand(8, 1)

    class Replayed(Noise):
        def __init__(self) -> None:
            self.codes = iter(z)

        def normal(self, *shape: int, device: torch.device) -> Tensor:
            return next(self.codes)

        def uniform(self, *shape: int, device: torch.device) -> Tensor:
            return t

    module.noise = Replayed()
    fit(module, 1, data=DataLoader(TensorDataset(real, torch.zeros(8, dtype=torch.long)), 8))

    G, D = reference.generator, reference.discriminator
    optimizer = torch.optim.Adam(D.parameters(), lr=1e-4, betas=(0.0, 0.9), fused=True)
    fake = G(z[0]).detach()
    point = (real + t * (fake - real)).requires_grad_()
    (slope,) = torch.autograd.grad(D(point).sum(), point, create_graph=True)
    loss = D(fake).mean() - D(real).mean() + 3.0 * (slope.norm(dim=1) - 1).square().mean()
    loss.backward()
    optimizer.step()
    optimizer = torch.optim.Adam(G.parameters(), lr=1e-4, betas=(0.0, 0.9), fused=True)
    (-D(G(z[1])).mean()).backward()
    optimizer.step()
    for (name, ours), theirs in zip(module.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7, msg=name)


def test_penalty_is_computed_and_differentiated_in_full_precision() -> None:
    """With no game and fixed fakes the critic's step is the penalty's alone: bf16-mixed must not change a bit of it."""
    weights = []
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(0)
        module = WGANGP(**POINTS, critic_steps=2, penalty_weight=3.0)
        module.game = Game(lambda real, fake: 0 * (real.sum() + fake.sum()), module.game.generator)
        fixed = torch.randn(16, 2)
        module.generator.forward = lambda z, condition=None, fixed=fixed: fixed
        fit(module, 1, precision=precision)
        weights.append(module.discriminator.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("constraint", [{}, {"spectral_norm": True}, {"weight_clip": 0.1}])
def test_penalties_train_with_every_constraint(penalty: str, constraint: dict[str, Any]) -> None:
    game = "non_saturating" if penalty == "roth" else "hinge"
    module = ComposedGAN(**POINTS, game=game, penalties={penalty: 1.0}, **constraint)
    assert fit(module, 3).global_step == 3


def test_double_precision_trains_and_samples() -> None:
    module = WGANGP(**POINTS, critic_steps=1)
    fit(module, 2, precision="64-true")
    assert module.sample(3).dtype == torch.float64


def test_the_loop_itself_takes_any_networks() -> None:
    class Points(nn.Module):
        def __init__(self, in_features: int, out_features: int) -> None:
            super().__init__()
            self.layer = nn.Linear(in_features, out_features)

        def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
            return self.layer(x).squeeze(1) if self.layer.out_features == 1 else self.layer(x)

    module = AdversarialModule(Points(3, 2), Points(2, 1), NON_SATURATING, latent_dim=3, **two_adams(1e-3, (0.5, 0.9)))
    trainer = fit(module, 4)
    assert trainer.global_step == 4
    assert module.sample(5).shape == (5, 2)


def test_validation_value_is_the_game_on_held_out_data() -> None:
    """Over two batches, on fakes of codes that belong to the examples' positions; the penalty is left out."""
    module = WGANGP(**POINTS)
    trainer = fit(module, 2, limit_val_batches=1.0, val_check_interval=2)
    data = Ring(batch_size=16, train_size=1024, val_size=32, test_size=32)
    data.setup()
    real = torch.cat([batch.x for batch in cast(EvaluationLoader, data.val_dataloader())])
    with torch.no_grad():
        fake = module.decode(fixed_normal(torch.arange(32), 2))
        module.eval()
        expected = module.discriminator(fake).mean() - module.discriminator(real).mean()
    assert abs(expected) > 1e-3
    assert trainer.callback_metrics["val/discriminator_loss"].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler warns of its own doings
@pytest.mark.parametrize("method", [WGANGP, SNGAN])
def test_compiled_networks_train_to_the_same_weights(method: type[WGANGP] | type[SNGAN]) -> None:
    weights = []
    for compile in (False, True):
        torch.manual_seed(0)
        module = method(**POINTS, critic_steps=2, compile=compile)
        fit(module, 4)
        weights.append(module.state_dict())
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-5, msg=name)
