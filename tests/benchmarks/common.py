"""Timing in alternation: on a busy machine two things compare only if both felt the same noise."""

import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

WARM_UP, STEPS = 20, 200


def interleaved(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Runs every contestant in turn, ``rounds`` times after one warm-up, and returns median seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


class Alternate(Callback):
    """Runs a bare step after each of the trainer's, and times both; all of Lightning lies in between."""

    def __init__(self, bare_step: Callable[[], object], warm_up: int) -> None:
        self.bare_step, self.warm_up = bare_step, warm_up
        self.seconds: dict[str, list[float]] = {"lightning": [], "bare": []}
        self.resumed = 0.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        start = time.perf_counter()
        self.bare_step()
        end = time.perf_counter()
        if trainer.global_step > self.warm_up:
            self.seconds["lightning"].append(start - self.resumed)
            self.seconds["bare"].append(end - start)
        self.resumed = time.perf_counter()


def beside_the_trainer(
    module: LightningModule,
    datamodule: LightningDataModule,
    bare_step: Callable[[], object],
    warm_up: int = WARM_UP,
    steps: int = STEPS,
) -> tuple[float, float]:
    """Returns the median seconds of a step of ``Trainer.fit`` and of the same step written by hand."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    alternate = Alternate(bare_step, warm_up)
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            max_steps=warm_up + steps,
            accelerator="cpu",
            callbacks=[alternate],
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            limit_val_batches=0,
        ).fit(module, datamodule=datamodule)
    lightning, bare = (statistics.median(values) for values in alternate.seconds.values())
    return lightning, bare


def row(benchmark: str, goal: str, measured: str, met: bool) -> None:
    """Prints one row of the table that `make bench` makes."""
    print(f"| {benchmark} | {goal} | {measured} | {'yes' if met else 'NO'} |", flush=True)
