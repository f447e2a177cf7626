"""The two-player loop: who moves when, what is counted, what stops it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from datamodules import Ring, SyntheticImages
from lightning_modules import SNGAN, WGAN, WGANGP, ComposedGAN, MinimaxGAN, NonSaturatingGAN
from lightning_modules.adversarial.build import adam
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.base import NonFiniteLoss
from lightning_modules.parts.games import NON_SATURATING, Game
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.penalties import PENALTIES

POINTS: dict[str, Any] = {"shape": [2], "architecture": "mlp", "latent_dim": 2, "width": 2}


def fit(module: AdversarialModule, batches: int, **settings: Any) -> Trainer:
    data = settings.pop("data", None) or Ring(batch_size=16, train_size=1024, val_size=32, test_size=32)
    defaults: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "limit_val_batches": 0,
    }
    trainer = Trainer(
        accelerator="cpu",
        max_steps=batches,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{**defaults, **settings},
    )
    trainer.fit(module, data, val_dataloaders=data if isinstance(data, DataLoader) else None)
    return trainer


class Counted(Noise):
    """Counts the draws of codes, of which the critic's and the generator's steps make one each."""

    def __init__(self) -> None:
        self.draws = 0

    def normal(self, *shape: int, device: torch.device) -> Tensor:
        self.draws += 1
        return super().normal(*shape, device=device)


@pytest.mark.parametrize(("critic_steps", "batches"), [(1, 7), (3, 7), (5, 20)])
def test_global_step_counts_batches_and_the_generator_moves_every_nth(critic_steps: int, batches: int) -> None:
    module = WGANGP(**POINTS, critic_steps=critic_steps)
    module.noise = noise = Counted()
    trainer = fit(module, batches)
    assert trainer.global_step == batches
    assert noise.draws == batches + batches // critic_steps


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
    generator, discriminator = module.configure_optimizers()  # type: ignore[misc]
    assert generator.param_groups[0]["lr"] == 1e-3
    assert discriminator.param_groups[0]["lr"] == 4e-3
    assert {id(p) for p in generator.param_groups[0]["params"]} == {id(p) for p in module.generator.parameters()}


def test_one_step_equals_the_algorithm_written_out() -> None:
    """An independent critic step and generator step with the same noise give the same weights, bit for bit."""
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


def test_nan_in_the_loss_stops_with_step_term_and_weights_of_before() -> None:
    module = NonSaturatingGAN(**POINTS)
    forward, calls = module.discriminator.forward, []

    def broken(x: Tensor, labels: Tensor | None = None) -> Tensor:
        calls.append(1)
        return forward(x, labels) * (float("nan") if len(calls) > 7 else 1.0)  # 3 calls a batch: third batch

    module.discriminator.forward = broken  # type: ignore[method-assign]
    with pytest.raises(NonFiniteLoss, match=r"batch 2: discriminator=nan.*no checkpoint was written yet"):
        fit(module, 5)
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_non_finite_stop_names_the_last_checkpoint(tmp_path: Path) -> None:
    module = WGANGP(**POINTS, lr=1e30)
    checkpoints = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    with pytest.raises(NonFiniteLoss, match=r"last checkpoint is .*step=\d+\.ckpt"):
        fit(module, 50, enable_checkpointing=True, callbacks=[checkpoints])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.full((8, 1, 28, 28), float("nan")), "NaN"),
        (torch.full((8, 1, 28, 28), 255.0), r"\[-1, 1\].*255"),
        (torch.zeros(8, 3, 28, 28), r"shape=\[1, 28, 28\].*\[3, 28, 28\]"),
    ],
)
def test_bad_batches_are_named_before_the_first_step(x: Tensor, message: str) -> None:
    module = MinimaxGAN(width=2, latent_dim=4)
    before = [p.clone() for p in module.parameters()]
    with pytest.raises(ValueError, match=message):
        fit(module, 1, data=DataLoader(TensorDataset(x, torch.zeros(8, dtype=torch.long)), 8))
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_data_that_do_not_fit_name_both_sides() -> None:
    images = SyntheticImages(shape=[1, 28, 28], size=64, batch_size=8)
    with pytest.raises(ValueError, match=r"shape=\[3, 32, 32\].*\[1, 28, 28\]"):
        fit(MinimaxGAN(shape=[3, 32, 32], width=2), 1, data=images)
    with pytest.raises(ValueError, match="num_classes=7"):
        fit(MinimaxGAN(width=2, num_classes=7), 1, data=images)
    binary = SyntheticImages(shape=[1, 28, 28], size=64, batch_size=8, binarize=True)
    with pytest.raises(ValueError, match=r"models pictures in \[-1, 1\].*without binarize"):
        fit(MinimaxGAN(width=2), 1, data=binary)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"critic_steps": 0}, "critic_steps=0"),
        ({"latent_dim": 0}, "latent_dim=0"),
        ({"width": -1}, "width=-1"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"betas": [0.5]}, "betas"),
        ({"num_classes": 1}, "num_classes=1"),
        ({"num_classes": -1}, "num_classes=-1"),
        ({"architecture": "vit"}, "mlp, dcgan, resnet"),
        ({"shape": [2]}, "needs pictures"),
        ({"decay_steps": -5}, "decay_steps=-5"),
    ],
)
def test_bad_hyperparameters_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WGANGP(**{"width": 2, **arguments})


def test_penalty_refuses_batch_norm() -> None:
    with pytest.raises(ValueError, match="batch_norm=false"):
        ComposedGAN(width=2, penalties={"r1": 1.0}, batch_norm=True)


def test_penalties_refuse_half_precision_with_scaling() -> None:
    module = WGANGP(**POINTS)
    module.trainer = trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.precision_plugin.precision = "16-mixed"  # on a CPU the trainer itself would turn it into bf16
    with pytest.raises(ValueError, match="bf16-mixed"):
        module.on_fit_start()


def test_penalty_is_computed_and_differentiated_in_full_precision() -> None:
    """With no game and fixed fakes the critic's step is the penalty's alone: bf16-mixed must not change a bit of it."""
    weights = []
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(0)
        module = WGANGP(**POINTS, critic_steps=2, penalty_weight=3.0)
        module.game = Game(lambda real, fake: 0 * (real.sum() + fake.sum()), module.game.generator)
        fixed = torch.randn(16, 2)
        module.generator.forward = lambda z, labels=None, fixed=fixed: fixed  # type: ignore[method-assign, misc]
        fit(module, 1, precision=precision)
        weights.append(module.discriminator.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("constraint", [{}, {"spectral_norm": True}, {"clip": 0.1}])
def test_penalties_train_with_every_constraint(penalty: str, constraint: dict[str, Any]) -> None:
    module = ComposedGAN(**POINTS, game="hinge", penalties={penalty: 1.0}, **constraint)
    assert fit(module, 3).global_step == 3


def test_finite_loss_with_a_gradient_that_is_not_stops_before_the_step() -> None:
    module = NonSaturatingGAN(**POINTS)
    before = [p.clone() for p in module.discriminator.parameters()]
    module.discriminator.head.linear.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(NonFiniteLoss, match=r"batch 0: discriminator=[\d.]+, gradient_norm=nan"):
        fit(module, 2)
    assert all(torch.equal(a, b) for a, b in zip(before, module.discriminator.parameters(), strict=True))


def test_nan_of_the_generator_is_told_with_its_batch() -> None:
    module = NonSaturatingGAN(**POINTS)
    module.game = Game(module.game.discriminator, lambda fake: fake.sum() * float("inf"))
    with pytest.raises(NonFiniteLoss, match=r"batch 0: generator=-?(inf|nan)"):
        fit(module, 2)


def test_going_on_after_the_learning_rate_has_vanished_is_refused() -> None:
    with pytest.raises(ValueError, match="max_steps=9 goes beyond decay_steps=8"):
        fit(NonSaturatingGAN(**POINTS, decay_steps=8), 9)


@pytest.mark.parametrize("labels", [torch.full((16,), 3), torch.full((16,), -1), torch.zeros(16)])
def test_labels_that_do_not_fit_are_named_before_the_first_step(labels: Tensor) -> None:
    data = DataLoader(TensorDataset(torch.zeros(16, 2), labels), 16)
    with pytest.raises(ValueError, match="num_classes=3"):
        fit(NonSaturatingGAN(**POINTS, num_classes=3), 1, data=data)


def test_codes_and_labels_must_pair_up() -> None:
    module = NonSaturatingGAN(**POINTS, num_classes=3)
    with pytest.raises(ValueError, match=r"needs labels: integers of shape \(4,\)"):
        module.decode(torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"shape \(600,\)"):
        module.decode(torch.zeros(600, 2), labels=torch.zeros(500, dtype=torch.long))
    with pytest.raises(ValueError, match="unconditional"):
        NonSaturatingGAN(**POINTS).decode(torch.zeros(4, 2), labels=torch.zeros(4, dtype=torch.long))


def test_double_precision_trains_and_samples() -> None:
    module = WGANGP(**POINTS, critic_steps=1)
    fit(module, 2, precision="64-true")
    assert module.sample(3).dtype == torch.float64


def test_the_loop_itself_takes_any_networks() -> None:
    class Points(nn.Module):
        def __init__(self, in_features: int, out_features: int) -> None:
            super().__init__()
            self.layer = nn.Linear(in_features, out_features)

        def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
            return self.layer(x).squeeze(1) if self.layer.out_features == 1 else self.layer(x)

    module = AdversarialModule(Points(3, 2), Points(2, 1), NON_SATURATING, latent_dim=3, **adam(1e-3, (0.5, 0.9)))
    trainer = fit(module, 4)
    assert trainer.global_step == 4
    assert module.sample(5).shape == (5, 2)


def test_samples_are_a_function_of_the_generator_and_leave_the_world_alone() -> None:
    module = NonSaturatingGAN(width=2, latent_dim=4, num_classes=3)
    module.train()
    state, weights = torch.get_rng_state(), {k: v.clone() for k, v in module.state_dict().items()}
    first, second = (module.sample(7, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(module.sample(7), module.sample(7))
    assert torch.equal(torch.get_rng_state(), state)
    assert module.training
    assert all(torch.equal(value, weights[key]) for key, value in module.state_dict().items())
    assert not first.requires_grad


def test_large_requests_are_chunked_without_a_trace() -> None:
    module = NonSaturatingGAN(width=2, latent_dim=4, num_classes=3).eval()
    z, labels = torch.randn(1201, 4), torch.arange(1201) % 3
    with torch.no_grad():
        whole = module.generator(z, labels)
    torch.testing.assert_close(module.decode(z, labels=labels), whole, rtol=1e-4, atol=1e-5)


def test_unlabelled_requests_follow_the_class_counts_of_the_data() -> None:
    data = SyntheticImages(shape=[1, 28, 28], size=64, batch_size=8, num_classes=4)
    module = NonSaturatingGAN.for_data(data.spec, num_classes=4, width=2, latent_dim=4)
    fit(module, 1, data=data)
    counts = torch.tensor(data.spec.class_counts, dtype=torch.float32)
    torch.testing.assert_close(module.class_probabilities, counts / counts.sum())


def test_validation_value_is_the_game_on_held_out_data() -> None:
    module = WGAN(**POINTS)
    trainer = fit(module, 2, limit_val_batches=1, val_check_interval=2)
    data = Ring(batch_size=16, train_size=1024, val_size=32, test_size=32)
    data.setup()
    real = next(iter(data.val_dataloader()))[0]
    with torch.no_grad():
        fake = module.sample(16, generator=torch.Generator().manual_seed(0))
        module.eval()
        expected = module.discriminator(fake).mean() - module.discriminator(real).mean()
    assert trainer.callback_metrics["val/discriminator_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler warns of its own doings
@pytest.mark.parametrize("method", [WGANGP, SNGAN])
def test_compiled_networks_train_to_the_same_weights(method: type[AdversarialModule]) -> None:
    data = {"data": Ring(batch_size=16, train_size=1024, val_size=32, test_size=32)}
    weights = []
    for compile in (False, True):
        torch.manual_seed(0)
        module = method(**POINTS, critic_steps=2, compile=compile)
        fit(module, 4, **data)
        weights.append(module.state_dict())
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-5, msg=name)
