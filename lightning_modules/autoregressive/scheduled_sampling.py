"""Scheduled sampling: in training, too, the network reads its own draws, more and more of them.

A coin for each step and sequence decides whether the network reads the true step before or the one it has just drawn
itself; the probability epsilon of the truth falls over training. The loss stays that of the true steps, and no gradient
flows through a draw.

NOTE: The objective is not a likelihood: for epsilon < 1 its optimum may ignore the past (Huszar, 2015,
https://arxiv.org/abs/1511.05101). Held-out numbers are of teacher forcing, so that they compare.

Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks (Bengio et al., 2015),
https://arxiv.org/abs/1506.03099
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.autoregressive.build import sequence_network
from lightning_modules.autoregressive.sequence import SequenceModule, check_clip_norm, mask
from lightning_modules.networks.sequence import State
from lightning_modules.parts.schedules import TruthProbability


class ScheduledSampling(SequenceModule):
    """-sum_t log p(x_t | what was read), with inputs that are true with probability epsilon_i.

    Args:
        length: Steps that ``sample`` draws by default.
        step_shape: Shape of one step: [] for tokens, [88] for frames of a piano roll, [C, H, W] for video in [0, 1].
        vocabulary_size: Symbols of a token; ``None`` for frames.
        architecture: ``"lstm"``, ``"gru"``, ``"transformer"``, or ``"conv_lstm"`` for video.
        width: Size of the hidden state.
        num_layers: Layers.
        dropout: In [0, 1).
        output: ``"independent"`` or ``"nade"`` for the notes of a frame.
        context: Steps that a transformer sees.
        embedding: Size of the embedding of a token or frame; ``None`` for the width, at most 256.
        decay: How epsilon falls: ``"linear"``, ``"exponential"``, ``"inverse_sigmoid"`` or ``"constant"``.
        start: epsilon_0 of ``"linear"`` and the value of ``"constant"``.
        slope: What ``"linear"`` falls by in a batch.
        k: Constant of the other schedules; see ``TruthProbability``.
        floor: Least epsilon.
        lr: AdamW's learning rate.
        weight_decay: AdamW's weight decay, on matrices.
        clip_norm: Bound of the gradient's norm, or ``None``; not applied under 16-bit gradient scaling.
        warmup_steps: Batches over which the learning rate rises.
        decay_steps: Batches after which it has fallen to zero along a cosine, or ``None``.

    Raises:
        ValueError: If architecture, output and data do not fit together, or epsilon would leave [0, 1].
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
        context: int = 256,
        embedding: int | None = None,
        decay: str = "inverse_sigmoid",
        start: float = 1.0,
        slope: float = 0.0,
        k: float = 1000.0,
        floor: float = 0.0,
        lr: float = 2e-3,
        weight_decay: float = 0.01,
        clip_norm: float | None = None,
        warmup_steps: int = 0,
        decay_steps: int | None = None,
    ) -> None:
        super().__init__()
        check_clip_norm(clip_norm)
        self.save_hyperparameters()
        self.truth_probability = TruthProbability(decay, start, slope, k, floor)
        self.network = sequence_network(
            step_shape, vocabulary_size, architecture, width, num_layers, dropout, output, context, embedding
        )

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """Mean of -log p(x_t | what was read) over the steps of the batch, nats; logs epsilon beside it."""
        if batch_idx == 0:
            self.check_batch(batch)
        x, lengths = batch[0], batch[1]
        epsilon = self.truth_probability(self.batches_trained)
        values, state = self.scheduled_log_prob(x, epsilon, self.carried_into(batch, "train"))
        self.carry(batch, state, "train")
        self.log_losses({"epsilon": torch.tensor(epsilon)}, equal_everywhere=True)
        return self.objective({"nats_per_step": self.mean_over_steps(-values, mask(lengths, x.shape[1]))})

    def scheduled_log_prob(
        self, x: Tensor, epsilon: float, carried: tuple[Tensor, State] | None = None
    ) -> tuple[Tensor, State]:
        """Returns log p of every true step given what was read before it, nats (N, T), and the state.

        Args:
            x: Sequences (N, T, ...).
            epsilon: Probability of reading the truth. At 1 it is teacher forcing, all steps at once.
            carried: As in ``step_log_prob``.
        """
        if epsilon >= 1:
            return self.step_log_prob(x, carried)
        before, state = (None, None) if carried is None else carried
        step = self.network.inputs(x[:, :1], before)
        truth = self.noise.uniform(*x.shape[:2], device=x.device) < epsilon
        features = []
        for t in range(x.shape[1]):
            feature, state = self.network(step, state)
            features.append(feature)
            if t + 1 < x.shape[1]:
                step = self.next_input(x[:, t : t + 1], feature, truth[:, t + 1])
        assert state is not None
        return self.network.emission.log_prob(torch.cat(features, 1), x), state

    def next_input(self, true_step: Tensor, feature: Tensor, truth: Tensor) -> Tensor:
        """Returns the true step, or the model's own draw in its place, row by row.

        Args:
            true_step: Shape (N, 1, ...).
            feature: Features that the step is drawn by, (N, 1, ...); no gradient flows through the draw.
            truth: Which rows read the truth, bool (N,).
        """
        with torch.no_grad():
            drawn = self.network.emission.sample(
                feature, lambda *shape: self.noise.uniform(*shape, device=feature.device)
            )
        return torch.where(truth.view(-1, *[1] * (true_step.ndim - 1)), true_step, drawn.to(true_step.dtype))
