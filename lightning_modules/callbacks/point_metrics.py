"""Mode coverage of models of points, as a callback: which modes of the known mixture they cover."""

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_modules.callbacks.ema import averaged_weights
from lightning_modules.callbacks.run import spec_of
from lightning_modules.metrics.modes import evaluate_points, modes_of
from lightning_modules.metrics.protocol import check_num_samples_at_least_two
from lightning_modules.parts.capabilities import SupportsSampling


class ModeCoverage(Callback):
    """Logs ``val/modes-2500``, ``val/modes_hit-2500``, ``val/high_quality-2500`` and ``val/kl-2500`` (nats).

    They are defined in ``lightning_modules.metrics.modes.ModeCoverage``. In ``trainer.test`` the keys begin with
    ``test/``. Averaged weights are used if an ``EMA`` callback keeps them.

    Args:
        num_samples: Number of sampled points, at least 2.
        seed: Seed of the points; part of the protocol.

    Raises:
        ValueError: If ``num_samples`` is below 2.
    """

    def __init__(self, num_samples: int = 2500, seed: int = 0) -> None:
        check_num_samples_at_least_two(num_samples=num_samples)
        self.num_samples = num_samples
        self.seed = seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses unsupported modules and data before training starts.

        Raises:
            ValueError: If the data are not points from a mixture with known modes.
            TypeError: If the module has no ``sample``.
        """
        if not isinstance(pl_module, SupportsSampling):
            raise TypeError(f"ModeCoverage needs {type(pl_module).__name__}.sample(num_samples, ...).")
        modes_of(spec_of(trainer, pl_module))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs ``val/...``, except in the sanity check."""
        if not trainer.sanity_checking:
            self._measure(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs ``test/...``."""
        self._measure(trainer, pl_module, "test")

    def _measure(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        spec = spec_of(trainer, module)
        modes_of(spec)
        assert spec is not None
        with averaged_weights(trainer, module):
            values = evaluate_points(module, spec=spec, num_samples=self.num_samples, split=stage, seed=self.seed)
        for name, value in values.items():
            module.log(name, value, rank_zero_only=False)
