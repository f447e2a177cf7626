"""Measures exposure bias on this process, or together with others."""

from datetime import timedelta

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.strategies import DDPStrategy

from datamodules import MarkovSource
from lightning_modules import TeacherForcing
from lightning_modules.callbacks import ExposureBias


def measure(processes: int, batch_size: int = 64) -> tuple[dict[str, float], int]:
    """Returns what this process has logged, and its rank."""
    data = MarkovSource(length=24, val_size=600, test_size=600, batch_size=batch_size, order=1)
    seed_everything(3, verbose=False)
    model = TeacherForcing.for_data(data.spec, width=8)
    strategy = DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=280)) if processes > 1 else "auto"
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy=strategy,
        callbacks=[ExposureBias(prefix=4, steps=20, window=10, orders=(1, 2), num_sequences=300, components=4)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.test(model, data, verbose=False)
    values = {name: value.item() for name, value in trainer.callback_metrics.items()}
    return values, trainer.global_rank
