"""The two-player loop shared by every GAN whose game is played on examples alone.

A named method is a final class that binds parts to this loop: a game, penalties, a constraint, optimizers, a
schedule. A method that changes what is computed writes its own ``training_step`` out of the same parts.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from lightning_modules.base import GenerativeModule, count_batches_by
from lightning_modules.parts.capabilities import DataSpec
from lightning_modules.parts.games import Game
from lightning_modules.parts.noise import draw_normal, new_generator
from lightning_modules.parts.penalties import Penalty
from lightning_modules.parts.sampling import CHUNK, check_labels, check_num_samples, choose_labels, evaluating
from lightning_modules.parts.schedules import CriticSchedule, EveryNth, linear_decay

BuildOptimizer = Callable[[list[nn.Parameter]], Optimizer]


def in_full_precision(logits: Tensor) -> Tensor:
    """Returns half-precision logits as float32: a mean of them would be rounded to three digits."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def unconstrained(network: nn.Module) -> None:
    """Leaves the discriminator as its optimizer made it."""


class AdversarialModule(GenerativeModule):
    """Alternates critic and generator steps; one batch is one critic step.

    Built directly, with networks of one's own, it trains, samples and checkpoints; only the zoo refuses it, because
    a file cannot say how to build it again. It keeps no ``shape`` then, and compares nothing with the data.

    Args:
        generator: Maps codes (N, latent_dim) and labels (N,) or ``None`` to examples (N, *shape).
        discriminator: Maps examples and labels to logits (N,).
        game: What each player minimises.
        latent_dim: Size of the code z ~ N(0, I).
        generator_optimizer: Builds the generator's optimizer from its parameters.
        discriminator_optimizer: Builds the discriminator's.
        penalties: Name to (weight, penalty): added to the discriminator's loss, in full precision.
        constrain: Applied to the discriminator after each of its steps.
        schedule: When the generator moves.
        num_classes: Number of classes of a class-conditional game, or ``None``.
        decay_steps: Batches after which both learning rates have fallen linearly to zero, or ``None``.
        compile: Compiles both networks with ``torch.compile``. Penalties run uncompiled: their second derivative is
            not supported by it.

    Raises:
        ValueError: If a number is out of range, or a penalty meets a discriminator with batch normalisation.
    """

    value_range = (-1.0, 1.0)
    class_probabilities: Tensor | None

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        game: Game,
        *,
        latent_dim: int,
        generator_optimizer: BuildOptimizer,
        discriminator_optimizer: BuildOptimizer,
        penalties: Mapping[str, tuple[float, Penalty]] | None = None,
        constrain: Callable[[nn.Module], None] = unconstrained,
        schedule: CriticSchedule | None = None,
        num_classes: int | None = None,
        decay_steps: int | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        if latent_dim < 1:
            raise ValueError(f"latent_dim={latent_dim} must be at least 1.")
        self.generator, self.discriminator, self.game = generator, discriminator, game
        self.latent_dim, self.num_classes = latent_dim, num_classes
        self.penalties, self.constrain = dict(penalties or {}), constrain
        self.schedule = schedule or EveryNth()
        self.build_optimizers = (generator_optimizer, discriminator_optimizer)
        self.decay_steps, self.decay = decay_steps, linear_decay(decay_steps)
        self.register_buffer(
            "class_probabilities", None if num_classes is None else torch.full((num_classes,), 1 / num_classes)
        )
        if self.penalties and any(isinstance(layer, _BatchNorm) for layer in discriminator.modules()):
            raise ValueError(
                f"The penalty {', '.join(self.penalties)} is a mean over examples, which batch normalisation in the "
                "discriminator ties together; build it without (batch_norm=false)."
            )
        # Convolutions in channels_last are a tenth to a third faster; on other layers it changes nothing.
        self.to(memory_format=torch.channels_last)
        if compile:
            self.generator.compile()
            self.discriminator.compile()

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Shape from the data; points need the multi-layer perceptron. Classes are opt-in: ``num_classes=...``."""
        return {"shape": list(spec.shape), "architecture": "dcgan" if spec.kind == "image" else "mlp"}

    def setup(self, stage: str) -> None:
        """Takes the class frequencies of the data, by which unlabelled requests are answered."""
        super().setup(stage)
        counts = self.data_spec.class_counts if self.data_spec is not None else ()
        if self.class_probabilities is not None and counts:
            weights = torch.tensor(counts, dtype=torch.float32, device=self.class_probabilities.device)
            self.class_probabilities.copy_(weights / weights.sum())

    def on_fit_start(self) -> None:
        """Refuses what would train wrongly in silence.

        Raises:
            ValueError: If the run goes on after the learning rate has reached zero, or half precision meets a penalty.
        """
        if self.decay_steps is not None and self.trainer.max_steps > self.decay_steps:
            raise ValueError(
                f"max_steps={self.trainer.max_steps} goes beyond decay_steps={self.decay_steps}, where the learning "
                f"rate reaches zero; set decay_steps={self.trainer.max_steps} (--model.decay_steps), or null."
            )
        if self.penalties and str(self.trainer.precision) in ("16-mixed", "16-true", "bf16-true"):
            raise ValueError(
                f"precision={self.trainer.precision!r} is too coarse for the gradient of an input-gradient penalty; "
                "use 'bf16-mixed', which computes the penalty in full precision."
            )

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Maps codes (N, latent_dim) to examples (N, *shape)."""
        return self.generator(z, labels)

    def averaged_networks(self) -> Mapping[str, nn.Module]:
        """Sampling uses the generator alone."""
        return {"generator": self.generator}

    # Training

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """One critic step, and a generator step when the schedule says so."""
        if batch_idx == 0:
            self.check_batch(batch)
        real, labels = self.receive(batch)
        generator_optimizer, discriminator_optimizer = self.optimizers()  # type: ignore[attr-defined]
        count_batches_by(discriminator_optimizer, generator_optimizer)
        batches = self.global_step + 1
        for group in generator_optimizer.param_groups + discriminator_optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.decay(batches - 1)

        with self.toggled_optimizer(discriminator_optimizer):
            self.descend(discriminator_optimizer, *self.discriminator_losses(real, labels))
        self.constrain(self.discriminator)

        if self.schedule.generator_updates(batches) > self.schedule.generator_updates(batches - 1):
            with self.toggled_optimizer(generator_optimizer):
                self.descend(generator_optimizer, self.generator_losses(len(real)))

    def receive(self, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Returns the real examples in channels_last, and their labels if the game is class-conditional."""
        real = batch[0]
        if real.ndim == 4:
            real = real.contiguous(memory_format=torch.channels_last)
        return real, batch[1] if self.num_classes is not None else None

    def draw_fakes(self, num: int) -> tuple[Tensor, Tensor | None]:
        """Draws training fakes, with gradients if they are on, and the labels they were asked to have."""
        labels = None if self.class_probabilities is None else self.noise.categorical(self.class_probabilities, num)
        return self(self.noise.normal(num, self.latent_dim, device=self.device), labels), labels

    def discriminator_losses(
        self, real: Tensor, labels: Tensor | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """Returns the game's term, and the weighted penalties for the full-precision island."""
        with torch.no_grad():
            fake, fake_labels = self.draw_fakes(len(real))
        with parametrize.cached():  # one power iteration for both, as in the paper; the penalty has a graph of its own
            logits_real = in_full_precision(self.discriminator(real, labels))
            logits_fake = in_full_precision(self.discriminator(fake, fake_labels))
        losses = {"discriminator": self.game.discriminator(logits_real, logits_fake)}
        if not self.penalties:
            return losses, None
        # On a segment between pictures of two classes neither label is right; the real one's is as good as any.
        critic = partial(self.discriminator.forward, labels=labels)
        dtype = next(self.discriminator.parameters()).dtype
        with torch.autocast(self.device.type, enabled=False):
            return losses, {
                name: weight * penalty(critic, real.to(dtype), fake.to(dtype), self.noise)
                for name, (weight, penalty) in self.penalties.items()
            }

    def generator_losses(self, num: int) -> dict[str, Tensor]:
        """Returns what the generator minimises, on fresh fakes."""
        fake, labels = self.draw_fakes(num)
        return {"generator": self.game.generator(in_full_precision(self.discriminator(fake, labels)))}

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Logs ``val/discriminator_loss``, the game's value on held-out data, penalties left out."""
        real, labels = self.receive(batch)
        seed = batch_idx * self.trainer.world_size + self.global_rank
        fake = self.sample(len(real), labels=labels, generator=torch.Generator().manual_seed(seed))
        logits_real, logits_fake = self.discriminator(real, labels), self.discriminator(fake, labels)
        loss = self.game.discriminator(in_full_precision(logits_real), in_full_precision(logits_fake))
        self.log("val/discriminator_loss", loss, sync_dist=True, batch_size=len(real))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Generator first, discriminator second: the order is part of the checkpoint format.

        The learning rate is a function of the batch alone, set in ``training_step``: a scheduler object would count
        the steps of its own optimizer, and the generator's may not have made one yet.
        """
        optimizers = [
            build(list(network.parameters()))
            for build, network in zip(self.build_optimizers, (self.generator, self.discriminator), strict=True)
        ]
        for group in [group for optimizer in optimizers for group in optimizer.param_groups]:
            group["initial_lr"] = group["lr"]
        return optimizers

    # Sampling

    def sample_latent(self, num_samples: int, *, generator: Generator | None = None) -> Tensor:
        """Draws codes z ~ N(0, I), shape (num_samples, latent_dim)."""
        check_num_samples(num_samples)
        return draw_normal((num_samples, self.latent_dim), generator or new_generator(), self.device)

    def decode(self, z: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Maps codes (N, latent_dim) to examples (N, *shape) in evaluation mode.

        Raises:
            ValueError: Unless there is one label a code for a class-conditional model, and none for another.
        """
        z = z.to(self.device, next(self.generator.parameters()).dtype)
        chunks = z.split(CHUNK)
        if self.class_probabilities is None and labels is None:
            asked: Sequence[Tensor | None] = [None] * len(chunks)
        else:
            asked = check_labels(labels, len(z), self.class_probabilities).split(CHUNK)
        with evaluating(self):
            return torch.cat([self.generator(*pair) for pair in zip(chunks, asked, strict=True)])

    def sample(self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        """Draws examples, shape (num_samples, *shape); pictures in [-1, 1].

        Args:
            num_samples: How many, at least 1.
            labels: Classes to draw, int64 (num_samples,), for a class-conditional model; ``None`` draws them by
                their frequency in training.
            generator: Source of all randomness; ``None`` takes a fresh seed from the system. The global random
                state is never touched.

        Raises:
            ValueError: If ``num_samples`` is not positive, or ``labels`` do not fit the model.
        """
        check_num_samples(num_samples)
        generator = generator or new_generator()
        labels = choose_labels(labels, num_samples, self.class_probabilities, generator)
        return self.decode(self.sample_latent(num_samples, generator=generator), labels=labels)
