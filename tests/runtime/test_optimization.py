"""The steps of every method, with one optimizer or several: bounded gradients, and no step that is not finite."""

import inspect
import re
from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor, nn

from datamodules.spec import Batch
from lightning_modules import FAMILIES, METHODS
from lightning_modules.autoregressive.professor_forcing import ProfessorForcing
from lightning_modules.base import ZooModule
from lightning_modules.runtime.optimization import NonFiniteLoss
from tests.training import GLOBAL_BATCH, TinyData, build, data_of

BATCHES = 2
MANUAL = [method.__name__ for method in (*FAMILIES["adversarial"], ProfessorForcing)]
AUTOMATIC = [name for name in METHODS if name not in MANUAL]
WITH_OWN_CLIPPING = [name for name, method in METHODS.items() if "clip_norm" in inspect.signature(method).parameters]
REAL_VALUED = [name for name in METHODS if data_of(name)["sequences"] != "tokens"]
NATURAL = {"Gaussian", "Bernoulli", "Categorical", "GaussianMixture"}
"""Methods that turn a gradient into a natural one before the step; they have no ``clip_norm``."""
NOT_CLIPPED = {("ProfessorForcing", 1)}
"""Optimizers, by method and position, that ``clip_norm`` does not apply to: that of the discriminator."""


def seeded(method: str) -> tuple[ZooModule, TinyData]:
    """Builds the same module, and data for it; a game's players both move in every batch."""
    seed_everything(7, verbose=False)
    every_batch: dict[str, Any] = (
        {"critic_steps": 1} if "critic_steps" in inspect.signature(METHODS[method]).parameters else {}
    )
    module, shape = build(method, **every_batch)
    assert module.automatic_optimization == (method in AUTOMATIC)
    return module, TinyData(shape, GLOBAL_BATCH, **data_of(method))


def fit(module: ZooModule, data: TinyData, *callbacks: Callback, **settings: Any) -> None:
    Trainer(
        accelerator="cpu",
        max_steps=BATCHES,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        **settings,
    ).fit(module, data)


class StepGradients(Callback):
    """Keeps the gradients of every step, with the position of its optimizer, and takes the step back.

    So two runs have the same gradients before clipping.
    """

    def __init__(self) -> None:
        self.steps: list[tuple[int, list[Tensor]]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for position, optimizer in enumerate(trainer.optimizers):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            optimizer.register_step_post_hook(
                partial(self.stepped, position, [(p, p.detach().clone()) for p in parameters])
            )

    @torch.no_grad()
    def stepped(self, position: int, before: list[tuple[nn.Parameter, Tensor]], *_: Any) -> None:
        self.steps.append((position, [p.grad.clone() for p, _ in before if p.grad is not None]))
        for p, value in before:
            p.copy_(value)


def steps_of(method: str, clip_norm: float | None, **settings: Any) -> list[tuple[int, list[Tensor]]]:
    """Returns the gradients that steps are made with, and the positions of their optimizers."""
    module, data = seeded(method)
    module.clip_norm = clip_norm
    recorded = StepGradients()
    fit(module, data, recorded, **settings)
    return recorded.steps


def clipped_by_hand(gradients: list[Tensor], clip_norm: float) -> list[Tensor]:
    parameters = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def norm_of(gradients: list[Tensor]) -> float:
    return torch.nn.utils.get_total_norm(gradients).item()


@pytest.mark.parametrize("method", [method for method in METHODS if method not in NATURAL])
def test_gradients_are_clipped_as_torch_clips_them(method: str) -> None:
    free = steps_of(method, None)
    assert len({at for at, _ in free}) == (1 if method in AUTOMATIC else 2)
    norms = [norm_of(gradients) for _, gradients in free]
    for clip_norm in (0.5 * min(norms), 2.0 * max(norms)):
        clipped = steps_of(method, clip_norm)
        assert [at for at, _ in clipped] == [at for at, _ in free]
        for (at, found), (_, raw) in zip(clipped, free, strict=True):
            expected = raw if (method, at) in NOT_CLIPPED else clipped_by_hand(raw, clip_norm)
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("method", AUTOMATIC)
def test_the_trainers_own_clipping_takes_the_place_of_a_methods(method: str) -> None:
    free = steps_of(method, None)
    bound = 0.5 * min(norm_of(gradients) for _, gradients in free)
    clipped = steps_of(method, 0.1 * bound, gradient_clip_val=bound)
    for (_, found), (_, raw) in zip(clipped, free, strict=True):
        torch.testing.assert_close(found, clipped_by_hand(raw, bound), rtol=1e-6, atol=0)


@pytest.mark.parametrize("method", AUTOMATIC)
def test_the_trainer_clips_by_value_where_it_is_told_to(method: str) -> None:
    free = steps_of(method, None)
    bound = 0.5 * max(gradient.abs().max().item() for _, gradients in free for gradient in gradients)
    clipped = steps_of(method, 1e-3 * bound, gradient_clip_val=bound, gradient_clip_algorithm="value")
    for (_, found), (_, raw) in zip(clipped, free, strict=True):
        torch.testing.assert_close(found, [gradient.clamp(-bound, bound) for gradient in raw], rtol=1e-6, atol=0)


@pytest.mark.parametrize("algorithm", ["norm", "value"])
@pytest.mark.parametrize("method", ["PixelCNNPlusPlus", "VAE"])
def test_the_trainer_clips_fused_optimizers_under_mixed_precision(method: str, algorithm: str) -> None:
    free = steps_of(method, None, precision="bf16-mixed")
    bound = 0.25 * max(gradient.abs().max().item() for _, gradients in free for gradient in gradients)
    flags: dict[str, Any] = {"gradient_clip_val": bound, "gradient_clip_algorithm": algorithm}
    for (_, found), (_, raw) in zip(steps_of(method, None, precision="bf16-mixed", **flags), free, strict=True):
        expected = [g.clamp(-bound, bound) for g in raw] if algorithm == "value" else clipped_by_hand(raw, bound)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("method", ["PixelCNNPlusPlus", "Gaussian", "WGANGP"])
def test_an_algorithm_of_clipping_without_a_bound_is_refused(method: str) -> None:
    module, data = seeded(method)
    with pytest.raises(ValueError, match="gradient_clip_algorithm='value'.*gradient_clip_val"):
        fit(module, data, gradient_clip_algorithm="value")


@pytest.mark.parametrize("method", MANUAL)
@pytest.mark.parametrize(("flag", "value"), [("gradient_clip_val", 0.5), ("accumulate_grad_batches", 2)])
def test_flags_of_the_trainer_are_refused_by_methods_with_several_optimizers(
    method: str, flag: str, value: float
) -> None:
    module, data = seeded(method)
    own = {"gradient_clip_val": "clip_norm", "accumulate_grad_batches": "accumulate_batches"}[flag]
    named = f"{own}={value}" if own in module.hparams else method
    with pytest.raises(ValueError, match=rf"{flag}={value}.*{named}"):
        fit(module, data, **{flag: value})


@pytest.mark.parametrize("method", WITH_OWN_CLIPPING)
def test_clip_norm_is_a_hyperparameter(method: str) -> None:
    assert method not in NATURAL
    module, _ = build(method, clip_norm=0.25)
    assert module.clip_norm == module.hparams["clip_norm"] == 0.25
    for bad in (0.0, -1.0):
        with pytest.raises(ValueError, match=f"clip_norm={bad}"):
            METHODS[method](**{**module.hparams, "clip_norm": bad})


class Snapshot(Callback):
    """Keeps the weights as they are before the second batch."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, index: int) -> None:
        if trainer.global_step == 1:
            self.weights = {name: p.detach().clone() for name, p in pl_module.named_parameters()}
            self.spoil(trainer, batch)

    def spoil(self, trainer: Trainer, batch: Batch) -> None:
        """Makes what follows not finite."""
        raise NotImplementedError


class SpoiledGradient(Snapshot):
    """Makes the gradient of one parameter infinite, of the network that moves first."""

    def spoil(self, trainer: Trainer, batch: Batch) -> None:
        parameter = trainer.optimizers[-1].param_groups[0]["params"][0]
        parameter.register_hook(lambda gradient: gradient + float("inf"))


class SpoiledData(Snapshot):
    """Puts a NaN into an example."""

    def spoil(self, trainer: Trainer, batch: Batch) -> None:
        batch.x[0] = float("nan")


@pytest.mark.parametrize(
    ("method", "spoiled", "named"),
    [
        *((method, SpoiledGradient, "gradient_norm=inf") for method in METHODS),
        *((method, SpoiledData, "nan") for method in REAL_VALUED),
    ],
)
def test_training_stops_before_a_step_that_is_not_finite(method: str, spoiled: type[Snapshot], named: str) -> None:
    module, data = seeded(method)
    snapshot = spoiled()
    with pytest.raises(
        NonFiniteLoss,
        match=rf"batch 1\b.*{re.escape(named)}",
    ):
        fit(module, data, snapshot)
    assert all(p.isfinite().all() for p in module.parameters())
    assert all(torch.equal(p, snapshot.weights[name]) for name, p in module.named_parameters())
