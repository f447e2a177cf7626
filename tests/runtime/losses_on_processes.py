"""What the losses of a short run are on each of two processes."""

from lightning.pytorch.callbacks import EarlyStopping

from tests.standins import quiet_trainer
from tests.training import GLOBAL_BATCH, TinyData, build


def losses_of(method: str, monitored: str) -> tuple[int, dict[str, float]]:
    """Trains until a loss that is never better stops the run; returns its epochs and its losses."""
    module, shape = build(method)
    stopping = EarlyStopping(monitored, patience=1, min_delta=1e9)
    trainer = quiet_trainer(
        [stopping], devices=2, strategy="ddp", max_epochs=9, limit_val_batches=0, log_every_n_steps=50
    )
    trainer.fit(module, TinyData(shape, GLOBAL_BATCH // 2))
    losses = {key: value.item() for key, value in trainer.callback_metrics.items() if key.startswith("train/")}
    return trainer.current_epoch, losses
