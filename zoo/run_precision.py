"""The precision of a run: ``auto`` is bfloat16 where it is fast, and a resumed run keeps what it began with.

A CPU without units for bfloat16 emulates it, many times slower than float32.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.connector import _PRECISION_INPUT
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info

from lightning_modules.networks.bfloat16 import has_bfloat16_units

AUTO = "auto"
FORMER_AUTO = "bf16-mixed"
"""What recipes said before they said ``auto``, and before checkpoints recorded it."""


class RecipeTrainer(Trainer):
    """Lightning's Trainer, whose ``precision`` may also be ``"auto"``: bfloat16 where it is fast, else float32."""

    def __init__(self, *args: Any, precision: _PRECISION_INPUT | Literal["auto"] | None = None, **kwargs: Any) -> None:
        settled = fastest_precision(kwargs.get("accelerator", "auto")) if precision == "auto" else precision
        super().__init__(*args, precision=settled, **kwargs)


def fastest_precision(accelerator: Any = "auto") -> _PRECISION_INPUT:
    """Returns ``"bf16-mixed"`` on a GPU or CPU with units for it, else ``"32-true"``, and says which in one line.

    Args:
        accelerator: As of a Trainer.
    """
    name = accelerator if isinstance(accelerator, str) else type(accelerator).__name__.lower()
    if name.startswith(("auto", "gpu", "cuda")) and torch.cuda.is_available():
        device, fast = "this GPU", torch.cuda.is_bf16_supported(including_emulation=False)
    elif name.startswith(("auto", "gpu", "mps")) and torch.backends.mps.is_available():
        device, fast = "Apple's GPU", False
    else:
        device, fast = "this CPU", has_bfloat16_units()
    precision: _PRECISION_INPUT = "bf16-mixed" if fast else "32-true"
    rank_zero_info(f"precision={precision}, chosen because {device} has {'' if fast else 'no '}units for bfloat16.")
    return precision


def precision_of_run(given: Any, checkpoint: str | None, accelerator: Any) -> Any:
    """Returns the precision with which a recipe is trained; a resumed run keeps that of its beginning, and says so.

    Args:
        given: What the recipe or the command line says: a precision, ``"auto"``, or ``None`` for Lightning's default.
            A precision other than these two is used also where the run began with another.
        checkpoint: Path of the checkpoint to resume from, or ``None`` for a new run.
        accelerator: As of a Trainer.
    """
    if given not in (AUTO, None):
        return given  # the module says what it was before
    began = None if checkpoint is None else recorded_precision(checkpoint, FORMER_AUTO if given == AUTO else None)
    if began is None:
        return fastest_precision(accelerator) if given == AUTO else given
    slow = began.startswith("bf16") and accelerator == "cpu" and not has_bfloat16_units()
    slow = slow or (began.startswith("bf16") and not torch.cuda.is_available() and not has_bfloat16_units())
    cost = ", which is slow here: this CPU has no units for bfloat16" if slow else ""
    rank_zero_info(f"precision={began}, with which the run began{cost}.")
    return began


def recorded_precision(checkpoint: str, default: str | None) -> str | None:
    """Returns the precision that a checkpoint was trained with.

    Args:
        checkpoint: Path of a file of Lightning's.
        default: What a file of a former version, which does not say, was trained with.

    Returns:
        ``None`` if the file cannot be read, of which the Trainer will tell.
    """
    if not Path(checkpoint).is_file():
        return None
    try:
        content = torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=True)
        found = content.get("precision", default)
        return found if isinstance(found, str) else None
    except Exception:
        return None
