"""What callbacks ask of a run: the data spec, and which split they will measure."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from datamodules.spec import DataSpec
from lightning_modules.rendering.renderers import known_spec


def spec_of(trainer: Trainer, module: LightningModule) -> DataSpec | None:
    """Returns the spec of the trainer's datamodule, else that of the module, or ``None``."""
    return getattr(getattr(trainer, "datamodule", None), "spec", None) or known_spec(module)


def value_range_of(trainer: Trainer, module: LightningModule) -> tuple[float, float]:
    """Returns the range of the data's values; [-1, 1] if no spec has one."""
    spec = spec_of(trainer, module)
    return (-1.0, 1.0) if spec is None or spec.value_range is None else spec.value_range


def split_to_measure(trainer: Trainer, stage: str, callback: str) -> str | None:
    """Returns the split that a callback will measure, or ``None`` if it will not; warns of a training without one.

    Args:
        trainer: The trainer that is about to run.
        stage: ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``, as in ``Callback.setup``.
        callback: Name of the callback, for the warning.
    """
    if stage == "fit" and not trainer.enable_validation:
        rank_zero_warn(f"{callback} measures at validation, but there is none in this run: it will log nothing.")
        return None
    if stage in ("fit", "validate"):
        return "val" if trainer.limit_val_batches else None
    return "test" if stage == "test" and trainer.limit_test_batches else None
