"""The condition number of a generator's Jacobian, as a callback."""

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_modules.callbacks.ema import averaged_weights
from lightning_modules.metrics.generator_jacobian import NUM_CODES, evaluate_conditioning, has_grown
from lightning_modules.metrics.inversion import checked_generator
from lightning_modules.parts.checks import as_count


class GeneratorConditioning(Callback):
    """Logs ``val/log_condition_number-64``, in nats, at the end of every validation.

    It is the mean over codes of log(lambda_max / lambda_min) of J^T J, with J = dG/dz; see
    ``lightning_modules.metrics.generator_jacobian``. In ``trainer.test`` the key begins with ``test/``. Averaged
    weights are used if an ``EMA`` callback keeps them. A network that grows is measured once it has grown.

    Args:
        num_codes: Number of codes. Each costs as much as sampling ``latent_dim`` examples.
        seed: Seed of the codes; part of the protocol.

    Raises:
        ValueError: If ``num_codes`` is below 1.
    """

    def __init__(self, num_codes: int = NUM_CODES, seed: int = 0) -> None:
        self.num_codes = as_count("num_codes", num_codes)
        self.seed = seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raises TypeError, before training starts, for a module that has no generator."""
        checked_generator(pl_module, type(self).__name__)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tries a first code, so that a generator whose Jacobian has no condition number is refused before training.

        Raises:
            ValueError: If examples have fewer dimensions than codes.
        """
        if has_grown(pl_module):
            evaluate_conditioning(pl_module, num_codes=1, seed=self.seed)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs ``val/...``, except in the sanity check."""
        if not trainer.sanity_checking:
            self._measure(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs ``test/...``."""
        self._measure(trainer, pl_module, "test")

    def _measure(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        if not has_grown(module):
            return
        with averaged_weights(trainer, module):
            values = evaluate_conditioning(module, num_codes=self.num_codes, split=split, seed=self.seed)
        for name, value in values.items():
            module.log(name, value, rank_zero_only=False)
