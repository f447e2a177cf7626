"""Scheduled sampling: in training the network increasingly gets its own samples as inputs.

For each step and sequence the input is the true previous step with probability epsilon, else the step that the network
has just sampled itself; epsilon decreases during training. The loss is that of the true steps, and no gradient flows
through a sample.

NOTE: The objective is not a likelihood: for epsilon < 1 its optimum may ignore the past (Huszar, 2015,
https://arxiv.org/abs/1511.05101). Held-out values are computed with teacher forcing, so that they can be compared.

Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks (Bengio et al., 2015),
https://arxiv.org/abs/1506.03099
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.spec import Batch
from lightning_modules.autoregressive.sequence_module import SequenceModule
from lightning_modules.autoregressive.sequence_network import sequence_network
from lightning_modules.networks.sequence_cores import CONTEXT, State
from lightning_modules.parts.optimizers import adamw


@dataclass(frozen=True)
class TruthProbability:
    """epsilon_i, the probability that an input in training step i is the true token instead of a sample of the model.

    Args:
        kind: ``"linear"``: max(floor, start - slope i); ``"exponential"``: k^i; ``"inverse_sigmoid"``:
            k / (k + exp(i / k)); ``"constant"``: start.
        start: epsilon_0 of ``"linear"``, and the value of ``"constant"``; at 1 that is teacher forcing.
        slope: c of ``"linear"``, per step, above 0.
        k: k of the others: below 1 for ``"exponential"``, at least 1 for ``"inverse_sigmoid"``.
        floor: Lower bound of the value, for every kind.

    Raises:
        ValueError: If the schedule would leave [0, 1], or a setting has no effect on it.

    Scheduled Sampling (Bengio et al., 2015), https://arxiv.org/abs/1506.03099
    """

    kind: str = "inverse_sigmoid"
    start: float = 1.0
    slope: float = 0.0
    k: float = 1000.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "exponential", "inverse_sigmoid", "constant"):
            raise ValueError(f"decay={self.kind!r} is not linear, exponential, inverse_sigmoid or constant.")
        if not 0 <= self.floor <= 1 or not 0 <= self.start <= 1 or self.slope < 0:
            raise ValueError(
                f"start={self.start} and floor={self.floor} must lie in [0, 1], and slope={self.slope} must not be "
                "negative."
            )
        self._check_settings_of_the_kind()
        if self.kind == "exponential" and not 0 < self.k < 1:
            raise ValueError(f"k={self.k}: k^i lies in [0, 1] and decreases only for 0 < k < 1.")
        if self.kind == "inverse_sigmoid" and not self.k >= 1:
            raise ValueError(f"k={self.k}: k / (k + exp(i / k)) needs k >= 1.")

    def _check_settings_of_the_kind(self) -> None:
        used = {"linear": ("start", "slope"), "constant": ("start",)}.get(self.kind, ("k",))
        for name, default in (("start", 1.0), ("slope", 0.0), ("k", 1000.0)):
            if name not in used and getattr(self, name) != default:
                raise ValueError(f"{name}={getattr(self, name)} has no effect with decay={self.kind!r}; leave it out.")
        if self.kind == "linear" and self.slope == 0:
            raise ValueError(f"slope={self.slope} leaves epsilon at start={self.start}: give slope, or decay=constant.")
        if "start" in used and self.floor > self.start:
            raise ValueError(f"floor={self.floor} is above start={self.start}, which so has no effect.")

    def __call__(self, step: int) -> float:
        """Returns epsilon after ``step`` batches."""
        if self.kind == "linear":
            value = self.start - self.slope * step
        elif self.kind == "exponential":
            value = self.k**step
        elif self.kind == "inverse_sigmoid":
            value = self.k / (self.k + math.exp(min(step / self.k, 700.0)))
        else:
            value = self.start
        return max(self.floor, value)


class ScheduledSampling(SequenceModule):
    """-sum_t log p(x_t | inputs), where each input is the true step with probability epsilon_i.

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
        decay: Schedule of epsilon: ``"linear"``, ``"exponential"``, ``"inverse_sigmoid"`` or ``"constant"``.
        start: epsilon_0 of ``"linear"`` and the value of ``"constant"``; at 1 that is teacher forcing.
        slope: Decrease of ``"linear"`` per batch, above 0.
        k: Constant of the other schedules; see ``TruthProbability``.
        floor: Lower bound of epsilon.
        lr: AdamW's learning rate.
        weight_decay: AdamW's weight decay, on matrices.
        clip_norm: Bound of the gradient's norm, or ``None``; not applied under 16-bit gradient scaling.
        warmup_steps: Batches over which the learning rate rises.
        decay_steps: Batches after which it has fallen to zero along a cosine, or ``None``.

    Raises:
        ValueError: If architecture, output and data do not fit together, epsilon would leave [0, 1], or a setting has
            no effect.
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
        super().__init__(
            sequence_network(
                step_shape, vocabulary_size, architecture, width, num_layers, dropout, output, context, embedding
            ),
            length,
            **adamw(lr, weight_decay, clip_norm, warmup_steps, decay_steps),
        )
        self.save_hyperparameters()
        self.truth_probability = TruthProbability(decay, start, slope, k, floor)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the mean of -log p(x_t | inputs) over the steps of the batch, nats, and logs epsilon."""
        epsilon = self.truth_probability(self.batches_trained)
        values, state = self.scheduled_log_prob(batch.x, epsilon, self.carried_into(batch, "train"))
        self.carry(batch, state, "train")
        self.log_losses({"epsilon": torch.tensor(epsilon)}, equal_everywhere=True)
        return self.objective({"nats_per_step": self.likelihood_loss(batch, values)})

    def scheduled_log_prob(
        self, x: Tensor, epsilon: float, carried: tuple[Tensor, State] | None = None
    ) -> tuple[Tensor, State]:
        """Returns log p of every true step given the inputs up to it, nats (N, T), and the state.

        Args:
            x: Sequences (N, T, ...).
            epsilon: Probability of a true input. At 1 it is teacher forcing, all steps at once.
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
        """Returns for each row the true step or a sample of the model.

        Args:
            true_step: Shape (N, 1, ...).
            feature: Features from which the step is sampled, (N, 1, ...); no gradient flows through the sample.
            truth: Which rows get the true step, bool (N,).
        """
        with torch.no_grad():
            sampled = self.network.emission.sample(
                feature, lambda *shape: self.noise.uniform(*shape, device=feature.device)
            )
        return torch.where(truth.view(-1, *[1] * (true_step.ndim - 1)), true_step, sampled.to(true_step.dtype))
