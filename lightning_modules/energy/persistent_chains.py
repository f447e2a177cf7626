"""Chains of training in the model's state, so that a checkpoint can be sampled without data."""

from abc import abstractmethod
from typing import Any

from lightning_modules.likelihood import LikelihoodModule


class PersistentChains(LikelihoodModule):
    """Abstract: copies the chains of training into a buffer before validation, before every checkpoint and at the end.

    Each process has the chains of its own part of the batch (``rank_state``), so that a run resumes exactly; the buffer
    is the same on all processes.
    """

    @abstractmethod
    def keep_chains(self) -> None:
        """Copies the chains of all processes into a buffer; all must call it together."""

    def on_train_end(self) -> None:
        """Updates the buffer, so that the module samples as its last checkpoint does."""
        super().on_train_end()
        self.keep_chains()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Updates the buffer in place, so that the checkpoint, which refers to the same memory, has it."""
        self.keep_chains()
        super().on_save_checkpoint(checkpoint)
