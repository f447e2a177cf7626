"""Mode coverage of models of points: which modes of the known mixture they have found.

Samples come by the block protocol, so that the number does not depend on processes or batch size.
"""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from lightning_modules.callbacks.ema import averaged_weights
from lightning_modules.callbacks.generation_measure import check_num_judged, data_spec, short_count
from lightning_modules.callbacks.judged_blocks import sample_blocks
from lightning_modules.parts.capabilities import DataSpec, Samples
from lightning_modules.parts.mode_coverage import mode_coverage


class ModeCoverage(Callback):
    """Logs ``val/modes-2500``, ``val/modes_hit-2500``, ``val/high_quality-2500`` and ``val/kl-2500`` (nats).

    See ``lightning_modules.parts.mode_coverage.ModeCoverage`` for what they are. In ``trainer.test`` the
    keys begin with ``test/``. Averaged weights are used where an ``EMA`` callback keeps them.

    Args:
        num_samples: Points judged, at least 2.
        seed: Seed of the points; part of the protocol.

    Raises:
        ValueError: If ``num_samples`` is below 2.
    """

    def __init__(self, num_samples: int = 2500, seed: int = 0) -> None:
        check_num_judged(num_samples=num_samples)
        self.num_samples = num_samples
        self.seed = seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses what has no modes before training starts.

        Raises:
            ValueError: If the data are no points, or no mixture.
            TypeError: If the module has no ``sample``.
        """
        if not isinstance(pl_module, Samples):
            raise TypeError(f"ModeCoverage needs {type(pl_module).__name__}.sample(num_samples, ...).")
        modes_of(data_spec(trainer, pl_module))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs ``val/...``, except in the sanity check."""
        if not trainer.sanity_checking:
            self._measure(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs ``test/...``."""
        self._measure(trainer, pl_module, "test")

    def _measure(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        spec = data_spec(trainer, module)
        modes_of(spec)
        assert spec is not None
        with averaged_weights(trainer, module):
            values = evaluate_points(module, spec=spec, num_samples=self.num_samples, split=stage, seed=self.seed)
        for name, value in values.items():
            module.log(name, value, rank_zero_only=False)


def evaluate_points(
    module: nn.Module, *, spec: DataSpec, num_samples: int = 2500, split: str = "test", seed: int = 0
) -> dict[str, float]:
    """Measures the mode coverage of what a module samples, with the weights it has.

    Args:
        module: Something that ``Samples``.
        spec: Has ``modes`` and ``mode_scale``.
        num_samples: Points judged, at least 2.
        split: First word of the names; the modes are known, so no split is looked at.
        seed: Seed of the protocol.

    Returns:
        Values by names that carry the protocol: ``"test/modes-2500"``.

    Raises:
        ValueError: If ``num_samples`` is too small, the data have no modes, or a sample is not finite.
    """
    check_num_judged(num_samples=num_samples)
    modes, scale = modes_of(spec)
    samples = sample_blocks(module, num_samples, spec.shape, seed=seed)
    found = mode_coverage(samples, modes, scale)
    return {f"{split}/{name}-{short_count(num_samples)}": float(value) for name, value in found._asdict().items()}


def modes_of(spec: DataSpec | None) -> tuple[torch.Tensor, float]:
    """Returns the modes (M, D) of a mixture, and their standard deviation.

    Raises:
        ValueError: If the spec is not one of points with modes.
    """
    if spec is None or spec.kind != "points" or not spec.modes or spec.mode_scale is None:
        what = "no data spec" if spec is None else f"{spec.name!r} (kind={spec.kind!r}, {len(spec.modes)} modes)"
        raise ValueError(
            f"Mode coverage needs points from a mixture with known modes, such as Ring or Grid, not {what}."
        )
    return torch.tensor(spec.modes), spec.mode_scale
