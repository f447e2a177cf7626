"""The slots of the adversarial loop with each other: windows of batches, several critic steps, labels, evaluation."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.nn.utils import parametrize

from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.parts.augmentation import DiffAugment
from lightning_modules.parts.constraints import spectrally_normalized
from lightning_modules.parts.critic_schedules import EveryNth
from lightning_modules.parts.games import Game, cross_entropy
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.penalties import WeightedTerm
from tests.adversarial.tiny_loop import BATCH, EXAMPLES, Images, Watch, build, fit

RELATIVISTIC = Game(cross_entropy, lambda real, fake: softplus(real - fake).mean(), relativistic=True)


@pytest.mark.parametrize("every", [1, 2, 3, 4])
@pytest.mark.parametrize(("critic_steps", "accumulated"), [(1, 1), (4, 1), (2, 1), (1, 2), (1, 4), (2, 3)])
def test_a_lazy_penalty_on_the_generator_has_its_weight_on_average(
    critic_steps: int, accumulated: int, every: int
) -> None:
    updates = 4 * every
    seen: list[Tensor] = []

    def constant(generator: Any, z: Tensor, noise: Noise) -> Tensor:
        seen.append(z)
        return 0 * generator(z).sum() + 1

    module = build(
        schedule=EveryNth(critic_steps),
        accumulate_batches=accumulated,
        generator_penalties={"constant": WeightedTerm(0.5, constant, every)},
    )
    fit(module, 0)  # attaches a trainer
    total = 0.0
    for step in range(updates * critic_steps * accumulated):
        if module.generator_updates(step + 1) > module.generator_updates(step):
            for _ in range(critic_steps * accumulated):
                _, terms = module.generator_losses(EXAMPLES[:BATCH], None, step)
                total += sum(value.item() for value in terms.values()) / (critic_steps * accumulated)
    assert total / updates == pytest.approx(0.5)
    assert len(seen) == 4 * critic_steps * accumulated


def test_a_scheduled_weight_that_becomes_negative_is_refused() -> None:
    term = WeightedTerm(lambda step: 1.0 - step, lambda *_: torch.zeros(()))
    assert term.weight_at(1) == 0
    with pytest.raises(ValueError, match="-1.0 after 2"):
        term.weight_at(2)


def test_all_inputs_of_the_discriminator_are_augmented_and_corrupted() -> None:
    """Those of penalties and of both terms of a relativistic generator too."""
    seen: list[Tensor] = []

    def points(critic: Any, real: Tensor, fake: Tensor, noise: Noise) -> Tensor:
        seen.extend([real, fake])
        return 0 * critic(real).sum()

    module = build(
        RELATIVISTIC,
        augment=lambda x, step, noise: x + 100,
        corrupt=lambda x, step, noise: 2 * x,
        penalties={"points": (1.0, points)},
    )
    fit(module, 2)
    inputs = [*module.discriminator.inputs, *seen]
    assert len(inputs) == 2 * (5 + 2)
    assert all(198 <= x.min() <= x.max() <= 202 for x in inputs)


def test_the_generator_makes_its_step_on_all_real_batches_of_a_window() -> None:
    reals: list[Tensor] = []

    class Watched(AdversarialModule):
        def generator_losses(self, real: Tensor, labels: Tensor | None, step: int) -> Any:
            reals.append(real)
            return super().generator_losses(real, labels, step)

    module = build(RELATIVISTIC, accumulate_batches=3)
    module.__class__ = Watched
    fit(module, 6)
    assert len(reals) == 6
    assert len({tuple(real.flatten().tolist()) for real in reals}) == 6


def test_a_penalty_on_the_generator_sees_the_labels_of_the_codes() -> None:
    conditions: list[Tensor | None] = []
    generated: list[Tensor | None] = []

    def penalty(generator: Any, z: Tensor, noise: Noise) -> Tensor:
        conditions.append(generated[-1])
        generator(z)
        conditions.append(generated[-1])
        return torch.zeros(())

    module = build(num_classes=3, generator_penalties={"labels": (1.0, penalty)})
    forward = module.generator.forward
    module.generator.forward = lambda z, condition=None: (generated.append(condition), forward(z))[1]  # type: ignore
    module.trainer = fit(build(), 1).trainer
    module.generator_losses(EXAMPLES[:BATCH], None, 0)
    before, inside = conditions
    assert before is not None
    assert inside is not None
    assert torch.equal(before, inside)


def test_a_stage_begins_with_a_window_of_accumulated_batches() -> None:
    """Gradients of two stages are not added up, and no stage is missed that begins within a window."""
    called: list[tuple[int, int]] = []

    def stage(module: AdversarialModule, step: int) -> bool:
        called.append((module.batches_trained, step))
        return step == 3

    def steps_taken(trainer: Trainer, module: Any) -> float:
        return float(next(iter(trainer.optimizers[1].state.values()), {"step": 0})["step"])

    watch = Watch(steps_taken)
    fit(build(stage=stage, accumulate_batches=2), 6, watch)
    assert called == [(0, 0), (0, 1), (2, 2), (2, 3), (4, 4), (4, 5)]
    assert watch.seen == [0, 1, 0, 1, 1, 2]


def test_a_stage_that_adds_parameters_is_refused() -> None:
    def grow(module: AdversarialModule, step: int) -> bool:
        if step == 1:
            module.discriminator.extra = nn.Linear(1, 1)
        return False

    with pytest.raises(ValueError, match="parameters"):
        fit(build(stage=grow), 3)


def test_an_evaluation_sees_the_stage_of_the_checkpoint(tmp_path: Path) -> None:
    seen: list[int] = []

    def prepare(x: Tensor, step: int) -> Tensor:
        seen.append(step)
        return x

    saved = ModelCheckpoint(tmp_path, filename="stopped", every_n_train_steps=1)
    trained = fit(build(prepare_real=prepare), 5, saved)
    settings: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    for module, ckpt_path in ((build(prepare_real=prepare), str(tmp_path / "stopped.ckpt")), (trained, None)):
        for evaluate in ("validate", "test"):
            seen.clear()
            trainer = Trainer(**settings, callbacks=[saved], enable_model_summary=False)
            getattr(trainer, evaluate)(module, Images(), ckpt_path=ckpt_path, verbose=False)
            assert set(seen) == {5}


def test_spectral_norms_of_both_terms_of_a_relativistic_generator_are_equal() -> None:
    module = build(RELATIVISTIC)
    spectrally_normalized(module.discriminator)
    fit(module, 0)
    used: list[Tensor] = []
    module.discriminator.linear.register_forward_pre_hook(lambda layer, _: used.append(layer.weight))
    for p in module.discriminator.parameters():
        p.requires_grad_(False)
    module.generator_losses(EXAMPLES[:BATCH], None, 0)
    assert parametrize.is_parametrized(module.discriminator.linear)
    assert torch.equal(used[0], used[1])


def test_restored_states_are_moved_to_the_device_of_training(tmp_path: Path) -> None:
    """A checkpoint is read on the CPU, before the module is moved."""
    saved = ModelCheckpoint(tmp_path, filename="stopped", every_n_train_steps=1)
    fit(build(RELATIVISTIC, accumulate_batches=3), 4, saved)
    module = build(RELATIVISTIC, accumulate_batches=3)
    module.on_load_checkpoint(torch.load(tmp_path / "stopped.ckpt", weights_only=True))
    module.to("meta")  # stands for a GPU
    module.on_train_start()
    assert [real.device.type for real, _ in module.real_batches] == ["meta"]
    assert {p.grad.device.type for p in module.discriminator.parameters() if p.grad is not None} == {"meta"}


@pytest.mark.parametrize("flag", ["gradient_clip_val", "accumulate_grad_batches"])
def test_flags_of_training_are_no_matter_in_an_evaluation(flag: str) -> None:
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, **{flag: 2}
    )
    trainer.validate(build(), Images(), verbose=False)


def test_augmentation_of_points_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="images"):
        DiffAugment(["translation"])(torch.zeros(4, 2), 0, Noise())
