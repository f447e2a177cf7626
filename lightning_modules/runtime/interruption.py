"""Ctrl-C and SIGTERM in a training: the batch is finished, a checkpoint is saved, and the run ends.

A checkpoint in the middle of a batch could not be resumed exactly: one player has stepped and the other has not. So a
signal only leaves a note while batches are trained, and the training stops at the end of the batch. A second signal
stops at once, without a checkpoint.

Several processes stop at the same batch, whichever of them were sent the signal: they tell each other about signals in
one small reduction, about once a second and before each validation. A process that began to save alone would wait for
the others for ever.

NOTE: Processes that ``ddp_spawn`` and ``ddp_fork`` start save nothing, because the process that started them ends them.
Such a run can be resumed from its last periodic checkpoint.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lightning_modules.parts.processes import rank
from lightning_modules.runtime.distributed import largest_over_processes
from lightning_modules.runtime.run_folder import LAST_CHECKPOINT, checkpoints_dir_of

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SECONDS_BETWEEN_AGREEMENTS = 1.0


class Interrupted(BaseException):
    """A training was stopped by a signal.

    Args:
        signum: The signal's number; a program that ends with it returns 128 + the number to its shell.
        checkpoint: The file that the training resumes from, or ``None`` if none was saved.
        batches: Number of batches that the checkpoint was trained on.

    Attributes:
        command: The command that resumes the training; ``None`` if there is none.
    """

    def __init__(self, signum: int, checkpoint: Path | None = None, batches: int | None = None) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum, self.checkpoint, self.batches = signum, checkpoint, batches
        self.command: str | None = None

    def report(self) -> str:
        """Returns what was saved, and how the training goes on, in a line."""
        saved = "" if self.checkpoint is None else f" Saved {self.checkpoint} after {self.batches:,} batches."
        resumed = "Nothing was saved." if self.command is None and not saved else ""
        return f"Interrupted.{saved} {resumed if self.command is None else f'To go on: {self.command}'}".rstrip()

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C and 143 for SIGTERM."""
        return 128 + self.signum


class SaveOnInterrupt(Checkpoint):
    """Saves a checkpoint when a signal has been noted by ``interruptible``, at the end of the batch, and stops.

    As a ``Checkpoint`` it comes after all other callbacks, whose states are therefore those after the batch. During a
    validation, which changes no state of the training, one process saves at once, and the resumed run validates from
    the start; several processes save after the batch that follows it.

    Args:
        processes: Number of processes of the run.
    """

    def __init__(self, processes: int = 1) -> None:
        self.received: int | None = None
        self.training = False
        self._stop: Interrupted | None = None
        self._stage, self._processes = "", processes
        self._agreement = Agreement()

    def note(self, signum: int, frame: Any) -> None:
        """Handles a signal.

        Raises:
            Interrupted: Unless batches are being trained and this is the first signal.
            KeyboardInterrupt: Instead, if there are several processes.
        """
        waits, self.received = self.training and self.received is None, signum
        if waits and rank() == 0:
            # Not print: the signal may have come in the middle of another print.
            moment = b"after this batch" if self._processes == 1 else b"all processes after the same batch"
            os.write(2, b"\nStopping %b, to save a checkpoint. The same signal again stops at once.\n" % moment)
        if not waits and self._processes > 1:
            raise KeyboardInterrupt  # for which Lightning ends the processes that it has started
        if not waits:
            raise Interrupted(signum)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on signals wait for the end of a batch, unless the processes are those of ``ddp_spawn`` or fork."""
        forked = isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)
        self.training = not forked and not trainer.fast_dev_run  # type: ignore[attr-defined]
        self._agreement = Agreement()
        if threading.current_thread() is threading.main_thread() and not SLURMEnvironment.detect():
            signal.signal(signal.SIGTERM, self.note)  # in place of Lightning's, which saves nothing

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves if a signal has been noted; the training stops at the next hook, when the batch has been logged too."""
        if self.training:
            noted = self.received if self._processes == 1 else self._agreement.after_batch(trainer, self.received)
            if noted is not None:
                self._stop = self._saved(trainer, noted)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Stops."""
        if self._stop is not None:
            raise self._stop

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops, if no further batch starts in this epoch."""
        if self._stop is not None:
            raise self._stop

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A signal that came before stops here; one in the validation stops a single process at once."""
        if not self.training and self._stop is None:
            return
        self.training, self._stage = self._processes > 1, "validation"
        noted = self.received if self._processes == 1 else self._agreement.now(trainer, self.received)
        if noted is not None:
            raise Interrupted(noted)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Signals wait again, and those of the validation stop several processes after the next batch."""
        if self._stage == "validation":
            self.training, self._stage = True, ""
            self._agreement.soon()
            # A validation that was begun twice leaves counters as if it were not over; see ``_validate_again``.
            total: Any = trainer.fit_loop.epoch_loop.val_loop.batch_progress.total
            total.processed = total.completed = total.started = total.ready

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Saves if a signal has interrupted a validation; of several processes all come here together then."""
        self.training = False
        if isinstance(exception, Interrupted) and self._stage == "validation":
            saved = self._saved(trainer, exception.signum)
            exception.checkpoint, exception.batches = saved.checkpoint, saved.batches

    def _saved(self, trainer: Trainer, signum: int) -> Interrupted:
        path = checkpoints_dir_of(trainer) / LAST_CHECKPOINT
        checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        if self._stage == "validation":
            _validate_again(checkpoint["loops"]["fit_loop"])
        trainer.strategy.save_checkpoint(checkpoint, path)
        trainer.strategy.barrier()  # no process ends before the file is there
        return Interrupted(signum, path, trainer.global_step)


class Agreement:
    """Tells all processes of a run of a signal that some of them have received, at the same batch.

    After a batch in about ``SECONDS_BETWEEN_AGREEMENTS`` they reduce two numbers: the signal, and in how many batches
    they ask again. So all know of the next time without a message, although their clocks differ.
    """

    def __init__(self) -> None:
        self._wait = self._left = 1
        self._last = time.monotonic()

    def after_batch(self, trainer: Trainer, received: int | None) -> int | None:
        """Returns the signal that any process has received, or ``None``; every process must call it after each batch.

        Args:
            trainer: The trainer of this process.
            received: The signal that this process has received, or ``None``.
        """
        self._left -= 1
        return None if self._left > 0 else self.now(trainer, received)

    def soon(self) -> None:
        """Asks after the next batch; every process must call it at the same place."""
        self._left = 1

    def now(self, trainer: Trainer, received: int | None) -> int | None:
        """As ``after_batch``, but asks at once; every process must call it at the same place."""
        now = time.monotonic()
        fitting = int(self._wait * SECONDS_BETWEEN_AGREEMENTS / max(now - self._last, 1e-9))
        own = max(1, min(fitting, 2 * self._wait))  # at most twice as long: a batch may become slower
        noted, slowest = largest_over_processes([received or 0, -own], trainer.strategy.root_device)
        self._wait = self._left = -slowest
        self._last = now
        return noted or None


def _validate_again(fit_loop: dict[str, Any]) -> None:
    """Changes the counters of a validation that was interrupted to those of one that has just begun.

    Lightning would continue it with the next batch, and then report the mean of the rest.
    """
    progress = fit_loop["epoch_loop.val_loop.batch_progress"]
    none = {"ready": 0, "completed": 0, "started": 0, "processed": 0}
    progress.update(total={**none, "ready": 1, "started": 1}, current=none, is_last_batch=False)


@contextmanager
def interruptible(trainer: Trainer, resumed_by: Callable[[], str | None] = lambda: None) -> Iterator[SaveOnInterrupt]:
    """Handles Ctrl-C and SIGTERM in the block, which trains with a trainer.

    Args:
        trainer: It gets a ``SaveOnInterrupt`` callback.
        resumed_by: Returns the command that resumes the training, or ``None`` if it cannot be resumed.

    Raises:
        Interrupted: For either signal, where Lightning would exit with code 1, or go on.
    """
    callback = SaveOnInterrupt(trainer.world_size)
    trainer.callbacks.append(callback)  # type: ignore[attr-defined]
    try:
        with handled_by(callback.note), _as_interrupted(trainer, callback):
            yield callback
    except Interrupted as stop:
        stop.command = resumed_by()
        raise


@contextmanager
def interrupting() -> Iterator[None]:
    """Raises ``Interrupted`` at once for Ctrl-C and SIGTERM in the block, which waits for trainings elsewhere."""

    def stop(signum: int, frame: Any) -> None:
        raise Interrupted(signum)

    with handled_by(stop):
        yield


@contextmanager
def handled_by(handler: Callable[[int, Any], None], signals: Sequence[int] = SIGNALS) -> Iterator[None]:
    """Handles signals in the block by a function; in another thread than the main one nothing is changed."""
    former: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        former = {signum: signal.signal(signum, handler) for signum in signals}
    try:
        yield
    finally:
        for signum, before in former.items():
            signal.signal(signum, before)


@contextmanager
def _as_interrupted(trainer: Trainer, callback: SaveOnInterrupt) -> Iterator[None]:
    """Raises ``Interrupted`` for all that Lightning may make of a signal."""
    try:
        yield
    except (KeyboardInterrupt, SIGTERMException, SystemExit) as error:
        if type(error) is SystemExit and not trainer.interrupted:
            raise
        default = signal.SIGTERM if isinstance(error, SIGTERMException) else signal.SIGINT
        raise Interrupted(callback.received or default) from error
