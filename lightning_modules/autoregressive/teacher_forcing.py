"""Teacher forcing: every step is predicted from the true steps before it.

The likelihood of a sequence is a product of conditionals, and its gradient needs only true steps, so all steps are
trained at once. In training the network never gets its own output as input, but in sampling it does.

NOTE: With batches of streams (``continues``) the state is carried from batch to batch, and gradients stop at the
borders of batches: truncated back-propagation through time.

A Learning Algorithm for Continually Running Fully Recurrent Neural Networks (Williams and Zipser, 1989),
https://doi.org/10.1162/neco.1989.1.2.270
"""

from collections.abc import Sequence

from torch import Tensor

from datamodules.spec import Batch
from lightning_modules.autoregressive.sequence_module import SequenceModule
from lightning_modules.autoregressive.sequence_network import sequence_network
from lightning_modules.networks.sequence_cores import CONTEXT
from lightning_modules.parts.optimizers import adamw


class TeacherForcing(SequenceModule):
    """Maximum likelihood of sequences: -sum_t log p(x_t | x_<t), in nats per step.

    Args:
        length: Default number of steps of ``sample``.
        step_shape: Shape of one step: [] for tokens, [88] for frames of a piano roll, [C, H, W] for video in [0, 1].
        vocabulary_size: Symbols of a token; ``None`` for frames.
        architecture: ``"lstm"``, ``"gru"``, ``"transformer"``, or ``"conv_lstm"`` for video.
        width: Size of the hidden state.
        num_layers: Layers.
        dropout: In [0, 1).
        output: ``"independent"`` or ``"nade"`` for the notes of a frame; ``"independent"`` or ``"mixture"``, of three
            logistics, for the pixels of video.
        context: Number of steps that a transformer attends to.
        embedding: Size of the embedding of a token or frame; ``None`` for the width, at most 256.
        lr: AdamW's learning rate.
        weight_decay: AdamW's weight decay, on matrices.
        clip_norm: Bound of the gradient's norm, or ``None``; not applied under 16-bit gradient scaling.
        warmup_steps: Batches over which the learning rate rises.
        decay_steps: Batches after which it has fallen to zero along a cosine, or ``None``.

    Raises:
        ValueError: If architecture, output and data do not fit together, or a number is out of range.
    """

    def __init__(
        self,
        length: int = 256,
        step_shape: Sequence[int] = (),
        vocabulary_size: int | None = 65,
        architecture: str = "lstm",
        width: int = 256,
        num_layers: int = 1,
        dropout: float = 0.0,
        output: str = "independent",
        context: int = CONTEXT,
        embedding: int | None = None,
        lr: float = 2e-3,
        weight_decay: float = 0.01,
        clip_norm: float | None = None,
        warmup_steps: int = 0,
        decay_steps: int | None = None,
    ) -> None:
        super().__init__(
            sequence_network(
                step_shape, vocabulary_size, architecture, width, num_layers, dropout, output, context, embedding
            ),
            length,
            **adamw(lr, weight_decay, clip_norm, warmup_steps, decay_steps),
        )
        self.save_hyperparameters()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the mean of -log p over the steps of the batch, nats."""
        values, state = self.step_log_prob(batch.x, self.carried_into(batch, "train"))
        self.carry(batch, state, "train")
        return self.objective({"nats_per_step": self.likelihood_loss(batch, values)})
