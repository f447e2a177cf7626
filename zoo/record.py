"""What a model card tells of a run: how the measures went, how many examples were seen, how long it took."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.data import extract_batch_size

from lightning_modules.adversarial.loop import AdversarialModule

MAX_ROWS = 40  # of a curve, so that a card stays readable


class TrainingRecord(Callback):
    """Collects the curve of held-out measures and the cost of a run, over all its resumptions."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.examples = 0
        self.seconds = 0.0
        self._since: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._since = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the examples of all processes."""
        self.examples += extract_batch_size(batch) * trainer.world_size

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds a row of what was measured."""
        measured = held_out_measures(trainer)
        if measured and not trainer.sanity_checking:
            self.rows.append({"batches": trainer.global_step, **measured})

    def curve(self) -> list[dict[str, float]]:
        """Returns the rows, thinned to ``MAX_ROWS`` with the last one kept."""
        step = -(-len(self.rows) // MAX_ROWS) or 1
        return self.rows[::-1][::step][::-1]

    def cost(self, module: LightningModule, batches: int) -> dict[str, float]:
        """Returns the examples seen, the minutes and, for a game, the generator's steps."""
        values: dict[str, float] = {"examples": self.examples, "minutes": round(self._elapsed() / 60, 1)}
        if isinstance(module, AdversarialModule):
            values["generator_updates"] = module.schedule.generator_updates(batches)
        return values

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run goes on from."""
        return {"rows": self.rows, "examples": self.examples, "seconds": self._elapsed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self.rows, self.examples = list(state_dict["rows"]), state_dict["examples"]
        self.seconds = state_dict["seconds"]

    def _elapsed(self) -> float:
        return self.seconds + (0.0 if self._since is None else time.monotonic() - self._since)


def held_out_measures(trainer: Trainer) -> dict[str, float]:
    """Keeps what was measured on held-out data, out of all that a run has logged; a player's loss is no measure."""
    return {
        name: value.item()
        for name, value in trainer.callback_metrics.items()
        if name.startswith(("val/", "test/")) and not name.endswith("_loss")
    }
