"""How long a run is planned to be, and that the learning rate lasts as long."""

import warnings
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer

from lightning_modules import METHODS, WGANGP
from lightning_modules.callbacks import EMA
from lightning_modules.parts.capabilities import SupportsAveraging
from lightning_modules.runtime.flags import planned_batches
from tests.training import TinyData, build, data_of
from zoo.record import TrainingRecord


@pytest.mark.parametrize(
    ("settings", "planned"),
    [
        ({"max_steps": 7}, 7),
        ({"max_epochs": 3}, 15),  # an epoch has five batches
        ({"max_epochs": 3, "limit_train_batches": 2}, 6),
        ({"max_steps": 7, "max_epochs": 3}, 7),
        ({"max_steps": 70, "max_epochs": 3}, 15),
        ({"max_epochs": -1, "max_time": {"seconds": 1}}, None),
    ],
)
def test_planned_batches_follow_from_steps_or_epochs(settings: dict[str, Any], planned: int | None) -> None:
    found: list[int | None] = []

    class Asking(WGANGP):
        def on_fit_start(self) -> None:
            found.append(planned_batches(self.trainer))
            self.trainer.should_stop = True

    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(Asking(shape=[2], architecture="mlp", latent_dim=2, width=2), TinyData((2,)))
    assert found == [planned]


def test_epochs_beyond_the_end_of_the_learning_rate_are_refused() -> None:
    module = WGANGP(shape=[2], architecture="mlp", latent_dim=2, width=2, decay_steps=14)
    trainer = Trainer(accelerator="cpu", max_epochs=3, logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match="15.*decay_steps=14"):
        trainer.fit(module, TinyData((2,)))


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        *[(method, {"log_every_n_steps": 0, "logger": False}) for method in METHODS],
        *[(method, {"barebones": True}) for method in ("Gaussian", "WGANGP", "TeacherForcing", "Classifier")],
    ],
    ids=str,
)
def test_a_run_that_never_logs_trains_and_validates(method: str, settings: dict[str, Any]) -> None:
    module, shape = build(method)
    data = TinyData(shape, **data_of(method))
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    if settings.get("barebones"):
        quiet = {}
    callbacks: list[Callback] = [TrainingRecord()]
    if isinstance(module, SupportsAveraging):
        callbacks.append(EMA())
    trainer = Trainer(accelerator="cpu", max_epochs=1, callbacks=callbacks, **settings, **quiet)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning lists what it leaves out
        trainer.fit(module, data)
        trainer.validate(module, data, verbose=False)
    assert trainer.global_step == 5
    assert not [name for name in trainer.callback_metrics if name.startswith("train/")]
