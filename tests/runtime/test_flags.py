"""How long a run is planned to be, and that the learning rate lasts as long."""

import inspect
import warnings
from datetime import timedelta
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader, IterableDataset

from lightning_modules import METHODS, WGANGP
from lightning_modules.callbacks import EMA
from lightning_modules.parts.capabilities import SupportsAveraging
from lightning_modules.runtime.flags import planned_batches
from tests.standins import quiet_trainer
from tests.training import GLOBAL_BATCH, TinyData, build, data_of
from zoo.record import TrainingRecord

DECAYING = [name for name, method in METHODS.items() if "decay_steps" in inspect.signature(method).parameters]


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


class Count(Callback):
    """Counts the batches that are trained, and the learning rates they are trained with."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])


def fit(method: str, decay_steps: int, ckpt_path: str | None = None, **limits: Any) -> tuple[Trainer, Count]:
    """Trains a method whose learning rate is zero after ``decay_steps`` batches; an epoch has five."""
    short = {"warmup_steps": 1} if "warmup_steps" in inspect.signature(METHODS[method]).parameters else {}
    module, shape = build(method, decay_steps=decay_steps, **short)
    count = Count()
    trainer = quiet_trainer([count], limit_val_batches=0, **limits)
    trainer.fit(module, TinyData(shape, GLOBAL_BATCH, **data_of(method)), ckpt_path=ckpt_path)
    return trainer, count


@pytest.mark.parametrize("method", DECAYING)
@pytest.mark.parametrize(
    ("limits", "planned"),
    [
        ({"max_steps": 15, "max_epochs": -1}, 15),
        ({"max_epochs": 3}, 15),
        ({"max_epochs": None}, 5000),  # Lightning's default, 1000 epochs
        ({"max_epochs": -1, "max_time": timedelta(minutes=9), "min_steps": 15}, 15),
        ({"max_epochs": -1, "max_time": timedelta(minutes=9), "min_epochs": 3}, 15),
    ],
    ids=str,
)
def test_runs_beyond_the_end_of_the_learning_rate_are_refused(
    method: str, limits: dict[str, Any], planned: int
) -> None:
    with pytest.raises(ValueError, match=rf"\b{planned}\b.*decay_steps=14"):
        fit(method, 14, **limits)


@pytest.mark.parametrize("method", DECAYING)
@pytest.mark.parametrize(
    "limits", [{"max_epochs": -1}, {"max_epochs": -1, "max_time": timedelta(minutes=9)}], ids=["unlimited", "time"]
)
def test_runs_of_unknown_length_stop_at_the_end_of_the_learning_rate_and_say_so(
    method: str, limits: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        trainer, count = fit(method, 7, **limits)
    assert trainer.global_step == 7
    assert min(count.rates) > 0
    (line,) = [message for message in caplog.messages if "decay_steps=7" in message]
    assert "7 batches" in line


@pytest.mark.parametrize("method", ["WGANGP", "Gaussian", "TeacherForcing"])
def test_runs_that_end_where_the_learning_rate_does_are_not_stopped(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    for limits in ({"max_epochs": 3}, {"max_epochs": -1, "max_steps": 15}, {"max_epochs": 3, "limit_train_batches": 5}):
        trainer, count = fit(method, 15, **limits)
        assert trainer.global_step == 15
        assert not trainer.should_stop
        assert min(count.rates) > 0
    assert not any("decay_steps" in message for message in caplog.messages)


@pytest.mark.parametrize("method", ["WGANGP", "Gaussian", "TeacherForcing"])
def test_resumed_runs_are_refused_like_new_ones(method: str) -> None:
    trainer, _ = fit(method, 7, max_epochs=-1)
    trainer.save_checkpoint("end.ckpt")
    with pytest.raises(ValueError, match="decay_steps=7 after 7 batches"):
        fit(method, 7, "end.ckpt", max_epochs=-1)
    with pytest.raises(ValueError, match=r"15 batches.*decay_steps=7"):
        fit(method, 7, "end.ckpt", max_epochs=3)
    assert fit(method, 15, "end.ckpt", max_epochs=3)[0].global_step > 7


def test_data_without_a_length_are_trained_to_the_end_of_the_learning_rate() -> None:
    class Endless(IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            while True:
                yield torch.rand(2)

    module = WGANGP(shape=[2], architecture="mlp", latent_dim=2, width=2, decay_steps=6)
    trainer = quiet_trainer(max_epochs=1, limit_val_batches=1)
    loader: Any = DataLoader(Endless(), batch_size=4)
    trainer.fit(module, loader, loader)
    assert trainer.global_step == 6


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


@pytest.mark.parametrize("name", list(METHODS))
@pytest.mark.parametrize("limit", [0, 0.0])
def test_a_run_without_batches_says_so_and_changes_nothing(name: str, limit: float) -> None:
    module, shape = build(name)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    trainer = quiet_trainer(max_epochs=1, limit_train_batches=limit)
    with pytest.warns(UserWarning, match=f"limit_train_batches=0: {name} is not trained on any batch"):
        trainer.fit(module, TinyData(shape, **data_of(name)))
    assert trainer.global_step == 0
    if name != "GaussianMixture":  # whose components are placed on the data before the first batch
        assert all(torch.equal(value, before[key]) for key, value in module.named_parameters())
