"""Exposure bias of sequence models, as a callback; see ``metrics.exposure_bias``."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_modules.callbacks.ema import averaged_weights
from lightning_modules.callbacks.run import spec_of, split_to_measure
from lightning_modules.metrics.exposure_bias import (
    COMPONENTS,
    check_protocol,
    exposure_curves,
    last_of_curves,
    real_sequences,
)
from lightning_modules.metrics.protocol import check_num_samples_at_least_two, same_everywhere
from lightning_modules.metrics.sequence import Curve
from lightning_modules.parts.capabilities import SupportsContinuation

KINDS = ("tokens", "piano_roll")


class ExposureBias(Callback):
    """Logs the divergence of free-running sequences from real ones in the last window, and keeps the curves.

    Keys contain the protocol: ``val/js_2gram-prefix32-steps448to512-102`` is for steps 448 to 511 after a prefix of 32,
    and for 102 sequences against 102 others (nats); ``val/js_2gram_floor-...`` is the same divergence between real
    sequences; ``val/hidden_frechet-...`` and its floor are for the features, in units of the total variance of real
    ones. In ``trainer.test`` the keys begin with ``test/``. Averaged weights are used if an ``EMA`` callback has them.

    Args:
        prefix: Number of true steps that the model continues, at least 1.
        steps: Number of steps of the continuation.
        window: Steps per window of the curve.
        orders: The n of the n-grams.
        num_sequences: Number of sequences compared with as many others; fewer if there are fewer data.
        components: Number of principal components of the features that are compared.
        seed: Seed of the sequences; part of the protocol.

    Attributes:
        curves: The curves of the last validation or test by name, ``"js_2gram"`` or ``"hidden_frechet"``.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        prefix: int = 32,
        steps: int = 512,
        window: int = 64,
        orders: Sequence[int] = (1, 2, 3, 4),
        num_sequences: int = 250,
        components: int = COMPONENTS,
        seed: int = 0,
    ) -> None:
        check_num_samples_at_least_two(num_sequences=num_sequences)
        check_protocol(prefix, steps, window, orders, components)
        self.prefix, self.steps, self.window, self.orders = prefix, steps, window, tuple(orders)
        self.num_sequences, self.components, self.seed = num_sequences, components, seed
        self.curves: dict[str, Curve] = {}
        self._real: dict[str, Tensor] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses unsupported modules and data before training starts.

        Raises:
            ValueError: If the data are neither tokens nor piano rolls, there is no datamodule, or the split that will
                be measured has too few sequences of ``prefix + steps``.
            TypeError: If the module does not continue sequences.
        """
        if not isinstance(pl_module, SupportsContinuation):
            raise TypeError(f"ExposureBias needs {type(pl_module).__name__}.continue_sequence(prefix, length, ...).")
        spec = spec_of(trainer, pl_module)
        if spec is None or spec.kind not in KINDS or not hasattr(trainer.datamodule, "sequences"):  # type: ignore[attr-defined]
            what = "no data spec" if spec is None else f"{spec.name!r} (kind={spec.kind!r})"
            raise ValueError(
                f"ExposureBias needs {' or '.join(KINDS)} of a datamodule that has sequences(split), not {what}."
            )
        self._real.clear()  # it may be of another datamodule
        if (split := split_to_measure(trainer, stage, type(self).__name__)) is not None:
            self._real_sequences(trainer, split)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs ``val/...``, except in the sanity check."""
        if not trainer.sanity_checking:
            self._measure(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs ``test/...``."""
        self._measure(trainer, pl_module, "test")

    def _measure(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        real = self._real_sequences(trainer, split)
        with averaged_weights(trainer, module):
            self.curves = exposure_curves(
                module,
                real,
                prefix=self.prefix,
                window=self.window,
                orders=self.orders,
                components=self.components,
                seed=self.seed,
            )
        values = last_of_curves(self.curves, f"prefix{self.prefix}", len(real) // 2)
        for name, value in same_everywhere(values).items():
            module.log(f"{split}/{name}", value, rank_zero_only=False)

    def _real_sequences(self, trainer: Trainer, split: str) -> Tensor:
        if split not in self._real:
            datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
            self._real[split] = real_sequences(datamodule, split, self.prefix + self.steps, self.num_sequences)
        return self._real[split]
