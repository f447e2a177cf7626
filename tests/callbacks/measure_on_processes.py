"""Measures a model on this process, or together with others."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Generator, Tensor

from lightning_modules.callbacks import (
    FrechetInceptionDistance,
    ImageMetrics,
    InceptionScore,
    KernelInceptionDistance,
    PrecisionRecall,
    SampleGrid,
)
from lightning_modules.metrics.protocol import block_generator, sample_blocks
from tests.standins import SHAPE, StandInData, StandInExtractor, StandInModel, quiet_trainer


class Diverging(Callback):
    """Meets samples that are NaN in block 1 alone, on the second process of two."""

    message = ""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        class Diverged(StandInModel):
            def sample(
                self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None
            ) -> Tensor:
                x = super().sample(num_samples, generator=generator)
                return x * torch.nan if torch.equal(x, second) else x

        second = StandInModel().eval().sample(250, generator=block_generator(0, 1)).detach()
        try:
            sample_blocks(Diverged(), 600, SHAPE)
        except ValueError as error:
            self.message = str(error)


def measured(processes: int, out: str, callbacks: Sequence[Callback]) -> dict[str, float]:
    """Returns what this process has logged in a validation and a test."""
    strategy: Any = "auto"
    if processes > 1:
        strategy = DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=280))
    trainer = quiet_trainer(callbacks, devices=processes, strategy=strategy, default_root_dir=f"{out}-logs")
    values: dict[str, Tensor] = {}
    trainer.validate(StandInModel(), StandInData(), verbose=False)
    values.update(trainer.callback_metrics)
    trainer.test(StandInModel(), StandInData(), verbose=False)  # one block: the second process has none
    values.update(trainer.callback_metrics)
    return {name: value.item() for name, value in values.items()}


def numbers_on(processes: int, out: str) -> dict[str, Any]:
    """Returns what this process has logged, by four callbacks and by one, and the message of an error."""
    settings: dict[str, Any] = {"num_samples": 600, "num_test_samples": 250, "cache_dir": f"{out}-cache"}
    thin = (FrechetInceptionDistance, InceptionScore, KernelInceptionDistance, PrecisionRecall)
    diverging = Diverging()
    callbacks: list[Callback] = [*(each(StandInExtractor(), **settings) for each in thin), SampleGrid(), diverging]
    numbers = measured(processes, out, callbacks)
    one_pass = measured(processes, out, [ImageMetrics(StandInExtractor(), **settings)])
    return {"numbers": numbers, "one pass": one_pass, "message": diverging.message}
