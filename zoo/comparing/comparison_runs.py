"""Trains and measures the runs of a comparison, several at once, each resumable."""

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import datetime, timezone
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_modules.callbacks.ema import EMA, averaged_weights
from lightning_modules.runtime.checkpoint_io import AtomicCheckpointIO
from zoo.cli import quiet
from zoo.comparing.comparison import Block, Comparison
from zoo.comparing.registry import comparison_of
from zoo.comparing.results import REAL, Key, Results
from zoo.errors import ZooError
from zoo.record import TrainingRecord, library_versions
from zoo.silence import without_advice

SAVE_EVERY = 500
NEWEST = "newest.ckpt"


def train_missing(
    comparison: Comparison,
    results: Results,
    runs: Path,
    *,
    only: Iterable[str] = (),
    jobs: int | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Trains and measures what the results lack; each finished run is written at once.

    Args:
        comparison: What is compared.
        results: The results so far, to which the new ones are added.
        runs: Folder of the runs; an interrupted one resumes from its newest checkpoint there.
        only: Names of blocks or entries, to which the training is restricted.
        jobs: Number of processes, by default one a core.
        say: Reports a finished run.

    Raises:
        ZooError: After the other runs, if some failed.
    """
    chosen = set(only)
    missing = [
        key
        for key in results.missing(comparison)
        if not chosen or chosen & {key.block, key.entry, f"{key.block}/{key.entry}"}
    ]
    say(f"{len(missing)} runs of {comparison.name} to make.")
    failed: list[str] = []
    # A forked process would share torch's threads with its parent.
    with ProcessPoolExecutor(jobs or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(make, comparison.name, *key, str(runs)): "/".join(map(str, key)) for key in missing}
        try:
            for future in as_completed(futures):
                try:
                    made = future.result()
                except (ValueError, RuntimeError) as error:  # such as a loss that is not finite: the others go on
                    failed.append(f"{futures[future]} ({error})")
                    say(f"Failed: {failed[-1]}")
                else:
                    results.add(made)
                    say(f"{futures[future]}: {shown(made['values'])}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failed:
        raise ZooError(f"{len(failed)} of {len(missing)} runs failed, the first of them {failed[0]}")


def shown(values: dict[str, float]) -> str:
    """Returns values for a line of progress."""
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def make(comparison: str, block: str, entry: str, seed: int, runs: str) -> dict[str, Any]:
    """Makes one run of a comparison in this process, and returns what the results keep of it."""
    quiet()
    torch.set_num_threads(1)
    found = comparison_of(comparison).block(block)
    with without_advice():
        if entry == REAL:
            return {**Key(block, entry, seed)._asdict(), "values": found.real(), "settings": {}, **circumstances()}
        return train(found, entry, seed, Path(runs) / comparison / block / f"{entry}-{seed}")


def train(block: Block, name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Trains and measures one method with one seed; continues from the newest checkpoint in the folder.

    Args:
        block: The block.
        name: Name of the entry.
        seed: Seed of weights, order and noise.
        folder: Folder of the run; each of its settings has one in it, so that none continues what others began.

    Returns:
        What the results keep of the run.
    """
    seed_everything(seed, verbose=False)
    data = block.datamodule()
    module, batches, settings = block.build(block.entry(name), data)
    folder = folder / digest(settings)
    folder.mkdir(parents=True, exist_ok=True)
    record, clock = TrainingRecord(), CoreTime()
    saving = ModelCheckpoint(
        folder, Path(NEWEST).stem, every_n_train_steps=SAVE_EVERY, enable_version_counter=False, save_on_exception=False
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*exists and is not empty.*")
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            max_steps=batches,
            limit_val_batches=0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            plugins=[AtomicCheckpointIO()],
            callbacks=[EMA(block.half_life_images), record, clock, saving],
        )
        newest = folder / NEWEST
        trainer.fit(module, data, ckpt_path=str(newest) if newest.is_file() else None, weights_only=True)
    module.eval()
    with averaged_weights(trainer, module):
        values = block.measure(module)
    values |= {"critic_steps": batches / block.updates, "images": record.examples, "minutes": clock.seconds / 60}
    return {**Key(block.name, name, seed)._asdict(), "values": values, "settings": settings, **circumstances()}


def digest(settings: dict[str, Any]) -> str:
    """Returns a short name of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def circumstances() -> dict[str, Any]:
    """Returns when and with which libraries a run was made."""
    return {"date": datetime.now(timezone.utc).date().isoformat(), "versions": library_versions()}


class CoreTime(Callback):
    """Counts the seconds that this process has computed, over all parts of a resumed run.

    Other processes on the machine slow down the clock on the wall, but not this one.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.since = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Starts the clock."""
        self.since = time.process_time()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Adds the seconds of the batch."""
        self.seconds += time.process_time() - self.since

    def state_dict(self) -> dict[str, Any]:
        """Returns the seconds so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the seconds of earlier parts."""
        self.seconds = float(state_dict["seconds"])
