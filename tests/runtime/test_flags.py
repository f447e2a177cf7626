"""How long a run is planned to be, and that the learning rate lasts as long."""

from typing import Any

import pytest
from lightning.pytorch import Trainer

from lightning_modules import WGANGP
from lightning_modules.runtime.flags import planned_batches
from tests.training import TinyData


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
