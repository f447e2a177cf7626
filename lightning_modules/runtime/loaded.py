"""Loading a checkpoint: hyperparameters under former names, and the averaged weights that it may hold."""

from collections.abc import Mapping
from typing import Any, TypeVar

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from lightning_modules.parts.checks import not_finite
from lightning_modules.runtime.checkpoint_io import hyperparameters_of, readable
from lightning_modules.runtime.held_out import HeldOutModule

AVERAGES_KEY = "EMA"
"""Where a checkpoint keeps the state of the first callback that averages weights."""
Loaded = TypeVar("Loaded", bound="LoadedModule")


class LoadedModule(HeldOutModule):
    """Abstract: can be loaded from checkpoints of former versions, and with averaged weights."""

    renamed_hyperparameters: Mapping[str, str] = {}
    """Maps former names of hyperparameters to current ones, so that old checkpoints and configs can be read."""
    _averages: Mapping[str, Tensor] = {}

    @classmethod
    def current_names(cls, hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
        """Returns hyperparameters with former names replaced by current ones."""
        return {cls.renamed_hyperparameters.get(key, key): value for key, value in hyperparameters.items()}

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls: type[Loaded], checkpoint_path: Any, *, averaged: bool = False, **settings: Any
    ) -> Loaded:
        """Loads as Lightning does, also hyperparameters under former names, after the checks of ``checkpoint_io``.

        Args:
            checkpoint_path: The file.
            averaged: Whether to take the weights that an ``EMA`` callback averaged, those to sample with, in place of
                the weights of the last batch. Of several averages it is the first.
            **settings: Arguments of Lightning's own method, and other values of hyperparameters.

        Raises:
            ValueError: If averaged weights are wanted, and the file has none.
        """
        with readable(checkpoint_path):
            former = hyperparameters_of(checkpoint_path, settings.get("weights_only"))
            renamed = {key: value for key, value in cls.current_names(former).items() if key not in former}
            module = super().load_from_checkpoint(checkpoint_path, **{**renamed, **cls.current_names(settings)})
        if not_finite(dict(module.named_parameters())):
            rank_zero_warn(f"{checkpoint_path} holds weights that are NaN or infinite, so its results will be, too.")
        averages, module._averages = module._averages, {}
        if averaged and not averages:
            raise ValueError(f"{checkpoint_path} holds no averaged weights: its run had no EMA callback.")
        if averaged:
            module.load_state_dict(averages, strict=False)
        elif averages:
            rank_zero_info(
                "These are the weights of the last batch; load_from_checkpoint(..., averaged=True) loads the averaged "
                "ones, which the file holds, too."
            )
        return module

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Gives hyperparameters their current names, and finds the averages where a checkpoint is only loaded."""
        checkpoint["hyper_parameters"] = self.current_names(checkpoint.get("hyper_parameters", {}))
        super().on_load_checkpoint(checkpoint)
        if self._trainer is None:
            self._averages = dict(checkpoint.get("callbacks", {}).get(AVERAGES_KEY, {}).get("averages", {}))
