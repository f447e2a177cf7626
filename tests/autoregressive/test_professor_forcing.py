"""Professor forcing: teacher forcing at lambda 0; a discriminator that can only guess where both runs agree."""

import math
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything

from datamodules import MarkovSource
from lightning_modules import ProfessorForcing, TeacherForcing

SETTINGS: dict[str, Any] = {"length": 12, "vocabulary_size": 4, "width": 16, "architecture": "gru", "lr": 1e-2}


def source(**settings: Any) -> MarkovSource:
    return MarkovSource(num_symbols=4, length=12, batch_size=32, val_size=32, test_size=32, **settings)


def fit(module: ProfessorForcing | TeacherForcing, steps: int, data: MarkovSource) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        log_every_n_steps=1,
    )
    trainer.fit(module, data)
    return trainer


def build(**settings: Any) -> ProfessorForcing:
    torch.manual_seed(0)
    return ProfessorForcing(**{**SETTINGS, "discriminator_width": 16, "discriminator_lr": 5e-3, **settings})


def test_lambda_zero_equals_teacher_forcing() -> None:
    seed_everything(0, verbose=False)
    teacher = TeacherForcing(**SETTINGS, decay_steps=8, warmup_steps=2)
    professor = build(adversarial_weight=0.0, decay_steps=8, warmup_steps=2)
    professor.network.load_state_dict(teacher.network.state_dict())
    for module in (teacher, professor):
        fit(module, 6, source(train_size=256))
    for ours, theirs in zip(professor.network.parameters(), teacher.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_free_running_features_are_those_of_reading_what_was_sampled() -> None:
    """The run repeats itself when the steps that it sampled are read at once, and continues from a carried state."""
    module = build()
    x = torch.randint(4, (3, 9))
    carried = (x[:, -1:], module.read(x)[1])
    read = []
    sample = module.network.emission.sample
    module.network.emission.sample = lambda *a, **k: read.append(sample(*a, **k)) or read[-1]  # type: ignore
    free = module.free_running(x, carried)
    sampled = torch.cat(read, 1)
    again, _ = module.read(sampled, carried)
    torch.testing.assert_close(free, again, atol=1e-6, rtol=1e-6)
    assert not torch.equal(sampled, x)


def test_gradients_reach_the_model_through_the_states_and_leave_the_discriminator_alone() -> None:
    module = build(match_teacher=True)
    x, lengths = torch.randint(4, (8, 9)), torch.full((8,), 9)
    taught, free = module.read(x)[0], module.free_running(x)
    with torch.no_grad():
        logits = module.discriminator(free, lengths)
    terms = module.adversarial_losses(taught, free, lengths)
    assert terms["free_running"].item() == pytest.approx(torch.log1p(torch.exp(-logits)).mean().item(), rel=1e-5)
    module.discriminator.requires_grad_(False)
    sum(module.adversarial_losses(taught, free, lengths).values()).backward()  # type: ignore[union-attr]
    core = dict(module.network.core.named_parameters())
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in core.values())
    assert all(parameter.grad is None for parameter in module.discriminator.parameters())


def accuracy_after(module: ProfessorForcing, steps: int, num: int = 2000) -> float:
    """Trains the discriminator alone, and returns its share of right answers on fresh behaviour."""
    data = source(train_size=4096)
    data.setup()
    optimizer = torch.optim.Adam(module.discriminator.parameters(), lr=5e-3)
    softplus = torch.nn.functional.softplus
    for step in range(steps + 1):
        x = data.sampled("train", 64 if step < steps else num, step)
        lengths = torch.full((len(x),), 12)
        with torch.no_grad():
            taught, free = module.read(x)[0], module.free_running(x)
        logits = module.discriminator(taught, lengths), module.discriminator(free, lengths)
        optimizer.zero_grad()
        (softplus(-logits[0]).mean() + softplus(logits[1]).mean()).backward()
        optimizer.step()
    return torch.cat([logits[0] > 0, logits[1] < 0]).float().mean().item()


def test_the_discriminator_can_only_guess_where_the_model_is_the_source_and_not_elsewhere() -> None:
    """Of 4 000 answers 50 % are right, within 5 standard errors of a coin and the model's own imperfection."""
    torch.manual_seed(0)
    module = build(adversarial_weight=0.0, lr=2e-2, decay_steps=250)
    fit(module, 250, source(train_size=8000))
    assert abs(accuracy_after(module, 50) - 0.5) < 5 * math.sqrt(0.25 / 4000) + 0.015
    with torch.no_grad():  # a model of another distribution behaves differently when it runs free
        emission: Any = module.network.emission
        emission.head.bias += torch.tensor([2.0, 0.0, 0.0, -2.0])
    assert accuracy_after(module, 50) > 0.7


@pytest.mark.parametrize(
    ("threshold", "model_learns_from_it", "discriminator_learns"), [(0.0, True, False), (1.0, False, True)]
)
def test_the_discriminators_accuracy_decides_who_learns(
    threshold: float, model_learns_from_it: bool, discriminator_learns: bool
) -> None:
    module = build(generator_accuracy_threshold=threshold, discriminator_accuracy_threshold=threshold)
    before = {name: value.clone() for name, value in module.discriminator.named_parameters()}
    trainer = fit(module, 3, source(train_size=256))
    moved = {name for name, value in module.discriminator.named_parameters() if not torch.equal(value, before[name])}
    assert moved == (set(before) if discriminator_learns else set())
    assert ("train/free_running" in trainer.callback_metrics) == model_learns_from_it
    assert trainer.global_step == 3
    assert 0 <= trainer.callback_metrics["train/discriminator_accuracy"] <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adversarial_weight": -1.0}, r"adversarial_weight=-1\.0"),
        ({"discriminator_width": 0}, "discriminator_width=0"),
        ({"generator_accuracy_threshold": 1.5}, r"generator_accuracy_threshold=1\.5"),
        ({"discriminator_accuracy_threshold": -0.1}, r"discriminator_accuracy_threshold=-0\.1"),
        ({"architecture": "rnn"}, "architecture='rnn'"),
    ],
)
def test_numbers_out_of_range_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**settings)
