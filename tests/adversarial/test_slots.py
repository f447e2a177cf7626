"""The slots of the adversarial loop: each is a function of the batch, and survives a resume."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn.functional import softplus

from datamodules.spec import Batch
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.callbacks import EMA
from lightning_modules.parts.augmentation import DiffAugment
from lightning_modules.parts.games import Game, cross_entropy
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.penalties import WeightedTerm, r1
from lightning_modules.parts.schedules import Interpolation, WarmupAndDecay
from tests.adversarial.tiny_loop import BATCH, EXAMPLES, Watch, build, fit, sgd, weights


def test_real_and_generated_images_are_corrupted_by_noise_that_fades() -> None:
    """Instance noise: the same strength for both, a function of the batch."""
    strength = Interpolation(1.0, 0.0, steps=4)
    added: list[tuple[int, float]] = []

    def corrupt(x: Tensor, step: int, noise: Noise) -> Tensor:
        noisy = x + strength(step) * noise.normal(*x.shape, device=x.device)
        added.append((step, (noisy - x).detach().std().item()))
        return noisy

    module = build(corrupt=corrupt)
    fit(module, 6)
    assert [step for step, _ in added] == [step for step in range(6) for _ in range(3)]  # real, fake; fake again
    for step, deviation in added:
        assert deviation == pytest.approx(max(0.0, 1 - step / 4), rel=0.15, abs=1e-7)
    real, fake, again = module.discriminator.inputs[:3]
    assert real.std() > 1
    assert fake.std() > 1
    assert again.std() > 1


def test_corruption_comes_after_augmentation_and_lets_the_gradient_through() -> None:
    order: list[str] = []

    def named(name: str, factor: float) -> Callable[[Tensor, int, Noise], Tensor]:
        def apply(x: Tensor, step: int, noise: Noise) -> Tensor:
            order.append(name)
            return factor * x

        return apply

    module = build(augment=named("augment", 3.0), corrupt=named("corrupt", 0.0))
    before = weights(module.generator)
    fit(module, 2)
    assert order == ["augment", "corrupt"] * 6
    assert torch.equal(weights(module.generator), before)  # the gradient was multiplied by 0 on its way


def test_the_weight_of_a_penalty_follows_its_schedule() -> None:
    penalties = {"r1": WeightedTerm(Interpolation(4.0, 1.0, steps=3), r1)}
    module = build(penalties=penalties)
    fit(module, 1)  # attaches a trainer
    real = EXAMPLES[:BATCH]
    plain = r1(lambda x: module.discriminator(x), real, real, module.noise)
    for step, weight in enumerate((4.0, 3.0, 2.0, 1.0, 1.0)):
        _, terms = module.discriminator_losses(real, None, step)
        torch.testing.assert_close(terms["r1"], weight * plain)


def test_a_lazy_penalty_is_computed_every_kth_batch_with_k_times_its_weight() -> None:
    calls: list[int] = []

    def penalty(critic: Any, real: Tensor, fake: Tensor, noise: Noise) -> Tensor:
        calls.append(module.batches_trained)
        return r1(critic, real, fake, noise)

    module = build(penalties={"r1": WeightedTerm(2.0, penalty, every=4)})
    fit(module, 9)
    assert calls == [3, 7]
    real = EXAMPLES[:BATCH]
    _, none = module.discriminator_losses(real, None, 4)
    _, due = module.discriminator_losses(real, None, 7)
    assert none == {}
    torch.testing.assert_close(due["r1"], 8 * r1(lambda x: module.discriminator(x), real, real, module.noise))


@pytest.mark.parametrize("term", [WeightedTerm(-1.0, r1), WeightedTerm(1.0, r1, every=0)])
def test_penalties_that_mean_nothing_are_refused(term: WeightedTerm) -> None:
    with pytest.raises(ValueError, match="r1"):
        build(penalties={"r1": term})


def test_a_penalty_on_the_generator_sees_it_and_the_codes() -> None:
    """The Jacobian of a linear generator before tanh is its weight; a large penalty on its size shrinks it."""
    codes: list[tuple[int, ...]] = []

    def size(generator: Callable[[Tensor], Tensor], z: Tensor, noise: Noise) -> Tensor:
        codes.append(tuple(z.shape))
        step = 1e-2 * torch.ones_like(z)
        return (generator(z + step) - generator(z)).square().mean() / 1e-4

    free, penalised = build(), build(generator_penalties={"jacobian": (100.0, size)})
    fit(free, 30)
    fit(penalised, 30)
    assert codes == [(BATCH, 2)] * 30
    norms = [module.generator.linear.weight.norm().item() for module in (free, penalised)]
    assert norms[1] < 0.7 * norms[0]


def test_a_relativistic_generator_compares_each_fake_with_a_real_example() -> None:
    """Jolicoeur-Martineau, 2018: E softplus(-(f(fake) - f(real))). The gradient is that of the formula."""
    game = Game(
        lambda real, fake: softplus(fake - real).mean(),
        lambda real, fake: softplus(real - fake).mean(),
        relativistic=True,
    )
    module = build(game, optimizer=sgd)
    fit(module, 1)
    real = EXAMPLES[:BATCH]
    losses, _ = module.generator_losses(real, None, 1)
    losses["generator"].backward()
    found = torch.cat([p.grad.flatten() for p in module.generator.parameters() if p.grad is not None])
    (fake,) = module.discriminator.inputs[-1:]
    module.generator.zero_grad()

    torch.testing.assert_close(module.discriminator.inputs[-2], real)
    logits = module.discriminator(real).detach(), module.discriminator(fake)
    torch.testing.assert_close(losses["generator"], softplus(logits[0] - logits[1]).mean())
    assert found.abs().max() > 0


def test_both_players_of_a_relativistic_class_conditional_game_see_the_same_classes() -> None:
    game = Game(cross_entropy, lambda real, fake: softplus(real - fake).mean(), relativistic=True)
    module = build(game, num_classes=3)
    fit_labels: list[Tensor] = []
    original = module.generator.forward
    module.generator.forward = lambda z, condition=None: (fit_labels.append(condition), original(z))[1]  # type: ignore
    labels = torch.tensor([2, 0, 1, 1])
    module.trainer = fit(build(), 1).trainer
    module.discriminator_losses(EXAMPLES[:BATCH], labels, 0)
    module.generator_losses(EXAMPLES[:BATCH], labels, 0)
    assert all(torch.equal(seen, labels) for seen in fit_labels)
    assert len(fit_labels) == 2


def test_the_discriminator_sees_the_real_batch_as_it_was_prepared() -> None:
    """A growing network trains on smaller images first; the measure on held-out data sees the same."""

    def smaller(x: Tensor, step: int) -> Tensor:
        return x if step >= 2 else nn.functional.interpolate(nn.functional.avg_pool2d(x, 2), scale_factor=2)

    module = build(prepare_real=smaller)
    fit(module, 3)
    first, third = module.discriminator.inputs[0], module.discriminator.inputs[6]
    assert torch.equal(first[..., ::2, ::2], first[..., 1::2, 1::2])
    assert not torch.equal(third[..., ::2, ::2], third[..., 1::2, 1::2])
    module.discriminator.inputs.clear()
    module.held_out(Batch(EXAMPLES[:BATCH]), torch.arange(BATCH), "val")
    assert torch.equal(module.discriminator.inputs[0], EXAMPLES[:BATCH])


class Growing:
    """Stages of three batches: each sets a weight of the discriminator, and resets the optimizers."""

    def __call__(self, module: AdversarialModule, step: int) -> bool:
        module.discriminator.linear.bias.data.fill_(step // 3)
        return step > 0 and step % 3 == 0


@pytest.mark.parametrize("stopped_after", [2, 3, 4, 6])
def test_a_stage_resets_the_optimizers_and_resumes_exactly(stopped_after: int, tmp_path: Path) -> None:
    def steps_taken(trainer: Trainer, module: Any) -> list[float]:
        return [float(next(iter(optimizer.state.values()))["step"]) for optimizer in trainer.optimizers]

    watch = Watch(steps_taken)
    whole = fit(build(stage=Growing()), 8, watch)
    assert watch.seen == [[n, n] for n in (1, 2, 3, 1, 2, 3, 1, 2)]

    saved = ModelCheckpoint(tmp_path, filename="stopped", every_n_train_steps=1)
    fit(build(stage=Growing()), stopped_after, saved)
    resumed = fit(build(stage=Growing()), 8, saved, ckpt_path=str(tmp_path / "stopped.ckpt"))
    assert torch.equal(weights(resumed), weights(whole))


def test_learning_rates_follow_a_schedule_of_the_batch() -> None:
    watch = Watch(lambda trainer, _: [o.param_groups[0]["lr"] for o in trainer.optimizers])
    fit(build(lr_schedule=WarmupAndDecay(warmup=2, end=6)), 6, watch)
    expected = [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    assert watch.seen == [[pytest.approx(1e-2 * factor)] * 2 for factor in expected]


def test_beta2_follows_a_schedule_of_the_batch() -> None:
    watch = Watch(lambda trainer, _: [o.param_groups[0]["betas"] for o in trainer.optimizers])
    fit(build(beta2=Interpolation(0.9, 0.99, steps=3)), 5, watch)
    for step, seen in enumerate(watch.seen):
        assert seen == [(0.5, pytest.approx(0.9 + 0.03 * min(step, 3)))] * 2
    with pytest.raises(ValueError, match="SGD.*beta2"):
        fit(build(optimizer=sgd, beta2=Interpolation(0.9, 0.99, steps=3)), 1)


def test_the_half_life_of_averages_follows_a_schedule_of_the_batch() -> None:
    half_life = Interpolation(4.0, 40.0, steps=3)
    live = Watch(lambda _, module: weights(module.generator))
    ema = EMA(half_life, rampup=None)
    module = build()
    average = weights(module.generator)
    fit(module, 5, live, ema)
    for step, value in enumerate(live.seen):
        average = average.lerp(value, 1 - 0.5 ** (BATCH / half_life(step)))
    found = torch.cat([value.flatten() for value in ema.averaged_state_dict(module).values()])
    torch.testing.assert_close(found, average)


def test_augmentation_follows_a_schedule_of_the_batch() -> None:
    augment = DiffAugment(["cutout"], Interpolation(0.0, 1.0, steps=1, begin=1))
    module = build(augment=augment)
    fit(module, 4)
    inputs = module.discriminator.inputs
    zeros = [(x == 0).float().mean().item() for x in inputs]
    assert zeros[:6] == [0.0] * 6  # two batches: real, fake, fake again
    assert min(zeros[6:]) > 0.05


def test_the_generator_learns_through_the_augmentation() -> None:
    """All of its gradient comes from augmented images: with everything cut out there is none."""
    for augment, moves in ((DiffAugment(["translation", "cutout"]), True), (lambda x, step, noise: 0 * x, False)):
        module = build(augment=augment, optimizer=sgd)
        before = weights(module.generator)
        fit(module, 1)
        assert (not torch.equal(weights(module.generator), before)) == moves
