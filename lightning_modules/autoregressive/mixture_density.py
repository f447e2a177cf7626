"""Mixture density network over pen strokes: a recurrent network with a mixture of Gaussians for the next offset.

If the next offset may be to the left or to the right, a single Gaussian has its mean in between. A mixture of
Gaussians, whose weights, means, scales and correlations a recurrent network computes at every step, does not.

Drawings of several classes begin with a state of their class. With ``ends`` the pen has a third state, which ends the
drawing (Ha and Eck, 2017, https://arxiv.org/abs/1704.03477, where the class is a code that is learned).

NOTE: Without ``ends`` the model does not predict the end of a drawing: choose the number of steps. The layers have no
skip connections, and AdamW with a bound on the gradient's norm replaces RMSProp with clipped derivatives. Mixture
density networks are by Bishop (1994, https://publications.aston.ac.uk/id/eprint/373/).

Generating Sequences With Recurrent Neural Networks (Graves, 2013), https://arxiv.org/abs/1308.0850
"""

import math
from typing import Any

from torch import Tensor

from datamodules.spec import Batch, DataSpec
from lightning_modules.autoregressive.sequence_module import SequenceModule
from lightning_modules.autoregressive.sequence_network import SequenceNetwork
from lightning_modules.autoregressive.strokes_emission import StrokeMixture
from lightning_modules.networks.sequence_cores import Recurrent
from lightning_modules.networks.text_encoder import condition_of
from lightning_modules.parts.optimizers import adamw

ARCHITECTURES = ("lstm", "gru")


class MixtureDensityRNN(SequenceModule):
    """Maximum likelihood of strokes (dx, dy, pen): -sum_t log p(x_t | x_<t), in nats per step.

    A density depends on the unit of length. If the data spec has ``scale``, the pixels per unit, all values, also those
    of training, are for pixels, nats + 2 log(scale) per step: ``val/nats_per_step-exact_pixels``. Otherwise the name
    ends in ``_own_units``. Offsets that are whole numbers have no density (the likelihood is unbounded): for data that
    were not dequantised the name ends in ``_not_dequantized``, and values cannot be compared. Values of a
    class-conditional model are given the class, and with ``ends`` they include that of the end.

    Args:
        length: Default number of steps of ``sample``.
        architecture: ``"lstm"`` or ``"gru"``.
        width: Size of the hidden state.
        num_layers: Layers.
        dropout: In [0, 1).
        num_components: Gaussians in the mixture.
        num_classes: Number of classes of a class-conditional model, or ``None``.
        ends: Whether the model predicts the end of a drawing, for data in which it is marked. Samples then have zeros
            after their end, and ``length`` is the most steps that they may have.
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
        num_classes: int | None = None,
        ends: bool = False,
        lr: float = 2e-3,
        weight_decay: float = 0.01,
        clip_norm: float | None = 1.0,
        warmup_steps: int = 0,
        decay_steps: int | None = None,
    ) -> None:
        if architecture not in ARCHITECTURES:
            raise ValueError(f"architecture={architecture!r} is not one of {', '.join(ARCHITECTURES)}.")
        if min(width, num_layers, num_components) < 1 or not 0 <= dropout < 1:
            raise ValueError(
                f"width={width}, num_layers={num_layers} and num_components={num_components} must be at least 1, and "
                f"dropout={dropout} in [0, 1)."
            )
        condition_of(num_classes, None)  # refuses a number that is too small
        emission = StrokeMixture(num_components, width, ends)
        core = Recurrent(architecture, emission.in_features, width, num_layers, dropout)
        super().__init__(
            SequenceNetwork(core, emission, num_classes),
            length,
            **adamw(lr, weight_decay, clip_norm, warmup_steps, decay_steps),
            num_classes=num_classes,
        )
        self.save_hyperparameters()

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Returns the number of steps of the longest drawing, and whether ends are marked."""
        return {"length": spec.shape[0], "ends": spec.marks_ends}

    @property
    def strokes(self) -> StrokeMixture:
        """The distribution of the next stroke."""
        emission = self.network.emission
        assert isinstance(emission, StrokeMixture)
        return emission

    def completed(self, x: Tensor) -> Tensor:
        """Returns drawings with zeros after their end."""
        return self.strokes.padded(x)

    def lengths_in(self, x: Tensor) -> Tensor | None:
        """Returns the steps of each drawing up to its end, where the model has ends."""
        return self.strokes.lengths(x) if self.hparams["ends"] else None

    def units(self) -> tuple[str, float]:
        """Returns pixels if the data spec has a scale, else the data's own units, and marks undequantised data."""
        spec = self.data_spec if self.has_data_spec else None
        suffix = "" if spec is not None and spec.is_dequantized else "_not_dequantized"
        if spec is None or spec.scale is None:
            return f"_own_units{suffix}", 0.0
        return f"_pixels{suffix}", 2 * math.log(spec.scale)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the mean of -log p over the steps of the batch, nats."""
        values, state = self.step_log_prob(batch.x, self.carried_into(batch, "train"))
        self.carry(batch, state, "train")
        return self.objective({"nats_per_step": self.likelihood_loss(batch, values)})
