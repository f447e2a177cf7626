"""The id of the tracked run in the checkpoint, so that a resumed training continues the same run."""

from typing import Any, Protocol, runtime_checkable

from lightning.pytorch import Trainer


@runtime_checkable
class ResumableLogger(Protocol):
    """A logger whose run has an id, under which it can be continued, such as ``runtime.tracking.Tracking``."""

    run_id: str | None

    def resume(self, run_id: str | None) -> None:
        """Continues the run of that id; ``None`` if it had none."""
        ...


def save_run_id(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Adds the id of the run to a checkpoint, if a logger has one."""
    for logger in trainer.loggers:
        if isinstance(logger, ResumableLogger):
            checkpoint["run_id"] = logger.run_id


def resume_run(trainer: Trainer | None, checkpoint: dict[str, Any]) -> None:
    """Continues the run that wrote a checkpoint; called before the first record opens a run.

    Args:
        trainer: The trainer that resumes, or ``None`` where a checkpoint is only loaded.
        checkpoint: The content of the checkpoint.
    """
    for logger in [] if trainer is None else trainer.loggers:
        if isinstance(logger, ResumableLogger):
            logger.resume(checkpoint.get("run_id"))
