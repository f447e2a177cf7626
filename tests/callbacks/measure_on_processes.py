"""Run by a test: measures a model on some processes and writes what each of them has logged."""

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy

sys.path.insert(0, str(Path(__file__).parents[2]))

from lightning_modules.callbacks import (  # noqa: E402
    FrechetInceptionDistance,
    InceptionScore,
    KernelInceptionDistance,
    PrecisionRecall,
    SampleGrid,
)
from lightning_modules.callbacks.judged_blocks import block_generator, sample_blocks  # noqa: E402
from tests.callbacks.standins import SHAPE, StandInData, StandInExtractor, StandInModel  # noqa: E402


class Diverging(Callback):
    """Meets samples that are NaN in block 1 alone, on the second process of two."""

    message = ""

    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        class Diverged(StandInModel):
            def sample(self, num_samples, *, labels=None, generator=None):
                x = super().sample(num_samples, generator=generator)
                return x * torch.nan if torch.equal(x, second) else x

        second = StandInModel().eval().sample(250, generator=block_generator(0, 1)).detach()
        try:
            sample_blocks(Diverged(), 600, SHAPE)
        except ValueError as error:
            self.message = str(error)


def main(processes: int, out: str) -> None:
    kinds = (FrechetInceptionDistance, InceptionScore, KernelInceptionDistance, PrecisionRecall)
    settings = {"num_samples": 600, "num_test_samples": 250, "cache_dir": f"{out}-cache"}
    callbacks = [kind(StandInExtractor(), **settings) for kind in kinds]
    diverging = Diverging()
    callbacks += [SampleGrid(), diverging]
    strategy = DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=60)) if processes > 1 else "auto"
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy=strategy,
        callbacks=callbacks,
        logger=False,
        default_root_dir=f"{out}-logs",
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    numbers = {}
    trainer.validate(StandInModel(), StandInData(), verbose=False)
    numbers.update(trainer.callback_metrics)
    trainer.test(StandInModel(), StandInData(), verbose=False)  # one block: the second process has none
    numbers.update(trainer.callback_metrics)
    values = {name: value.item() for name, value in numbers.items()}
    Path(f"{out}-{trainer.global_rank}.json").write_text(json.dumps({"numbers": values, "message": diverging.message}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
