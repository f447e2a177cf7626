"""The id of the tracked run in the checkpoint, so that a resumed training continues the same run."""

from typing import Any, Protocol, runtime_checkable

from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn


@runtime_checkable
class ResumableLogger(Protocol):
    """A logger whose run has an id, under which it can be continued, such as ``runtime.tracking.Tracking``."""

    run_id: str | None

    def save(self) -> None:
        """Starts the record, if that has not happened yet."""
        ...

    def resume(self, run_id: str | None, batches: int | None = None, path: Any = None) -> None:
        """Continues the run of that id (``None`` if it had none) after so many batches, from a checkpoint file."""
        ...


def save_run_id(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Adds the id of the run to a checkpoint, if a logger has one."""
    for logger in trainer.loggers:
        if isinstance(logger, ResumableLogger) and isinstance(logger.run_id, str | None):
            checkpoint["run_id"] = logger.run_id


def open_run(trainer: Trainer) -> None:
    """Starts the record of a run before anything is written to its folder; an earlier run there is moved aside."""
    for logger in trainer.loggers:
        if isinstance(logger, ResumableLogger):
            logger.save()


def join_run(trainer: Trainer) -> None:
    """Adds the records of an evaluation to the run that is in a logger's folder, where a training starts its own."""
    for logger in trainer.loggers:
        if isinstance(logger, ResumableLogger):
            logger.resume(logger.run_id)


def resume_run(trainer: Trainer | None, checkpoint: dict[str, Any]) -> None:
    """Continues the run that wrote a checkpoint; called before the first record opens a run.

    Args:
        trainer: The trainer that resumes, or ``None`` where a checkpoint is only loaded.
        checkpoint: The content of the checkpoint.
    """
    if trainer is None:
        return
    training = trainer.state.fn == TrainerFn.FITTING  # an evaluation of an earlier checkpoint removes nothing
    place: dict[str, Any] = {"batches": checkpoint.get("global_step"), "path": trainer.ckpt_path} if training else {}
    for logger in trainer.loggers:
        if isinstance(logger, ResumableLogger):
            logger.resume(checkpoint.get("run_id"), **place)
