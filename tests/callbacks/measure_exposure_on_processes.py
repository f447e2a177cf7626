"""Run by a test: measures exposure bias on some processes and writes what each of them has logged."""

import json
import sys
from datetime import timedelta
from pathlib import Path

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.strategies import DDPStrategy

sys.path.insert(0, str(Path(__file__).parents[2]))

from datamodules import MarkovSource  # noqa: E402
from lightning_modules import TeacherForcing  # noqa: E402
from lightning_modules.callbacks import ExposureBias  # noqa: E402


def measure(processes: int, batch_size: int = 64) -> tuple[dict[str, float], int]:
    """Returns what this process has logged, and its rank."""
    data = MarkovSource(length=24, val_size=600, test_size=600, batch_size=batch_size, order=1)
    seed_everything(3, verbose=False)
    model = TeacherForcing.for_data(data.spec, width=8)
    strategy = DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=60)) if processes > 1 else "auto"
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


def main(processes: int, out: str) -> None:
    values, rank = measure(processes)
    Path(f"{out}-{rank}.json").write_text(json.dumps(values))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
