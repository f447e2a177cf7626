"""The two-player training loop, shared by every GAN whose losses depend on examples alone.

A named method is a final class that passes parts to this loop: a game, penalties, a constraint, optimizers, a
schedule. A method that computes something else writes its own ``training_step`` from the same parts.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.utils import parametrize

from datamodules.spec import Batch, DataSpec
from lightning_modules.adversarial.fit_of_networks import problem_with_players
from lightning_modules.adversarial.generator_samples import SamplesByGenerator
from lightning_modules.adversarial.window import RealBatches, read_window, window_state
from lightning_modules.parts.augmentation import Augmentation, unchanged
from lightning_modules.parts.batch_statistics import BatchStatistics
from lightning_modules.parts.conditions import Conditioned, check_takes_labels, given_condition, logits_of
from lightning_modules.parts.constraints import unconstrained
from lightning_modules.parts.critic_schedules import CriticSchedule, EveryNth
from lightning_modules.parts.double_backward import fast_double_backward
from lightning_modules.parts.games import Game, in_full_precision
from lightning_modules.parts.noise import fixed_normal
from lightning_modules.parts.optimizers import BuildOptimizer
from lightning_modules.parts.penalties import (
    WeightedTerm,
    check_penalised,
    due_terms,
    own_terms,
    periods,
    sharing,
    weighted_terms,
)
from lightning_modules.parts.sampling import aside
from lightning_modules.parts.schedules import Schedule
from lightning_modules.runtime.flags import refuse_coarse_precision, warn_unreached
from lightning_modules.runtime.loss_log import losses_are_read
from lightning_modules.runtime.optimization import check_parameters

Terms = dict[str, Tensor]
Stage = Callable[["AdversarialModule", int], bool]


def single_stage(module: "AdversarialModule", step: int) -> bool:
    """Default of ``stage``: keeps networks and optimizers throughout training."""
    return False


class AdversarialModule(SamplesByGenerator):
    """Alternates critic and generator steps; one batch, or one window of accumulated batches, is one critic step.

    It can also be built directly, with any two networks. It then trains, samples and writes checkpoints, but the zoo
    refuses it, because a file cannot describe how to rebuild it. Functions of the batch get the number of earlier ones.

    Args:
        generator: Maps codes (N, latent_dim) and a condition, int64 (N, ...) as in ``runtime.given_conditions``, to
            examples (N, *shape). Without a condition it may take the codes alone, as an ``nn.Sequential`` does.
        discriminator: Maps examples and a condition, or the examples alone, to logits (N,) or (N, 1).
        game: The losses of both players.
        latent_dim: Size of the code z ~ N(0, I).
        generator_optimizer: Builds the generator's optimizer from its parameters.
        discriminator_optimizer: Builds the discriminator's.
        penalties: Name to ``(weight, penalty)`` or ``WeightedTerm``: added to the discriminator's loss, in float32.
        generator_penalties: The same of the generator; they see the generator and the codes of the batch.
        constrain: Applied to the discriminator after each of its steps.
        prepare_real: Maps real examples and the number of batches to the examples that are used in their place, as
            growing networks need it.
        augment: Differentiable augmentation of all inputs of the discriminator.
        corrupt: Adds noise to all inputs of the discriminator, after augmentation.
        stage: Called before every batch with this module and the number of earlier batches, for all batches of a
            window at its start. It may change the values and buffers of the networks, but not which parameters they
            have; it returns whether the states of the optimizers are reset.
        schedule: After which critic steps the generator makes a step.
        num_classes: Number of classes of a class-conditional game, or ``None``.
        num_words: Number of words of the captions that the game is conditional on, or ``None``.
        lr_schedule: Factor of both learning rates, a ``Schedule``.
        beta2: The second of Adam's decay rates as a function of the batch, or ``None`` to keep the optimizers' own.
        clip_norm: Largest norm of each player's gradient, or ``None``; not applied under 16-bit gradient scaling.
        accumulate_batches: Batches whose gradients are accumulated for one step of each player.
        compile: Compiles both networks with ``torch.compile``, but not in penalties, which it does not differentiate.

    Raises:
        ValueError: If a number is out of range, or a penalty is given for a discriminator with batch normalisation.
    """

    value_range = (-1.0, 1.0)

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        game: Game,
        *,
        latent_dim: int,
        generator_optimizer: BuildOptimizer,
        discriminator_optimizer: BuildOptimizer,
        penalties: Mapping[str, WeightedTerm | tuple[Any, ...]] | None = None,
        generator_penalties: Mapping[str, WeightedTerm | tuple[Any, ...]] | None = None,
        constrain: Callable[[nn.Module], None] = unconstrained,
        prepare_real: Callable[[Tensor, int], Tensor] | None = None,
        augment: Augmentation = unchanged,
        corrupt: Augmentation = unchanged,
        stage: Stage = single_stage,
        schedule: CriticSchedule | None = None,
        num_classes: int | None = None,
        num_words: int | None = None,
        lr_schedule: Schedule | None = None,
        beta2: Callable[[int], float] | None = None,
        clip_norm: float | None = None,
        accumulate_batches: int = 1,
        compile: bool = False,
    ) -> None:
        super().__init__(num_classes, lr_schedule, clip_norm, num_words)
        self.automatic_optimization = False
        if latent_dim < 1 or accumulate_batches < 1:
            raise ValueError(f"latent_dim={latent_dim} and accumulate_batches={accumulate_batches} must be at least 1.")
        self.generator, self.discriminator, self.game = generator, discriminator, game
        self.latent_dim, self.accumulate_batches = latent_dim, accumulate_batches
        self.penalties, self.generator_penalties = weighted_terms(penalties), weighted_terms(generator_penalties)
        self.constrain, self.prepare_real, self.stage = constrain, prepare_real, stage
        self.augment, self.corrupt = augment, corrupt
        self.schedule, self.beta2 = schedule or EveryNth(), beta2
        self.build_optimizers = (generator_optimizer, discriminator_optimizer)
        self.real_batches: RealBatches = []
        self.restored_gradients: dict[str, Tensor] = {}
        check_penalised(self.penalties, discriminator)
        check_takes_labels(num_classes, generator, discriminator, num_words=num_words)
        # Convolutions in channels_last are a tenth to a third faster; other layers are not affected.
        self.to(memory_format=torch.channels_last)
        if compile:
            self.generator.compile()
            self.discriminator.compile()

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Returns shape and architecture: an MLP for points. Classes are opt-in: ``num_classes=...``."""
        return {"shape": list(spec.shape), "architecture": "dcgan" if spec.kind == "image" else "mlp"}

    def on_fit_start(self) -> None:
        """Raises ValueError for precisions that are too coarse for the game, or for penalties on gradients."""
        super().on_fit_start()
        refuse_coarse_precision(self.trainer, bool(self.penalties or self.generator_penalties))

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Maps codes (N, latent_dim) and the condition (int64 (N, ...), or ``None``) to examples (N, *shape)."""
        return given_condition(self.generator, z, condition)

    def logits(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Returns the discriminator's logits of examples, (N,), not in half precision; (N, 1) becomes (N,)."""
        return in_full_precision(logits_of(self.discriminator, x, condition))

    def averaged_networks(self) -> Mapping[str, nn.Module]:
        """Returns the generator, the only network that sampling uses."""
        return {"generator": self.generator}

    # Training

    def on_train_start(self) -> None:
        """Puts restored gradients into place, which Lightning clears after it has loaded; warns of a short run."""
        super().on_train_start()
        parameters = dict(self.discriminator.named_parameters())
        for name, gradient in self.restored_gradients.items():
            parameters[name].grad = gradient
        self.restored_gradients = {}
        if self._trainer is not None:
            of_both = periods(self.penalties), periods(self.generator_penalties)
            warn_unreached(self.trainer, self.schedule, self.generator_updates, *of_both, self.accumulate_batches)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Makes one critic step, and a generator step when the schedule has one."""
        generator_optimizer, discriminator_optimizer = self.optimizers()  # type: ignore[attr-defined]
        step = self.batches_trained
        last = (step + 1) % self.accumulate_batches == 0
        with self.counted_batch(generator_optimizer, discriminator_optimizer):
            self.begin_step(step, generator_optimizer, discriminator_optimizer)
            real, labels = self.real_examples(batch, step)

            with self.toggled_optimizer(discriminator_optimizer):
                if step % self.accumulate_batches == 0:
                    discriminator_optimizer.zero_grad()
                    self.real_batches = []
                losses, penalties = self.discriminator_losses(real, labels, step)
                self.accumulate(losses, penalties, self.accumulate_batches)
                if last:
                    self.take_step(discriminator_optimizer, {**losses, **penalties}, clip_norm=self.clip_norm)
            if last:
                self.constrain(self.discriminator)

            self.real_batches.append((real, labels))
            if self.generator_updates(step + 1) > self.generator_updates(step):
                with self.toggled_optimizer(generator_optimizer):
                    generator_optimizer.zero_grad()
                    for real, labels in self.real_batches:
                        losses, penalties = self.generator_losses(real, labels, step)
                        self.accumulate(losses, penalties, self.accumulate_batches)
                    self.take_step(generator_optimizer, {**losses, **penalties}, clip_norm=self.clip_norm)
            elif "generator" not in self.last_losses and losses_are_read(self.trainer, step):
                with aside(self, self.device):  # its first step is yet to come
                    self.log_losses(self.generator_game(real, labels, step)[0])
            if last:
                self.real_batches = []

    def begin_step(self, step: int, *optimizers: Any) -> None:
        """Begins a new stage if one is due, and sets the scheduled beta2.

        Raises:
            ValueError: If the stage has changed which parameters the networks have.
        """
        if step % self.accumulate_batches == 0:  # within a window, gradients of two stages would be added
            resets = [self.stage(self, later) for later in range(step, step + self.accumulate_batches)]
            if self.stage is not single_stage:
                check_parameters(optimizers, self.generator, self.discriminator)
            for optimizer in optimizers if any(resets) else ():
                optimizer.state.clear()
        if self.beta2 is not None:
            for group in [group for optimizer in optimizers for group in optimizer.param_groups]:
                group["betas"] = (group["betas"][0], self.beta2(step))

    def generator_updates(self, batches: int) -> int:
        """Returns the number of generator steps made in the first ``batches`` batches."""
        return self.schedule.generator_updates(batches // self.accumulate_batches)

    def batch_problem(self, batch: Batch) -> str | None:
        """Tries networks of the user's own, whose shape is not a hyperparameter."""
        if "shape" in self.hparams or self.prepare_real is not None or self.stage is not single_stage:
            return None
        return problem_with_players(self, batch.x, self.condition(batch))

    def real_examples(self, batch: Batch, step: int) -> tuple[Tensor, Tensor | None]:
        """Returns the real examples in channels_last, and their condition if the game has one."""
        real = batch.x if self.prepare_real is None else self.prepare_real(batch.x, step)
        if real.ndim == 4:
            real = real.contiguous(memory_format=torch.channels_last)
        return real, self.condition(batch)

    def draw_fakes(self, num: int, labels: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Generates examples for training, with gradients if they are enabled; also returns their codes and condition.

        Their condition is that of the real examples in a relativistic game, and of captions; or classes are drawn.
        """
        shared = labels is not None and (self.game.relativistic or self.num_words is not None)
        if self.class_probabilities is not None and not shared:
            labels = self.noise.categorical(self.class_probabilities, num)
        z = self.noise.normal(num, self.latent_dim, device=self.device)
        return self(z, labels), z, labels

    def seen(self, x: Tensor, step: int) -> Tensor:
        """Returns the discriminator's input: the examples, augmented, then corrupted."""
        return self.corrupt(self.augment(x, step, self.noise), step, self.noise)

    def discriminator_losses(self, real: Tensor, labels: Tensor | None, step: int) -> tuple[Terms, Terms]:
        """Returns the game's loss with the penalties on its own pass, and those with others, in float32."""
        with torch.no_grad():
            fake, _, fake_labels = self.draw_fakes(len(real), labels)
            dtype = next(self.discriminator.parameters()).dtype
            real, fake = self.seen(real, step).to(dtype), self.seen(fake, step).to(dtype)
        due, losses = due_terms(self.penalties, step), {}
        with parametrize.cached():  # one power iteration for both, as in the paper; the penalty has a graph of its own
            if shared := sharing(due, self.discriminator, self.device):
                examples = torch.cat([real, fake]).requires_grad_()
                pair = [y for y in (labels, fake_labels) if y is not None]
                with fast_double_backward():
                    logits = self.logits(examples, torch.cat(pair) if pair else None)
                losses = {name: weight * term.of_outputs(examples, logits) for name, (weight, term) in shared.items()}
                logits_real, logits_fake = logits.chunk(2)
            else:
                logits_real, logits_fake = self.logits(real, labels), self.logits(fake, fake_labels)
            logits_fake = self.logits_of_fakes(logits_fake, real, labels)
        losses = {"discriminator": self.game.discriminator(logits_real, logits_fake)} | losses
        # On a segment between examples of two classes neither label is correct; the real one is used.
        critic = Conditioned(self.discriminator, labels, fake_labels)
        return losses, own_terms(due, losses, self.device, critic, real, fake, self.noise)

    def logits_of_fakes(self, logits_fake: Tensor, real: Tensor, labels: Tensor | None) -> Tensor:
        """Hook: returns the logits of all that the discriminator is to tell from real examples: of the generated."""
        return logits_fake

    def generator_losses(self, real: Tensor, labels: Tensor | None, step: int) -> tuple[Terms, Terms]:
        """Does the same for the generator, on newly generated examples."""
        due = due_terms(self.generator_penalties, step, self.generator_updates(step))
        statistics = BatchStatistics(self.generator)
        shared = sharing(due, self.generator, self.device)
        with statistics.recorded() if shared else nullcontext():
            losses, fake, z, fake_labels = self.generator_game(real, labels, step)
        generator = Conditioned(self.generator, fake_labels, statistics=statistics)
        for name, (weight, term) in shared.items():
            losses[name] = weight * term.of_outputs(generator, z, fake, self.noise)
        return losses, own_terms(due, losses, self.device, generator, z, self.noise)

    def generator_game(self, real: Tensor, labels: Tensor | None, step: int) -> tuple[Terms, Tensor, Tensor, Any]:
        """Returns the generator's losses in the game on newly generated examples, these, and their codes and labels."""
        logits_real = None
        fake, z, fake_labels = self.draw_fakes(len(real), labels)
        with parametrize.cached():  # one power iteration for both, as in the discriminator's step
            if self.game.relativistic:
                with torch.no_grad():
                    logits_real = self.logits(self.seen(real, step), labels)
            logits_fake = self.logits(self.seen(fake, step), fake_labels)
        losses = {"generator": self.game.generator_loss(logits_fake, logits_real)}
        return losses | self.further_generator_losses(fake_labels, step), fake, z, fake_labels

    def further_generator_losses(self, labels: Tensor | None, step: int) -> Terms:
        """Hook: returns losses of the generator in games on other examples, given the condition of its batch."""
        return {}

    def held_out(self, batch: Batch, indices: Tensor, stage: str) -> Mapping[str, Tensor]:
        """Measures ``discriminator_loss``, the game's value on held-out data, without penalties."""
        real, labels = self.real_examples(batch, self.batches_trained)
        fake = self.decode(fixed_normal(indices, self.latent_dim), labels=labels)
        loss = self.game.discriminator(self.logits(real, labels), self.logits(fake, labels))
        return {"discriminator_loss": loss.expand(len(real))}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns the generator's optimizer, then the discriminator's: the order is part of the checkpoint format.

        Raises:
            ValueError: If beta2 follows a schedule, but an optimizer has none.
        """
        networks = (self.generator, self.discriminator)
        pairs = zip(self.build_optimizers, networks, strict=True)
        optimizers = [build(list(network.parameters())) for build, network in pairs]
        for optimizer in optimizers:
            if self.beta2 is not None and "betas" not in optimizer.defaults:
                raise ValueError(f"{type(optimizer).__name__} has no betas that a schedule of beta2 could set.")
        return self.scheduled_manually(*optimizers)

    def rank_state(self) -> dict[str, Tensor]:
        """Returns what has been accumulated for the next step: gradients and real examples."""
        return window_state(self.discriminator, self.real_batches)

    def load_rank_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores accumulated gradients and real examples."""
        self.restored_gradients, self.real_batches = read_window(state)
