"""Record of a run for the model card: the curve of metrics, the number of examples, the duration."""

import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.data import extract_batch_size

from lightning_modules.adversarial.joint_game import JointModule
from lightning_modules.adversarial.loop import AdversarialModule
from lightning_modules.runtime.flags import planned_batches

MAX_ROWS = 40  # rows of a curve, so that a card stays readable


class TrainingRecord(Callback):
    """Collects the curve of held-out metrics and the cost of a run, including resumed parts."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.examples = 0
        self.seconds = 0.0
        self.planned: int | None = None
        self._since: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock, and keeps the number of planned batches."""
        self._since = time.monotonic()
        self.planned = planned_batches(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the examples of all processes."""
        self.examples += extract_batch_size(batch) * trainer.world_size

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds a row of metrics."""
        measured = held_out_measures(trainer)
        if measured and not trainer.sanity_checking:
            self.rows.append({"batches": trainer.global_step, **measured})

    def curve(self) -> list[dict[str, float]]:
        """Returns the rows, thinned to ``MAX_ROWS`` with the last one kept."""
        step = -(-len(self.rows) // MAX_ROWS) or 1
        return self.rows[::-1][::step][::-1]

    @property
    def has_trained(self) -> bool:
        """Whether this process has trained, which a run that is resumed at its end does not."""
        return self._since is not None

    def last_metrics(self) -> dict[str, float]:
        """Returns the metrics of the last validation, which may have been before the run was resumed."""
        return {key: value for key, value in (self.rows or [{}])[-1].items() if key != "batches"}

    def cost(self, module: LightningModule, batches: int) -> dict[str, float]:
        """Returns the examples seen, the minutes and, for a game, the generator's steps."""
        values: dict[str, float] = {"examples": self.examples, "minutes": round(self._elapsed() / 60, 1)}
        if isinstance(module, (AdversarialModule, JointModule)):
            values["generator_updates"] = module.generator_updates(batches)
        return values

    def state_dict(self) -> dict[str, Any]:
        """Returns the state for a resumed run."""
        return {"rows": self.rows, "examples": self.examples, "seconds": self._elapsed(), "planned": self.planned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state from a checkpoint."""
        self.rows, self.examples = list(state_dict["rows"]), state_dict["examples"]
        self.seconds = state_dict["seconds"]
        self.planned = state_dict.get("planned")  # files of former versions do not have it

    def _elapsed(self) -> float:
        return self.seconds + (0.0 if self._since is None else time.monotonic() - self._since)


def held_out_measures(trainer: Trainer) -> dict[str, float]:
    """Returns the metrics of held-out data out of all values that a run has logged.

    Losses of players, which do not tell how good samples are, are among them only if there is nothing else.
    """
    measured = {
        name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith(("val/", "test/"))
    }
    return {name: value for name, value in measured.items() if not name.endswith("_loss")} or measured


def hardware_of(trainer: Trainer) -> str:
    """Returns what a run computes on: ``"2 x NVIDIA H200"``, or ``"CPU with AVX2, 2 threads"``."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return f"{trainer.world_size} x {torch.cuda.get_device_name(device)}"
    if device.type != "cpu":
        return f"{trainer.world_size} x {device.type}"
    threads = torch.get_num_threads()
    units = torch.backends.cpu.get_cpu_capability()
    processes = f" in each of {trainer.world_size} processes" if trainer.world_size > 1 else ""
    return f"CPU with {units}, {threads} thread{'s' if threads > 1 else ''}{processes}"


def library_versions() -> dict[str, str]:
    """Returns the versions of the libraries that write a checkpoint."""
    versions = {"python": platform.python_version()}
    for package in ("torch", "lightning", "generative-zoo"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # a checkout that was not installed
            versions[package] = "unknown"
    return versions
