"""Mixture density network over pen strokes: the pen may go here or there next, and a mixture keeps the two apart.

One Gaussian fitted to "left or right" puts the pen in between; a mixture of Gaussians, whose weights, means, widths and
correlations a recurrent network gives at every step, does not. So the network draws what nobody has drawn.

NOTE: The law says nothing of where a drawing ends: draw as many steps as you want. The layers have no skip connections,
and AdamW under a bound of the gradient's norm stands for RMSProp with clipped derivatives. The mixtures are Bishop's
(1994, https://publications.aston.ac.uk/id/eprint/373/).

Generating Sequences With Recurrent Neural Networks (Graves, 2013), https://arxiv.org/abs/1308.0850
"""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lightning_modules.autoregressive.build import SequenceNetwork
from lightning_modules.autoregressive.sequence import SequenceModule, check_clip_norm, mask
from lightning_modules.autoregressive.strokes_emission import StrokeMixture
from lightning_modules.networks.sequence import Recurrent
from lightning_modules.parts.capabilities import DataSpec

ARCHITECTURES = ("lstm", "gru")


class MixtureDensityRNN(SequenceModule):
    """Maximum likelihood of strokes (dx, dy, pen): -sum_t log p(x_t | x_<t), in nats a step.

    A density depends on the unit of length. Where the data say how many pixels their unit has, all numbers, also those
    of training, are in pixels, nats + 2 log(scale) a step: ``val/nats_per_step-exact_pixels``. Otherwise the name ends
    in ``_own_units``. Offsets that are whole numbers have no density (a spike on each is infinitely likely): numbers of
    data that were not dequantised end in ``_not_dequantized``, and compare with nothing.

    Args:
        length: Steps that ``sample`` draws by default.
        architecture: ``"lstm"`` or ``"gru"``.
        width: Size of the hidden state.
        num_layers: Layers.
        dropout: In [0, 1).
        num_components: Gaussians in the mixture.
        lr: AdamW's learning rate.
        weight_decay: AdamW's weight decay, on matrices.
        clip_norm: Bound of the gradient's norm, or ``None``; not applied under 16-bit gradient scaling.
        warmup_steps: Batches over which the learning rate rises.
        decay_steps: Batches after which it has fallen to zero along a cosine, or ``None``.

    Raises:
        ValueError: If the architecture is unknown, or a number is out of range.
    """

    kinds = ("strokes",)
    discrete = False

    def __init__(
        self,
        length: int = 157,
        architecture: str = "lstm",
        width: int = 256,
        num_layers: int = 1,
        dropout: float = 0.0,
        num_components: int = 20,
        lr: float = 2e-3,
        weight_decay: float = 0.01,
        clip_norm: float | None = 1.0,
        warmup_steps: int = 0,
        decay_steps: int | None = None,
    ) -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise ValueError(f"architecture={architecture!r} is not one of {', '.join(ARCHITECTURES)}.")
        if min(length, width, num_layers, num_components) < 1 or not 0 <= dropout < 1:
            raise ValueError(
                f"length={length}, width={width}, num_layers={num_layers} and num_components={num_components} must be "
                f"at least 1, and dropout={dropout} in [0, 1)."
            )
        check_clip_norm(clip_norm)
        self.save_hyperparameters()
        emission = StrokeMixture(num_components, width)
        self.network = SequenceNetwork(
            Recurrent(architecture, emission.in_features, width, num_layers, dropout), emission
        )

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """The longest drawing's steps."""
        return {"length": spec.shape[0]}

    def units(self) -> tuple[str, float]:
        """Pixels where the data say how many their unit has, and whether a density of them means anything."""
        spec = self.data_spec
        dequantized = spec is not None and spec.preprocessing.endswith("dequantized")
        suffix = "" if dequantized else "_not_dequantized"
        if spec is None or spec.scale is None:
            return f"_own_units{suffix}", 0.0
        return f"_pixels{suffix}", 2 * math.log(spec.scale)

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """Mean of -log p over the steps of the batch, nats."""
        if batch_idx == 0:
            self.check_batch(batch)
        x, lengths = batch[0], batch[1]
        values, state = self.step_log_prob(x, self.carried_into(batch, "train"))
        self.carry(batch, state, "train")
        nll = self.units()[1] - values
        return self.objective({"nats_per_step": self.mean_over_steps(nll, mask(lengths, x.shape[1]))})
