"""Growth during training: its schedule, exact resume in the middle of a fade, and runs that are too short."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional as F

import zoo
from datamodules import Batch
from lightning_modules import ProgressiveGAN
from lightning_modules.adversarial.progressive import with_drift
from lightning_modules.networks.growing import Grown
from lightning_modules.parts.games import GAMES, cross_entropy, non_saturating
from tests.standins import quiet_trainer
from tests.test_resume import differences, states
from tests.training import TinyData
from tests.training import train as train_tiny

pytestmark = [
    pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint:UserWarning"),
]

SHAPE = (1, 16, 16)  # 4, 8 and 16 pixels: two stages that train, two fades, and the rest
SMALL: dict[str, Any] = {"latent_dim": 4, "width": 2}


class Stages(Callback):
    """Notes in each batch the stage, and how many steps the optimizers have made since they began afresh."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []
        self.steps: list[int] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        networks = [pl_module.generator, pl_module.discriminator]
        (stage,) = {(network.present, round(network.alpha.item(), 3)) for network in networks}  # type: ignore[union-attr,operator]
        self.seen.append(stage)
        counted = [state["step"] for optimizer in trainer.optimizers for state in optimizer.state.values()]
        self.steps.append(int(max(counted, default=0)))


def train(steps: int, *callbacks: Callback, **settings: Any) -> tuple[Trainer, Any]:
    given = {key: settings.pop(key) for key in ("folder", "ckpt_path") if key in settings}
    overrides = {**SMALL, **settings}
    trainer, module, _ = train_tiny(
        "ProgressiveGAN", steps, shape=SHAPE, overrides=overrides, callbacks=callbacks, **given
    )
    return trainer, module


def test_networks_grow_as_planned_and_optimizers_begin_afresh_at_each_level() -> None:
    stages = Stages()
    train(11, stages, growth_steps=8)
    alphas = [1 / 3, 2 / 3]
    assert stages.seen == [
        (0, 1), (0, 1), *((1, round(alpha, 3)) for alpha in alphas), (1, 1), (1, 1),
        *((2, round(alpha, 3)) for alpha in alphas), (2, 1), (2, 1), (2, 1),
    ]  # fmt: skip
    # Level 0 in batches 0 and 1, level 1 in 2 to 5, level 2 from 6 on.
    assert stages.steps == [1, 2, 1, 2, 3, 4, 1, 2, 3, 4, 5]


def test_growth_is_half_of_the_run_unless_it_is_given() -> None:
    trainer, module = train(11)
    assert module.growth.steps == 5
    assert trainer.global_step == 11
    assert train(10, growth_steps=0)[1].growth.steps == 0


def test_accumulated_batches_have_one_stage() -> None:
    stages = Stages()
    train(10, stages, growth_steps=8, accumulate_batches=2)
    assert all(stages.seen[i] == stages.seen[i + 1] for i in range(0, 10, 2))
    assert [level for level, _ in stages.seen] == [0, 0, 1, 1, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize(("growth_steps", "stop"), [(12, 3), (12, 4), (12, 9), (None, 2), (None, 6)])
def test_a_run_that_is_resumed_while_it_grows_equals_the_uninterrupted_one(growth_steps: int | None, stop: int) -> None:
    """A level is in the middle of its fade, or has just begun."""
    train(14, folder="whole", growth_steps=growth_steps)
    train(14, folder="rest", ckpt_path=f"whole/step={stop}.ckpt", growth_steps=growth_steps)
    assert differences(states("whole/last.ckpt"), states("rest/last.ckpt")) == []


def test_a_longer_run_that_is_resumed_grows_as_it_began() -> None:
    train(10, folder="whole")
    _, module = train(20, ckpt_path="whole/step=4.ckpt")
    assert module.growth.steps == 5
    _, module = train(20, ckpt_path="whole/step=4.ckpt", growth_steps=15)
    assert module.growth.steps == 15


def test_a_schedule_that_is_longer_than_the_run_is_refused_before_the_first_step() -> None:
    for steps in (8, 9):
        with pytest.raises(ValueError, match=rf"growth_steps={steps}, but the run is planned for 8 batches"):
            train(8, growth_steps=steps)
    train(10, folder="run")
    with pytest.raises(ValueError, match="growth_steps=5, but the run is planned for 5 batches"):
        train(5, ckpt_path="run/step=4.ckpt")
    with pytest.raises(ValueError, match="growth_steps=30, but the run is planned for 12 batches"):
        train(12, ckpt_path="run/step=4.ckpt", growth_steps=30)


def test_trying_a_run_out_does_not_ask_for_its_length() -> None:
    trainer = Trainer(accelerator="cpu", fast_dev_run=True, enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(ProgressiveGAN(SHAPE, **SMALL, growth_steps=8), TinyData(SHAPE))
    assert trainer.global_step == 1


def test_a_run_of_unknown_length_needs_a_schedule() -> None:
    trainer = Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match="growth_steps=null.*max_steps"):
        trainer.fit(ProgressiveGAN(SHAPE, **SMALL), TinyData(SHAPE))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"growth_steps": -1}, "growth_steps=-1"),
        ({"num_resolutions": 4}, r"num_resolutions=4 .*shape=\[1, 28, 28\]"),
        ({"shape": (2,)}, r"shape=\[2\] must be \(channels, height, width\)"),
        ({"shape": (1, 28, 32)}, r"shape=\[1, 28, 32\]"),
        ({"drift_weight": -0.5}, r"drift_weight=-0\.5"),
        ({"penalty_weight": float("nan")}, "penalty_weight=nan"),
        ({"width": 0}, "width=0"),
        ({"game": "hinge"}, "game='hinge' is not one of wasserstein, non_saturating"),
        ({"penalty": "roth"}, "penalty='roth' is not one of gradient_penalty, r1"),
        ({"lazy_every": 0}, "lazy_every=0"),
        ({"lazy_every": 4, "penalty_weight": 0.0}, "lazy_every=4 has no effect without penalty_weight"),
        ({"penalty": "r1", "penalty_weight": 0.0}, "penalty=r1 has no effect without penalty_weight"),
        ({"penalty_weight": -1.0}, r"penalty_weight=-1\.0 .* at least 0"),
        ({"augment_probability": 0.5}, "augment_probability=0.5 has no effect without augment"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProgressiveGAN(**settings)


def test_a_checkpoint_of_a_growing_run_samples_at_its_resolution(tmp_path: Path) -> None:
    """Also one that the zoo has saved: the stage is part of the weights, and of their averages."""
    _, module = train(6, folder="run", growth_steps=5)
    assert module.generator.present == 2
    early = ProgressiveGAN.load_from_checkpoint("run/step=2.ckpt", weights_only=True)
    averaged = ProgressiveGAN.load_from_checkpoint("run/step=2.ckpt", weights_only=True, averaged=True)
    zoo.save(early, tmp_path / "early", samples=False)
    for other in (early, averaged, zoo.load(str(tmp_path / "early"))):
        network: Any = other.generator
        assert isinstance(network, Grown)
        assert (network.present, network.fading) == (1, True)
        x: Tensor = other.sample(4, generator=torch.Generator().manual_seed(0))  # type: ignore[operator]
        assert torch.equal(x, F.avg_pool2d(x, 2).repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_the_game_is_wasserstein_with_a_drift_that_keeps_values_near_zero() -> None:
    real = torch.tensor([1.0, 3.0], requires_grad=True)
    fake = torch.tensor([-1.0, 0.0])
    loss = with_drift(real, fake, GAMES["wasserstein"], 0.5)
    assert loss.item() == -0.5 - 2 + 0.5 * 5
    loss.backward()
    torch.testing.assert_close(real.grad, torch.tensor([-0.5 + 0.5 * 1, -0.5 + 0.5 * 3]))
    module = ProgressiveGAN(**SMALL)
    assert module.game.discriminator(real, fake).item() == pytest.approx(-2.5 + 0.001 * 5)


def test_the_other_game_is_the_non_saturating_one_with_r1() -> None:
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([-1.0, 0.0])
    module = ProgressiveGAN(
        SHAPE, **SMALL, game="non_saturating", penalty="r1", penalty_weight=0.2, lazy_every=4, drift_weight=0.0
    )
    assert module.game.discriminator(real, fake) == cross_entropy(real, fake)
    assert module.game.generator(fake) == non_saturating(fake)
    assert {name: (term.weight, term.every) for name, term in module.penalties.items()} == {"r1": (0.2, 4)}
    images = torch.rand(4, *SHAPE)
    assert ["r1" in module.discriminator_losses(images, None, step)[1] for step in range(4)] == [False] * 3 + [True]


def test_discriminators_see_augmented_images_of_the_present_resolution() -> None:
    module = ProgressiveGAN(SHAPE, **SMALL, augment=["translation"])
    for network in (module.generator, module.discriminator):
        network.set_stage(0, 1.0)
    given: list[Tensor] = []
    module.discriminator.register_forward_pre_hook(lambda network, inputs: given.append(inputs[0]))
    real, _ = module.real_examples(Batch(torch.rand(4, *SHAPE)), 0)
    blocks = F.avg_pool2d(real, 4)
    torch.testing.assert_close(blocks.repeat_interleave(4, 2).repeat_interleave(4, 3), real)
    module.discriminator_losses(real, None, 0)
    assert not torch.equal(given[0], real)
    inside = set(given[0].unique().tolist()) - {-1.0}  # what is shifted in from outside
    assert inside <= set(real.unique().tolist())


def test_the_penalty_is_on_gradients_by_images_at_every_stage() -> None:
    """At alpha = 0 the penalty is that of the smaller network, whatever the new layers are."""
    torch.manual_seed(0)
    module = ProgressiveGAN(SHAPE, **SMALL)
    module.discriminator.eval()
    real, fake = torch.rand(2, 4, *SHAPE)
    term, weight = module.penalties["gradient_penalty"].term, module.penalties["gradient_penalty"].weight
    assert weight == 10

    def penalty() -> Tensor:
        torch.manual_seed(1)
        return term(lambda x: module.discriminator(x, None), real, fake, module.noise)

    module.discriminator.set_stage(1, 1.0)
    below = penalty()
    module.discriminator.set_stage(2, 0.0)
    torch.testing.assert_close(penalty(), below)
    module.discriminator.set_stage(2, 0.5)
    assert not torch.allclose(penalty(), below)


def test_messages_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="growth_steps") as error:
        train(3, growth_steps=5)
    assert len(re.findall(r"\.(\s|$)", str(error.value))) == 1


def test_networks_that_have_grown_do_not_grow_again(tmp_path: Path) -> None:
    _, module = train(6, growth_steps=4)
    zoo.save(module, tmp_path / "grown", samples=False)
    loaded, resumed = zoo.load(str(tmp_path / "grown")), ProgressiveGAN(SHAPE, growth_steps=4, **SMALL)
    for steps, model, begin in ((3, loaded, None), (5, resumed, tmp_path / "again.ckpt")):
        stages = Stages()
        trainer = quiet_trainer(max_epochs=-1, max_steps=steps, limit_val_batches=0, callbacks=[stages])
        trainer.fit(model.train(), TinyData(SHAPE), ckpt_path=begin, weights_only=True)
        assert set(stages.seen) == {(2, 1.0)}
        trainer.save_checkpoint(tmp_path / "again.ckpt")


def test_a_run_that_time_ends_before_the_networks_have_grown_warns() -> None:
    module = ProgressiveGAN(SHAPE, growth_steps=10_000, **SMALL)
    trainer = quiet_trainer(max_epochs=-1, max_steps=-1, max_time={"seconds": 1}, limit_val_batches=0)
    with pytest.warns(UserWarning, match="growth_steps=10000 batches had not ended when the run did"):
        trainer.fit(module, TinyData(SHAPE))


def test_growth_of_a_single_resolution_is_refused() -> None:
    with pytest.raises(ValueError, match="growth_steps=100 has no effect with a single resolution"):
        ProgressiveGAN(SHAPE, num_resolutions=1, growth_steps=100, **SMALL)
