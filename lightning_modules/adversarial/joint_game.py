"""Adversarial games over pairs (x, z): a generator and an encoder against a discriminator that sees both.

The discriminator tells two kinds of pairs apart, data with their codes, and what the model makes of its own accord:

    clamped pair       x ~ data,                                             z ~ q(z|x),
    unclamped pair     z_0 ~ N(0, I), then N times x ~ p(x|z), z ~ q(z|x),   x ~ p(x|z),

with N = 0 in adversarially learned inference and N > 0 in GibbsNet. The generator p(x|z) and the encoder q(z|x) are
trained together, to exchange the two kinds of pairs in its judgement; both kinds depend on one of them at least.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor, nn
from torch.nn.utils import parametrize

from datamodules.spec import Batch, DataSpec
from lightning_modules.adversarial.fit_of_networks import problem_with_joint_players, problem_with_spread
from lightning_modules.base import GenerativeModule
from lightning_modules.parts.checks import as_count, check_counts
from lightning_modules.parts.conditionals import Conditional, DiagonalGaussian, PointMass
from lightning_modules.parts.conditions import PairCritic, as_vectors, logits_of, takes_condition
from lightning_modules.parts.critic_schedules import CriticSchedule, EveryNth
from lightning_modules.parts.games import cross_entropy, in_full_precision
from lightning_modules.parts.noise import Draws, FixedNoise, Noise, new_generator
from lightning_modules.parts.optimizers import BuildOptimizer
from lightning_modules.parts.penalties import (
    WeightedTerm,
    check_penalised,
    due_terms,
    own_terms,
    periods,
    weighted_terms,
)
from lightning_modules.parts.sampling import (
    CHUNK,
    aside,
    averages_kept,
    check_num_samples,
    choose_labels,
    evaluating,
    in_type_of,
)
from lightning_modules.parts.schedules import Schedule
from lightning_modules.runtime.flags import refuse_coarse_precision, warn_unreached
from lightning_modules.runtime.loss_log import losses_are_read

Pair = tuple[Tensor, Tensor]
"""Examples (N, *shape) and codes (N, latent_dim)."""
Terms = dict[str, Tensor]
"""Name to a term of a loss, scalar."""


class JointModule(GenerativeModule):
    """Alternates steps of the discriminator, and of generator and encoder together; one batch is one of the former.

    It can also be built directly, with any three networks. It then trains, samples, encodes and writes checkpoints, but
    the zoo refuses it, because a file cannot describe how to rebuild it.

    Args:
        generator: Maps codes (N, latent_dim) to the parameters of p(x|z): for a ``PointMass`` the examples (N, *shape).
        encoder: Maps examples to the parameters of q(z|x): for a ``DiagonalGaussian`` means and log-scales
            (N, 2 * latent_dim).
        discriminator: Maps examples and codes to logits (N,) or (N, 1).
        latent_dim: Size of the code z.
        player_optimizer: Builds the optimizer of generator and encoder from their parameters.
        discriminator_optimizer: Builds the discriminator's.
        steps: N, steps of the unclamped chain.
        likelihood: p(x|z), given the generator's outputs.
        posterior: q(z|x), given the encoder's outputs.
        penalties: Name to ``(weight, penalty)`` or ``WeightedTerm``, of gradients by x and z together: added to the
            discriminator's loss, in float32.
        schedule: After which steps of the discriminator generator and encoder make one.
        lr_schedule: Factor of both learning rates.
        clip_norm: Largest norm of each player's gradient, or ``None``; not applied under 16-bit gradient scaling.
        compile: Compiles the three networks with ``torch.compile``, but not in penalties.

    Raises:
        ValueError: If a number is out of range, the discriminator takes examples alone, or there is a penalty and batch
            normalisation in it.
    """

    value_range = (-1.0, 1.0)

    def __init__(
        self,
        generator: nn.Module,
        encoder: nn.Module,
        discriminator: nn.Module,
        *,
        latent_dim: int,
        player_optimizer: BuildOptimizer,
        discriminator_optimizer: BuildOptimizer,
        steps: int = 0,
        likelihood: Conditional | None = None,
        posterior: Conditional | None = None,
        penalties: Mapping[str, WeightedTerm | tuple[Any, ...]] | None = None,
        schedule: CriticSchedule | None = None,
        lr_schedule: Schedule | None = None,
        clip_norm: float | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(None, lr_schedule, clip_norm)
        check_counts(latent_dim=latent_dim)
        if not takes_condition(discriminator):
            raise ValueError(
                f"The discriminator {type(discriminator).__name__} takes one argument, but a joint game needs one "
                "whose forward takes (x, z)."
            )
        self.automatic_optimization = False
        self.generator, self.encoder, self.discriminator = generator, encoder, discriminator
        self.likelihood, self.posterior = likelihood or PointMass(), posterior or DiagonalGaussian()
        self.latent_dim, self.steps = latent_dim, as_count("steps", steps, 0)
        self.penalties, self.schedule = weighted_terms(penalties), schedule or EveryNth()
        check_penalised(self.penalties, discriminator)
        self.build_optimizers = (player_optimizer, discriminator_optimizer)
        # Convolutions in channels_last are a tenth to a third faster; other layers are not affected.
        self.to(memory_format=torch.channels_last)
        if compile:
            for network in (generator, encoder, discriminator):
                network.compile()

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Returns shape and architecture: an MLP for points."""
        return {"shape": list(spec.shape), "architecture": "dcgan" if spec.kind == "image" else "mlp"}

    def on_fit_start(self) -> None:
        """Raises ValueError for precisions that are too coarse for the game, or for penalties on gradients."""
        super().on_fit_start()
        refuse_coarse_precision(self.trainer, bool(self.penalties))

    def on_train_start(self) -> None:
        """Warns of a run that is too short for a step of the generator, or for a lazy penalty."""
        super().on_train_start()
        if self._trainer is not None:
            warn_unreached(self.trainer, self.schedule, self.generator_updates, periods(self.penalties), {})

    def batch_problem(self, batch: Batch) -> str | None:
        """Tries networks of the user's own, whose shape is not a hyperparameter."""
        return None if "shape" in self.hparams else problem_with_joint_players(self, batch.x)

    def problem_with_size(self, batch: Batch) -> str | None:
        """Refuses a batch without spread."""
        return problem_with_spread(self, batch.x)

    def forward(self, z: Tensor) -> Tensor:
        """Maps codes (N, latent_dim) to E[x|z], (N, *shape)."""
        return self.likelihood.mean(self.generator(z))

    def averaged_networks(self) -> Mapping[str, nn.Module]:
        """Returns generator and encoder: samples and reconstructions use both."""
        return {"generator": self.generator, "encoder": self.encoder}

    # Pairs

    def draw_examples(self, z: Tensor, noise: Draws) -> Tensor:
        """Draws x ~ p(x|z) for codes (N, latent_dim), (N, *shape), with gradients."""
        return in_type_of(self.encoder, self.likelihood.draw(self.generator(z), noise))

    def draw_codes(self, x: Tensor, noise: Draws) -> Tensor:
        """Draws z ~ q(z|x) for examples (N, *shape), (N, latent_dim), with gradients."""
        return in_type_of(self.generator, self.posterior.draw(self.encoder(x), noise))

    def draw_unclamped_codes(self, num: int, steps: int, noise: Draws) -> Tensor:
        """Draws codes z_N (num, latent_dim) of the unclamped chain after N = ``steps`` steps.

        Gradients flow through the last draw z_N ~ q(z|x) alone. In training, batch normalisation takes in each step the
        statistics of its own batch, without which the chain loses its spread while the networks change.
        """
        z = in_type_of(self.generator, noise.normal(num, self.latent_dim, device=self.device))
        if steps == 0:
            return z
        with torch.no_grad():
            for _ in range(steps - 1):
                z = self.draw_codes(self.draw_examples(z, noise), noise)
            x = self.draw_examples(z, noise)
        torch.clear_autocast_cache()  # torch 2.6 would use weights again that were cast to 16 bits without gradients
        return self.draw_codes(x, noise)

    def pairs(self, x: Tensor, noise: Draws) -> tuple[Pair, Pair]:
        """Returns the clamped pair of examples x (N, *shape), and as many unclamped pairs, with gradients.

        Running averages of batch normalisation follow the chain alone if it has steps, as samples are the chain's:
        averages that data have part in are a little off in each of its steps, until its spread is lost.
        """
        with averages_kept(self) if self.steps else nullcontext():
            clamped = (x, self.draw_codes(x, noise))
        codes = self.draw_unclamped_codes(len(x), self.steps, noise)
        return clamped, (self.draw_examples(codes, noise), codes)

    def game_loss(self, judged_real: Pair, judged_fake: Pair) -> Tensor:
        """Returns -E log D(first pair) - E log(1 - D(second pair)), a scalar.

        The discriminator minimises it of (clamped, unclamped), and generator and encoder of (unclamped, clamped): the
        non-saturating form, in which neither gradient vanishes where the discriminator is sure.
        """
        with parametrize.cached():  # one power iteration for both
            real, fake = (logits_of(self.discriminator, *pair) for pair in (judged_real, judged_fake))
        return cross_entropy(in_full_precision(real), in_full_precision(fake))

    # Training

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Makes a step of the discriminator, and one of generator and encoder on the same pairs if it is due."""
        player_optimizer, discriminator_optimizer = self.optimizers()  # type: ignore[attr-defined]
        step = self.batches_trained
        due = self.generator_updates(step + 1) > self.generator_updates(step)
        with self.counted_batch(player_optimizer, discriminator_optimizer):
            with torch.set_grad_enabled(due):
                clamped, unclamped = self.pairs(self.real_examples(batch), self.noise)

            with self.toggled_optimizer(discriminator_optimizer):
                losses, penalties = self.discriminator_losses(detached(clamped), detached(unclamped), step)
                self.descend(discriminator_optimizer, losses, penalties, clip_norm=self.clip_norm)

            if due:
                with self.toggled_optimizer(player_optimizer):
                    loss = self.game_loss(unclamped, clamped)
                    self.descend(player_optimizer, {"generator_and_encoder": loss}, clip_norm=self.clip_norm)
            elif "generator_and_encoder" not in self.last_losses and losses_are_read(self.trainer, step):
                with aside(self, self.device):  # their first step is yet to come
                    self.log_losses({"generator_and_encoder": self.game_loss(unclamped, clamped)})

    def discriminator_losses(self, clamped: Pair, unclamped: Pair, step: int) -> tuple[Terms, Terms]:
        """Returns the discriminator's loss in the game, and the penalties that are due, in float32."""
        losses = {"discriminator": self.game_loss(clamped, unclamped)}
        if not (due := due_terms(self.penalties, step)):
            return losses, {}
        critic = PairCritic(self.discriminator, clamped[0].shape[1:])
        dtype = next(self.discriminator.parameters()).dtype
        vectors = [as_vectors(*pair).to(dtype) for pair in (clamped, unclamped)]
        return losses, own_terms(due, losses, self.device, critic, *vectors, self.noise)

    def generator_updates(self, batches: int) -> int:
        """Returns the number of steps of generator and encoder made in the first ``batches`` batches."""
        return self.schedule.generator_updates(batches)

    def real_examples(self, batch: Batch) -> Tensor:
        """Returns the real examples in channels_last."""
        return batch.x.contiguous(memory_format=torch.channels_last) if batch.x.ndim == 4 else batch.x

    def held_out(self, batch: Batch, indices: Tensor, stage: str) -> Mapping[str, Tensor]:
        """Measures the game's value ``discriminator_loss``, and ``reconstruction_mse``, a mean over dimensions."""
        x = self.real_examples(batch)
        loss = self.game_loss(*self.pairs(x, FixedNoise(indices)))
        reconstructed = self(in_type_of(self.generator, self.posterior.mean(self.encoder(x))))
        error = (reconstructed.float() - x.float()).square().flatten(1).mean(1)
        return {"discriminator_loss": loss.expand(len(x)), "reconstruction_mse": error}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns the optimizer of generator and encoder, then the discriminator's."""
        build_player, build_discriminator = self.build_optimizers
        players = [*self.generator.parameters(), *self.encoder.parameters()]
        return self.scheduled_manually(build_player(players), build_discriminator([*self.discriminator.parameters()]))

    # Codes

    def encode(self, x: Tensor, *, mean: bool = True, generator: Generator | None = None) -> Tensor:
        """Returns codes of examples, shape (N, latent_dim), in evaluation mode without gradients.

        Args:
            x: Examples (N, *shape).
            mean: Whether to return the mean of q(z|x); else z is drawn from it.
            generator: Source of the draws; ``None`` takes a fresh seed from the system.

        Raises:
            ValueError: If ``x`` is of another shape or outside of the range.
        """
        noise = Noise(generator or new_generator())
        read = self.posterior.mean if mean else partial(self.posterior.draw, noise=noise)
        return self.in_chunks(lambda part, _: read(self.encoder(part)), self.examples(x), None)

    def reconstruct(self, x: Tensor, *, mean: bool = True, generator: Generator | None = None) -> Tensor:
        """Returns E[x|z] at the codes that ``encode`` returns, shape (N, *shape); arguments and errors as there.

        At the mean the error is smaller. But where q(z|x) is wide its mean lies nearer to 0 than codes do, and is
        decoded to something like an average; the paper shows reconstructions of drawn codes.
        """
        return self.decode(self.encode(x, mean=mean, generator=generator))

    def decode(self, z: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Returns E[x|z], shape (N, *shape), of codes (N, latent_dim), in evaluation mode without gradients.

        Raises:
            ValueError: If a code is of another form, or labels are given: there are no classes.
        """
        return self.decode_in_chunks(self.generator, z, labels, self.likelihood.mean)

    def sample_latent(
        self, num_samples: int, *, generator: Generator | None = None, steps: int | None = None
    ) -> Tensor:
        """Draws codes of the model, shape (num_samples, latent_dim); ``steps`` as in ``sample``."""
        return self.run_chain(num_samples, generator, steps)[1]

    def sample(
        self,
        num_samples: int,
        *,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        steps: int | None = None,
    ) -> Tensor:
        """Samples examples by the unclamped chain, shape (num_samples, *shape), images in [-1, 1].

        Args:
            num_samples: Number of samples, at least 1.
            labels: Must be ``None``: there are no classes.
            generator: Source of all random numbers; ``None`` takes a fresh seed from the system. The global random
                state does not change.
            steps: N, steps of the chain; by default those of training. 0 is ancestral sampling, z ~ N(0, I) and
                x ~ p(x|z), which is the model's distribution only if it was trained with 0.

        Raises:
            ValueError: If a number is out of range, or labels are given.
        """
        source = generator or new_generator()
        choose_labels(labels, check_num_samples(num_samples), self.class_probabilities, source)
        return self.run_chain(num_samples, source, steps)[0]

    def run_chain(self, num_samples: int, generator: Generator | None, steps: int | None) -> Pair:
        """Returns unclamped pairs, drawn in evaluation mode without gradients; arguments as in ``sample``."""
        num_samples = check_num_samples(num_samples)
        steps = as_count("steps", self.steps if steps is None else steps, 0, ", the length of the chain")
        noise, examples, codes = Noise(generator or new_generator()), [], []
        with evaluating(self):
            for done in range(0, num_samples, CHUNK):
                codes.append(self.draw_unclamped_codes(min(CHUNK, num_samples - done), steps, noise))
                examples.append(self.draw_examples(codes[-1], noise))
        return torch.cat(examples), torch.cat(codes)


def detached(pair: Pair) -> Pair:
    """Returns a pair through which no gradient flows."""
    x, z = pair
    return x.detach(), z.detach()
