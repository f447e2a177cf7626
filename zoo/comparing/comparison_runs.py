"""Trains and measures the runs of a comparison, several at once, each resumable."""

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import Future, as_completed
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_modules.callbacks.ema import EMA, averaged_weights
from lightning_modules.runtime.checkpoint_io import AtomicCheckpointIO
from lightning_modules.runtime.interruption import Interrupted, interrupting
from zoo.cli import quiet
from zoo.comparing.comparison import Block, Comparison
from zoo.comparing.pool_workers import worker_pool
from zoo.comparing.registry import comparison_of
from zoo.comparing.results import REAL, Key, Results
from zoo.errors import UnknownNameError, ZooError
from zoo.paths import did_you_mean
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
        UnknownNameError: If ``only`` has a name of no block or entry.
        ZooError: After the other runs, if some failed.
        Interrupted: For Ctrl-C or SIGTERM. Runs that are ready are kept; the others can be resumed.
    """
    chosen = set(only)
    check_chosen(comparison, chosen)
    missing = [key for key in results.missing(comparison) if not chosen or chosen & names_of(key.block, key.entry)]
    say(f"{len(missing)} runs of {comparison.name} to make.")
    failed: list[str] = []
    with interrupting(), worker_pool(jobs) as pool:
        left = {pool.submit(make, comparison.name, *key, str(runs)): "/".join(map(str, key)) for key in missing}

        def keep(future: Future[dict[str, Any]]) -> None:
            name = left[future]
            if error := future.exception():  # such as a loss that is not finite: the others go on
                failed.append(f"{name} ({error})")
                say(f"Failed: {failed[-1]}")
            else:
                results.add(future.result())
                say(f"{name}: {shown(future.result()['values'])}")
            del left[future]  # at the end: where this is interrupted, it is done again

        try:
            for future in as_completed(list(left)):
                keep(future)
        except Interrupted:
            for future in [future for future in left if future.done()]:
                keep(future)
            raise
    if failed:
        raise ZooError(f"{len(failed)} of {len(missing)} runs failed, the first of them {failed[0]}")


def names_of(block: str, entry: str) -> set[str]:
    """Returns the names by which a run can be chosen."""
    return {block, entry, f"{block}/{entry}"}


def check_chosen(comparison: Comparison, chosen: set[str]) -> None:
    """Raises ``UnknownNameError`` for a name of no block or entry of the comparison."""
    names = [[each.name for each in block.entries] + [REAL] for block in comparison.blocks]
    pairs = [(block.name, entry) for block, entries in zip(comparison.blocks, names, strict=True) for entry in entries]
    known = sorted(set().union(*(names_of(*pair) for pair in pairs)))
    for name in sorted(chosen.difference(known)):
        short = [each for each in known if "/" not in each]
        raise UnknownNameError(
            f"only={name!r} is no method or block of {comparison.name}.{did_you_mean(name, known)} "
            f"There are {', '.join(short)}, and BLOCK/METHOD."
        )


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
        seed: Seed of weights, noise, and the data's order and split; of the points, where they are drawn.
        folder: Folder of the run; each of its settings has one in it, so that none continues what others began.

    Returns:
        What the results keep of the run.
    """
    seed_everything(seed, verbose=False)
    data = block.datamodule(seed=seed)
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
