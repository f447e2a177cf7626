"""Hyperparameters that are given on resume are used, or refused; the record equals the optimizer's groups."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_modules import METHODS
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.base import ZooModule
from lightning_modules.parts.schedules import WarmupAndDecay
from tests.adversarial import tiny_loop
from tests.standins import quiet_trainer
from tests.training import GLOBAL_BATCH, TinyData, build, data_of

BEFORE, AFTER = 6, 9
CHANGES: dict[str, Any] = {
    "lr": 1e-6,
    "discriminator_lr": 3e-6,
    "betas": [0.1, 0.2],
    "weight_decay": 0.3,
    "momentum": 0.4,
    "decay_steps": 50,
    "warmup_steps": 40,
    "clip_norm": 0.125,
}
"""Hyperparameters of the optimizers, and another value of each."""


def changes_of(method: str) -> dict[str, Any]:
    return {key: value for key, value in CHANGES.items() if key in inspect.signature(METHODS[method]).parameters}


def decaying(method: str, end: int | None) -> dict[str, Any]:
    """Returns hyperparameters of a learning rate that falls to zero at ``end``, as far as the method has them."""
    return {key: value for key, value in {"decay_steps": end, "warmup_steps": 2}.items() if key in changes_of(method)}


def run(module: ZooModule, shape: tuple[int, ...], batches: int, ckpt_path: str | None = None) -> Trainer:
    trainer = quiet_trainer(max_epochs=-1, max_steps=batches, limit_val_batches=0)
    trainer.fit(module, TinyData(shape, GLOBAL_BATCH, **data_of(type(module).__name__)), ckpt_path=ckpt_path)
    return trainer


def settings(trainer: Trainer) -> list[list[dict[str, Any]]]:
    """Returns what the groups of all optimizers hold besides parameters."""
    return [
        [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        for optimizer in trainer.optimizers
    ]


@pytest.mark.parametrize("method", METHODS)
def test_hyperparameters_of_optimizers_are_those_given_on_resume(method: str, caplog: pytest.LogCaptureFixture) -> None:
    run(*build(method, **decaying(method, 20)), BEFORE).save_checkpoint("before.ckpt")
    changes = changes_of(method)
    assert "lr" in changes
    module, shape = build(method, **changes)
    caplog.clear()
    with caplog.at_level("INFO"):
        resumed = run(module, shape, AFTER, ckpt_path="before.ckpt")
    (line,) = [message for message in caplog.messages if "Resumed after" in message]
    assert all(f"{key}={value}" in line for key, value in changes.items())
    fresh = run(*build(method, **changes), AFTER)
    assert settings(resumed) == settings(fresh)
    resumed.save_checkpoint("after.ckpt")
    saved = torch.load("after.ckpt", weights_only=True)
    assert {key: saved["hyper_parameters"][key] for key in changes} == changes
    assert saved["changes"] == [line]


@pytest.mark.parametrize("method", ["WGANGP", "VAE", "PixelCNNPlusPlus"])
def test_the_record_is_right_also_where_nothing_is_left_to_train(method: str) -> None:
    run(*build(method, **decaying(method, 20)), BEFORE).save_checkpoint("before.ckpt")
    resumed = run(*build(method, **decaying(method, 20), lr=1e-6), BEFORE, ckpt_path="before.ckpt")
    resumed.save_checkpoint("after.ckpt")
    saved = torch.load("after.ckpt", weights_only=True)
    assert saved["hyper_parameters"]["lr"] == 1e-6
    assert {group["initial_lr"] for state in saved["optimizer_states"] for group in state["param_groups"]} == {1e-6}


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_said_or_set_where_nothing_changes(method: str, caplog: pytest.LogCaptureFixture) -> None:
    """Another rate, which a user's callback has set, is kept."""

    class Lowering(Callback):
        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            for group in [group for optimizer in trainer.optimizers for group in optimizer.param_groups]:
                group["weight_decay"] = 0.0625

    module, shape = build(method)
    trainer = quiet_trainer([Lowering()], max_epochs=-1, max_steps=2, limit_val_batches=0)
    trainer.fit(module, TinyData(shape, GLOBAL_BATCH, **data_of(method)))
    trainer.save_checkpoint("before.ckpt")
    caplog.clear()
    with caplog.at_level("INFO"):
        resumed = run(*build(method), 3, ckpt_path="before.ckpt")
    assert not any("Resumed after" in message for message in caplog.messages)
    assert {group["weight_decay"] for groups in settings(resumed) for group in groups} == {0.0625}


@pytest.mark.parametrize("method", [name for name in METHODS if "decay_steps" in changes_of(name)])
def test_a_decay_can_be_left_out_or_begun_on_resume(method: str) -> None:
    for first, second in ((20, None), (None, 20)):
        run(*build(method, **decaying(method, first)), BEFORE).save_checkpoint("before.ckpt")
        resumed = run(*build(method, **decaying(method, second)), AFTER, ckpt_path="before.ckpt")
        assert settings(resumed) == settings(run(*build(method, **decaying(method, second)), AFTER))


@pytest.mark.parametrize(
    ("method", "change", "named"),
    [
        ("WGANGP", {"width": 4}, r"width=\d+ \(now 4\)"),
        ("WGANGP", {"latent_dim": 3, "lr": 1e-6}, r"latent_dim=\d+ \(now 3\)"),
        ("MinimaxGAN", {"num_classes": 2}, r"num_classes=None \(now 2\)"),
        ("SNGAN", {"width": 4}, r"width=\d+ \(now 4\)"),
        ("EBM", {"num_particles": 7}, r"num_particles=1000 \(now 7\)"),
        ("RBM", {"num_hidden": 3}, r"num_hidden=500 \(now 3\)"),
        ("GaussianMixture", {"num_components": 3}, r"num_components=10 \(now 3\)"),
        ("Gaussian", {"covariance": "diagonal"}, r"covariance=full \(now diagonal\)"),
        ("TeacherForcing", {"architecture": "gru"}, r"architecture=lstm \(now gru\)"),
        ("ProfessorForcing", {"discriminator_width": 3}, r"discriminator_width=128 \(now 3\)"),
        ("Classifier", {"width": 4}, r"width=\d+ \(now 4\)"),
    ],
)
def test_what_the_weights_do_not_allow_is_refused_with_both_values(
    method: str, change: dict[str, Any], named: str
) -> None:
    run(*build(method), 1).save_checkpoint("before.ckpt")
    module, shape = build(method, **change)
    with pytest.raises(ValueError, match=named):
        run(module, shape, 2, ckpt_path="before.ckpt")


def test_another_method_is_refused() -> None:
    run(*build("WGANGP"), 1).save_checkpoint("before.ckpt")
    with pytest.raises(ValueError, match=r"WGANGP.*MinimaxGAN"):
        run(*build("MinimaxGAN"), 2, ckpt_path="before.ckpt")


def test_settings_that_are_not_of_the_optimizer_are_used_and_said(caplog: pytest.LogCaptureFixture) -> None:
    run(*build("WGANGP", critic_steps=2, penalty_weight=1.0), 2).save_checkpoint("before.ckpt")
    module, shape = build("WGANGP", critic_steps=3, penalty_weight=2.0)
    with caplog.at_level("INFO"):
        run(module, shape, 3, ckpt_path="before.ckpt")
    (line,) = [message for message in caplog.messages if "Resumed after" in message]
    assert "critic_steps=3 (was 2)" in line
    assert "penalty_weight=2.0 (was 1.0)" in line


def test_checkpoints_of_former_versions_are_compared_by_their_hyperparameters() -> None:
    run(*build("VAE", lr=1e-2), 2).save_checkpoint("before.ckpt")
    former = torch.load("before.ckpt", weights_only=True)
    del former["optimizer_settings"], former["method"], former["changes"], former["losses"]
    torch.save(former, "before.ckpt")
    assert settings(run(*build("VAE", lr=1e-2), 3, ckpt_path="before.ckpt"))[0][0]["lr"] == 1e-2
    assert settings(run(*build("VAE", lr=1e-6), 3, ckpt_path="before.ckpt"))[0][0]["lr"] == 1e-6


def own_game(rate: float, betas: tuple[float, float] = (0.5, 0.9), **slots: Any) -> AdversarialModule:
    return tiny_loop.build(optimizer=lambda p: torch.optim.Adam(p, rate, betas=betas), **slots)


def test_a_module_of_ones_own_networks_uses_its_own_optimizers(caplog: pytest.LogCaptureFixture) -> None:
    """It has no hyperparameters to compare, only optimizers."""
    quiet_trainer(max_epochs=-1, max_steps=3).fit(module := own_game(1e-2), tiny_loop.Images())
    module.trainer.save_checkpoint("before.ckpt")
    other = own_game(1e-5, (0.0, 0.5), lr_schedule=WarmupAndDecay(end=100))
    with caplog.at_level("INFO"):
        quiet_trainer(max_epochs=-1, max_steps=5).fit(other, tiny_loop.Images(), ckpt_path="before.ckpt")
    for optimizer in other.trainer.optimizers:
        (group,) = optimizer.param_groups
        assert group["lr"] == pytest.approx(1e-5 * 0.96)
        assert group["betas"] == (0.0, 0.5)
    assert any("Resumed after 3 batches" in message and "lr=1e-05" in message for message in caplog.messages)


def test_optimizers_of_another_kind_are_refused() -> None:
    quiet_trainer(max_epochs=-1, max_steps=3).fit(module := own_game(1e-2), tiny_loop.Images())
    module.trainer.save_checkpoint("before.ckpt")
    with pytest.raises(ValueError, match="Adam.*SGD"):
        quiet_trainer(max_epochs=-1, max_steps=5).fit(
            tiny_loop.build(optimizer=tiny_loop.sgd), tiny_loop.Images(), ckpt_path="before.ckpt"
        )


def test_hyperparameters_given_to_load_from_checkpoint_are_not_compared(tmp_path: Path) -> None:
    run(*build("VAE"), 1).save_checkpoint(tmp_path / "a.ckpt")
    assert METHODS["VAE"].load_from_checkpoint(tmp_path / "a.ckpt", lr=0.5).hparams["lr"] == 0.5


# The classifier's schedule extends over the whole run


def classifier_run(steps: int, ckpt_path: str | None = None, **limits: Any) -> Trainer:
    module, shape = build("Classifier")
    limits = limits or {"max_epochs": -1, "max_steps": steps}
    trainer = quiet_trainer(limit_val_batches=0, **limits)
    trainer.fit(module, TinyData(shape, GLOBAL_BATCH), ckpt_path=ckpt_path)
    return trainer


@pytest.mark.parametrize("limits", [{}, {"max_epochs": 3}], ids=["steps", "epochs"])
def test_a_classifier_is_trained_longer_by_resuming(limits: dict[str, Any]) -> None:
    classifier_run(5).save_checkpoint("before.ckpt")
    resumed = classifier_run(15, "before.ckpt", **limits)
    assert resumed.global_step == 15
    assert settings(resumed) == settings(classifier_run(15))
    assert settings(resumed)[0][0]["lr"] < 4e-4
