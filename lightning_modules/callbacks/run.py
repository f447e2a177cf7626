"""The data spec of a run, for callbacks."""

from lightning.pytorch import LightningModule, Trainer

from datamodules.spec import DataSpec
from lightning_modules.rendering.renderers import known_spec


def spec_of(trainer: Trainer, module: LightningModule) -> DataSpec | None:
    """Returns the spec of the trainer's datamodule, else that of the module, or ``None``."""
    return getattr(getattr(trainer, "datamodule", None), "spec", None) or known_spec(module)


def value_range_of(trainer: Trainer, module: LightningModule) -> tuple[float, float]:
    """Returns the range of the data's values; [-1, 1] if no spec has one."""
    spec = spec_of(trainer, module)
    return (-1.0, 1.0) if spec is None or spec.value_range is None else spec.value_range
