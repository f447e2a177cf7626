"""Run by a test: measures a model on some processes and writes what each of them has logged."""

import json
import sys
from datetime import timedelta
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy

sys.path.insert(0, str(Path(__file__).parents[2]))

from lightning_modules.callbacks import (  # noqa: E402
    FrechetInceptionDistance,
    InceptionScore,
    KernelInceptionDistance,
    PrecisionRecall,
)
from tests.callbacks.standins import StandInData, StandInExtractor, StandInModel  # noqa: E402


def main(processes: int, out: str) -> None:
    kinds = (FrechetInceptionDistance, InceptionScore, KernelInceptionDistance, PrecisionRecall)
    settings = {"num_samples": 600, "num_test_samples": 250, "cache_dir": f"{out}-cache"}
    callbacks = [kind(StandInExtractor(), **settings) for kind in kinds]
    strategy = DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=60)) if processes > 1 else "auto"
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy=strategy,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    numbers = {}
    trainer.validate(StandInModel(), StandInData(), verbose=False)
    numbers.update(trainer.callback_metrics)
    trainer.test(StandInModel(), StandInData(), verbose=False)  # one block: the second process has none
    numbers.update(trainer.callback_metrics)
    values = {name: value.item() for name, value in numbers.items()}
    Path(f"{out}-{trainer.global_rank}.json").write_text(json.dumps(values))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
