"""Professor forcing: hidden states should be alike whether inputs are true steps or samples of the model.

In addition to the likelihood, a discriminator gets the hidden states of whole sequences, teacher-forced and
free-running, and the model learns free-running behaviour that the discriminator takes for teacher-forced:

    C_NLL = -sum_t log p(x_t | x_<t),    C_f = -log D(free-running behaviour),    C_t = -log(1 - D(teacher-forced)).

The discriminator is trained while its accuracy on a batch is below 99 %, and the model is trained against it while the
accuracy is above 75 %. No gradient flows through a sample, only through the states that depend on it.

NOTE: Behaviour is the sequence of hidden states; sampled symbols enter only through the states that depend on them. The
discriminator uses the mean of its own states, the authors' the last state. In streams a free run starts at the
beginning of the batch, from the true past. Held-out values are computed with teacher forcing, so that they can be
compared. One batch is one step of the model, and at most one of the discriminator.

Professor Forcing: A New Algorithm for Training Recurrent Networks (Lamb et al., 2016), https://arxiv.org/abs/1610.09038
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from datamodules.spec import Batch
from lightning_modules.autoregressive.sequence_module import SequenceModule, lengths_of
from lightning_modules.autoregressive.sequence_network import sequence_network
from lightning_modules.networks.behaviour import BehaviourDiscriminator
from lightning_modules.networks.sequence_cores import CONTEXT, State
from lightning_modules.parts.games import in_full_precision
from lightning_modules.parts.optimizers import adam_with, adamw


class ProfessorForcing(SequenceModule):
    """C_NLL + lambda (C_f + C_t), against a discriminator of behaviours.

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
        adversarial_weight: lambda, per sequence, where the likelihood is per step; 0 for teacher forcing.
        match_teacher: Whether C_t is also minimised, which moves teacher-forced behaviour towards free-running.
        discriminator_width: Units of the discriminator.
        generator_accuracy_threshold: Accuracy of the discriminator above which the model is trained against it, in
            [0, 1].
        discriminator_accuracy_threshold: Accuracy below which the discriminator is trained, in [0, 1].
        lr: AdamW's learning rate for the model.
        discriminator_lr: Adam's learning rate for the discriminator.
        weight_decay: AdamW's weight decay, on the model's matrices.
        clip_norm: Bound of the gradient's norm, or ``None``; not applied under 16-bit gradient scaling.
        warmup_steps: Batches over which the model's learning rate rises.
        decay_steps: Batches after which it has fallen to zero along a cosine, or ``None``.

    Raises:
        ValueError: If architecture, output and data do not fit together, or a number is out of range.
    """

    renamed_hyperparameters: Mapping[str, str] = {
        "listen_above": "generator_accuracy_threshold",
        "teach_below": "discriminator_accuracy_threshold",
    }

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
        adversarial_weight: float = 1.0,
        match_teacher: bool = False,
        discriminator_width: int = 128,
        generator_accuracy_threshold: float = 0.75,
        discriminator_accuracy_threshold: float = 0.99,
        lr: float = 2e-3,
        discriminator_lr: float = 2e-4,
        weight_decay: float = 0.01,
        clip_norm: float | None = None,
        warmup_steps: int = 0,
        decay_steps: int | None = None,
    ) -> None:
        if adversarial_weight < 0 or discriminator_width < 1 or discriminator_lr <= 0:
            raise ValueError(
                f"adversarial_weight={adversarial_weight} must not be negative, discriminator_width="
                f"{discriminator_width} at least 1 and discriminator_lr={discriminator_lr} positive."
            )
        if not 0 <= generator_accuracy_threshold <= 1 or not 0 <= discriminator_accuracy_threshold <= 1:
            raise ValueError(
                f"generator_accuracy_threshold={generator_accuracy_threshold} and discriminator_accuracy_threshold="
                f"{discriminator_accuracy_threshold} must lie in [0, 1]."
            )
        super().__init__(
            sequence_network(
                step_shape, vocabulary_size, architecture, width, num_layers, dropout, output, context, embedding
            ),
            length,
            **adamw(lr, weight_decay, clip_norm, warmup_steps, decay_steps),
        )
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.discriminator = BehaviourDiscriminator(self.network.core.out_features, discriminator_width)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Makes one step of the model, and before it one of the discriminator if its accuracy is low enough."""
        optimizer, discriminator_optimizer = self.optimizers()  # type: ignore[attr-defined]
        with self.counted_batch(optimizer):
            carried = self.carried_into(batch, "train")
            features, state = self.read(batch.x, carried)
            self.carry(batch, state, "train")
            log_prob = self.network.emission.log_prob(features, batch.x)
            terms = {"nats_per_step": self.likelihood_loss(batch, log_prob)}
            if self.hparams["adversarial_weight"] == 0:
                self.descend(optimizer, terms, clip_norm=self.clip_norm)
                return

            lengths = lengths_of(batch)
            taught, free = behaviour(features), behaviour(self.free_running(batch.x, carried))
            losses, accuracy = self.discriminator_losses(taught.detach(), free.detach(), lengths)
            self.log_losses({"discriminator_accuracy": accuracy}, equal_everywhere=True)
            self.log_losses(losses)  # also of batches in which the discriminator makes no step
            if accuracy < self.hparams["discriminator_accuracy_threshold"]:
                self.descend(discriminator_optimizer, losses)
            with self.toggled_optimizer(optimizer):  # the discriminator's weights get no gradients here
                if accuracy > self.hparams["generator_accuracy_threshold"]:
                    terms |= self.adversarial_losses(taught, free, lengths)
                self.descend(optimizer, terms, clip_norm=self.clip_norm)

    def free_running(self, x: Tensor, carried: tuple[Tensor, State] | None = None) -> Tensor:
        """Returns the features (N, T, ...) of a run whose inputs are its own samples, as long as ``x``.

        Args:
            x: Sequences (N, T, ...), which give the number and the length of the runs.
            carried: As in ``step_log_prob``; the run continues from there.
        """
        before, state = (None, None) if carried is None else carried
        step, features = self.network.inputs(x[:, :1], before), []
        for _ in range(x.shape[1]):
            feature, state = self.network(step, state)
            features.append(feature)
            with torch.no_grad():
                sampled = self.network.emission.sample(feature, partial(self.noise.uniform, device=x.device))
            step = sampled.to(x.dtype)
        return torch.cat(features, 1)

    def discriminator_losses(self, taught: Tensor, free: Tensor, lengths: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Returns -log D(taught) - log(1 - D(free)), and the discriminator's accuracy over all processes.

        Args:
            taught: Teacher-forced behaviour, (N, T, F).
            free: Free-running behaviour, (N, T, F).
            lengths: int64 (N,).
        """
        logits_taught, logits_free = (
            in_full_precision(self.discriminator(either, lengths)) for either in (taught, free)
        )
        right = torch.cat([logits_taught > 0, logits_free < 0]).float().mean()
        loss = F.softplus(-logits_taught).mean() + F.softplus(logits_free).mean()
        return {"discriminator": loss}, self.trainer.strategy.reduce(right, reduce_op="mean")

    def adversarial_losses(self, taught: Tensor, free: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Returns lambda C_f and, with ``match_teacher``, lambda C_t; arguments as in ``discriminator_losses``."""
        weight = self.hparams["adversarial_weight"]
        logits = in_full_precision(self.discriminator(free, lengths))
        losses = {"free_running": weight * F.softplus(-logits).mean()}
        if self.hparams["match_teacher"]:
            logits = in_full_precision(self.discriminator(taught, lengths))
            losses["teacher_forced"] = weight * F.softplus(logits).mean()
        return losses

    def further_optimizers(self) -> list[Optimizer]:
        """Returns Adam for the discriminator."""
        return [adam_with(self.hparams["discriminator_lr"], (0.5, 0.999))(self.discriminator.parameters())]


def behaviour(features: Tensor) -> Tensor:
    """Returns the discriminator's input (N, T, F): the features; for video their mean over the frame."""
    return features.flatten(3).mean(3) if features.ndim > 3 else features
