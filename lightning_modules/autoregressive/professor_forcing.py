"""Professor forcing: the network should behave alike whether it reads the truth or its own draws.

Beside the likelihood, a discriminator sees what the hidden state does over a whole sequence, teacher-forced and
free-running, and the model learns to make its free-running behaviour pass for teacher-forced:

    C_NLL = -sum_t log p(x_t | x_<t),    C_f = -log D(free-running behaviour),    C_t = -log(1 - D(teacher-forced)).

The discriminator learns while it is right on less than 99 % of a batch, and is listened to once it is right on more
than 75 %. No gradient flows through a draw; it flows through the states that read it.

NOTE: Behaviour is the sequence of hidden states; the drawn symbols themselves enter through the states that read them.
The discriminator judges the mean of its own states, where the authors' judges the last. In streams a free run begins
where the batch does, from the true past. Held-out numbers are of teacher forcing, so that they compare. One batch is
one step of the model, and at most one of the discriminator.

Professor Forcing: A New Algorithm for Training Recurrent Networks (Lamb et al., 2016), https://arxiv.org/abs/1610.09038
"""

from collections.abc import Sequence
from functools import partial

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.adversarial.loop import in_full_precision
from lightning_modules.autoregressive.build import sequence_network
from lightning_modules.autoregressive.sequence import SequenceModule, check_clip_norm, mask
from lightning_modules.base import count_batches_by, fused_if_possible
from lightning_modules.networks.behaviour import BehaviourDiscriminator
from lightning_modules.networks.sequence import State
from lightning_modules.parts.schedules import warmup_and_cosine


class ProfessorForcing(SequenceModule):
    """C_NLL + lambda (C_f + C_t), against a discriminator of behaviours.

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
        adversarial_weight: lambda, per sequence as the likelihood is per step; 0 for teacher forcing.
        match_teacher: Whether C_t, too, is minimised: teacher-forced behaviour is drawn towards free-running.
        discriminator_width: Units of the discriminator.
        listen_above: Share of right answers of the discriminator above which the model listens to it, in [0, 1].
        teach_below: Share below which the discriminator learns, in [0, 1].
        lr: AdamW's learning rate for the model.
        discriminator_lr: Adam's for the discriminator.
        weight_decay: AdamW's weight decay, on the model's matrices.
        clip_norm: Bound of the gradient's norm, or ``None``; not applied under 16-bit gradient scaling.
        warmup_steps: Batches over which the model's learning rate rises.
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
        context: int = 256,
        embedding: int | None = None,
        adversarial_weight: float = 1.0,
        match_teacher: bool = False,
        discriminator_width: int = 128,
        listen_above: float = 0.75,
        teach_below: float = 0.99,
        lr: float = 2e-3,
        discriminator_lr: float = 2e-4,
        weight_decay: float = 0.01,
        clip_norm: float | None = None,
        warmup_steps: int = 0,
        decay_steps: int | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        if adversarial_weight < 0 or discriminator_width < 1:
            raise ValueError(
                f"adversarial_weight={adversarial_weight} must not be negative, and "
                f"discriminator_width={discriminator_width} must be at least 1."
            )
        if not 0 <= listen_above <= 1 or not 0 <= teach_below <= 1:
            raise ValueError(
                f"listen_above={listen_above} and teach_below={teach_below} are shares of right answers: in [0, 1]."
            )
        check_clip_norm(clip_norm)
        self.save_hyperparameters()
        self.network = sequence_network(
            step_shape, vocabulary_size, architecture, width, num_layers, dropout, output, context, embedding
        )
        self.discriminator = BehaviourDiscriminator(self.network.core.out_features, discriminator_width)
        self.learning_rate_factor = warmup_and_cosine(warmup_steps, decay_steps)

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """One step of the model, and before it one of the discriminator where it is not too good already."""
        if batch_idx == 0:
            self.check_batch(batch)
        x, lengths = batch[0], batch[1]
        optimizer, discriminator_optimizer = self.optimizers()  # type: ignore[attr-defined]
        count_batches_by(optimizer, discriminator_optimizer)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.learning_rate_factor(self.batches_trained)

        carried = self.carried_into(batch, "train")
        features, state = self.read(x, carried)
        self.carry(batch, state, "train")
        nats = self.mean_over_steps(-self.network.emission.log_prob(features, x), mask(lengths, x.shape[1]))
        terms = {"nats_per_step": nats}
        if self.hparams["adversarial_weight"] == 0:
            self.descend(optimizer, terms)
            return

        taught, free = behaviour(features), behaviour(self.free_running(x, carried))
        losses, accuracy = self.discriminator_losses(taught.detach(), free.detach(), lengths)
        self.log_losses({"discriminator_accuracy": accuracy}, equal_everywhere=True)
        if accuracy < self.hparams["teach_below"]:
            self.descend(discriminator_optimizer, losses)
        with self.toggled_optimizer(optimizer):  # the discriminator only passes gradients on
            if accuracy > self.hparams["listen_above"]:
                terms |= self.adversarial_losses(taught, free, lengths)
            self.descend(optimizer, terms)

    def free_running(self, x: Tensor, carried: tuple[Tensor, State] | None = None) -> Tensor:
        """Returns the features of a run that reads its own draws, as many steps as ``x`` has, (N, T, ...).

        Args:
            x: Sequences (N, T, ...): where the run begins, and how long it is.
            carried: As in ``step_log_prob``; the run goes on from there.
        """
        before, state = (None, None) if carried is None else carried
        step, features = self.network.inputs(x[:, :1], before), []
        for _ in range(x.shape[1]):
            feature, state = self.network(step, state)
            features.append(feature)
            with torch.no_grad():
                drawn = self.network.emission.sample(feature, partial(self.noise.uniform, device=x.device))
            step = drawn.to(x.dtype)
        return torch.cat(features, 1)

    def discriminator_losses(self, taught: Tensor, free: Tensor, lengths: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Returns -log D(taught) - log(1 - D(free)), and its share of right answers on all processes.

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
        """Returns lambda C_f and, where it was asked for, lambda C_t; arguments as in ``discriminator_losses``."""
        weight = self.hparams["adversarial_weight"]
        logits = in_full_precision(self.discriminator(free, lengths))
        losses = {"free_running": weight * F.softplus(-logits).mean()}
        if self.hparams["match_teacher"]:
            logits = in_full_precision(self.discriminator(taught, lengths))
            losses["teacher_forced"] = weight * F.softplus(logits).mean()
        return losses

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The model's AdamW first, the discriminator's Adam second; the learning rate is set in ``training_step``."""
        discriminator = fused_if_possible(
            torch.optim.Adam, self.discriminator.parameters(), lr=self.hparams["discriminator_lr"], betas=(0.5, 0.999)
        )
        optimizers = [self.build_optimizer(), discriminator]
        for group in optimizers[0].param_groups:
            group["initial_lr"] = group["lr"]
        return optimizers


def behaviour(features: Tensor) -> Tensor:
    """Returns what the discriminator sees, (N, T, F): features, of video their mean over the frame."""
    return features.flatten(3).mean(3) if features.ndim > 3 else features
