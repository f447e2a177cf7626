"""Base class of flows in continuous time: samples, codes and likelihoods of a velocity v(x, t) from noise to data.

Solutions of dx/dt = v(x, t) lead from x_0 ~ N(0, I) to data x_1, and back. So an example has exactly one code, its x_0,
and a density, by the instantaneous change of variables; see ``parts.change_of_variables``.

With classes or captions there are two velocities, v_c given the condition and v_u without one. Guidance w follows

    v_u + w (v_c - v_u),

the velocity without a condition at 0, that of the condition at 1, and one that exaggerates it above 1.

Classifier-Free Diffusion Guidance (Ho and Salimans, 2022), https://arxiv.org/abs/2207.12598 (its w is one less)
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor, nn

from datamodules.spec import Batch, DataSpec
from lightning_modules.likelihood import LikelihoodModule
from lightning_modules.parts.change_of_variables import (
    Directions,
    flow_log_density,
    random_directions,
    unit_directions,
)
from lightning_modules.parts.checks import as_count
from lightning_modules.parts.noise import Draws, FixedNoise, Noise, draw_normal, new_generator
from lightning_modules.parts.ode import Field, heun
from lightning_modules.parts.optimizers import BuildOptimizer
from lightning_modules.parts.sampling import CHUNK, check_num_samples, measuring
from lightning_modules.parts.schedules import Schedule
from lightning_modules.parts.times import graded_times
from lightning_modules.runtime.given_conditions import TextOrTokens

LIKELIHOOD_POWER = 3.0
"""Of the solver's steps for likelihoods: dequantised grey values are a five hundredth of the noise apart."""


class ContinuousFlow(LikelihoodModule):
    """Abstract: a subclass trains the network of the velocity.

    The likelihood of points is exact up to the solver's error. That of images is an estimate, from ``num_probes``
    random directions per image that are a function of its index: ``estimate_ode``. Images are measured in tests only.
    Tests also log it with half as many steps, ``exact_half_steps`` and ``estimate_ode_half_steps``: what the values
    change when the steps double is a measure of the solver's error.

    Args:
        network: Maps examples, times (N,), the condition, int64 (N, ...) as in ``runtime.given_conditions`` or
            ``None``, and bool (N,) or ``None`` for conditions that are dropped, to velocities in the shape of the
            examples.
        shape: Shape of an example.
        steps: Steps of Heun's method in ``sample``, ``decode`` and ``encode``, two evaluations of the network each.
        sampling_power: Power of their times, see ``parts.times.graded_times``.
        guidance: w of ``sample`` and ``decode``; any other than 1 takes both velocities, and twice the time.
        droppable: Whether the network has a velocity without a condition.
        likelihood_steps: Steps of the Runge-Kutta method for likelihoods, four evaluations each.
        num_probes: Random directions per image of the likelihood.
        num_tested: Number of examples to test on, the first of the split, or ``None`` for all.
        num_classes: Number of classes of a class-conditional model, or ``None``.
        optimizer: Builds the optimizer from all parameters.
        lr_schedule: Factor of the learning rate, a function of the batch.
        clip_norm: Largest norm of the gradient, or ``None``.
        num_words: Number of words of the captions that the model is conditional on, or ``None``.

    Raises:
        ValueError: If a number is out of range.
    """

    value_range = (-1.0, 1.0)
    num_evaluated = 2000  # each sample evaluates the network 20 times or more, twice as often with guidance

    def __init__(
        self,
        network: nn.Module,
        *,
        shape: Sequence[int],
        steps: int,
        sampling_power: float,
        guidance: float,
        droppable: bool,
        likelihood_steps: int,
        num_probes: int,
        num_tested: int | None,
        num_classes: int | None,
        optimizer: BuildOptimizer,
        lr_schedule: Schedule | None = None,
        clip_norm: float | None = None,
        num_words: int | None = None,
    ) -> None:
        super().__init__(num_tested, num_classes, lr_schedule, clip_norm, num_words)
        self.steps, self.likelihood_steps = as_count("steps", steps), as_count("likelihood_steps", likelihood_steps, 2)
        self.num_probes = as_count("num_probes", num_probes)
        if not (math.isfinite(sampling_power) and sampling_power > 0):
            raise ValueError(f"sampling_power={sampling_power} must be positive and finite; 1 makes equal steps.")
        self.sampling_power, self.droppable = sampling_power, droppable
        self.guidance = self.as_guidance(guidance)
        self.network, self.build_optimizer, self.latent_dim = network, optimizer, math.prod(shape)

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Returns the shape and the architecture: a U-Net for images, a perceptron for points."""
        return {"shape": list(spec.shape), "architecture": "unet" if spec.kind == "image" else "mlp"}

    def averaged_networks(self) -> Mapping[str, nn.Module]:
        """Returns the network, the only one."""
        return {"network": self.network}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns the optimizer of the network under the learning-rate schedule."""
        return self.scheduled(self.build_optimizer(self.network.parameters()))

    # Velocity

    def as_guidance(self, guidance: Any) -> float:
        """Returns guidance as a ``float``.

        Raises:
            ValueError: If it is negative or not finite, or asks for a velocity that the model does not have.
        """
        try:
            value = math.nan if isinstance(guidance, (bool, str)) else float(guidance)
        except (TypeError, ValueError, RuntimeError):
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"guidance={guidance!r} must be a number of at least 0: 1 follows the condition as it is.")
        if value != 1 and self.num_classes is None and self.num_words is None:
            raise ValueError(
                f"guidance={value:g} needs a model conditional on classes or captions, but num_classes and num_words "
                "are null: leave it 1."
            )
        if value != 1 and not self.droppable:
            raise ValueError(
                f"guidance={value:g} needs a velocity without a condition, which condition_dropout=0 does not train: "
                "use guidance=1, or train with condition_dropout above 0."
            )
        return value

    def velocity(self, x: Tensor, time: float, labels: Tensor | None, guidance: float = 1.0) -> Tensor:
        """Returns the velocities of x (N, *shape) at a time in [0, 1], in the shape and type of x, with gradients.

        Args:
            x: States of the flow, float32 or float64.
            time: 0 is noise, 1 data.
            labels: The condition, int64 (N, ...), or ``None`` for the velocity without one.
            guidance: w.

        Raises:
            ValueError: If it takes a velocity without the condition, which the model does not have.
        """
        is_conditional = self.num_classes is not None or self.num_words is not None
        if is_conditional and not self.droppable and (labels is None or guidance != 1):
            asked = "labels=None" if labels is None else f"guidance={guidance:g}"
            raise ValueError(
                f"{asked} needs a velocity without a condition, which condition_dropout=0 does not train: give labels "
                "and guidance=1, or train with condition_dropout above 0."
            )
        inputs, times = x.to(next(self.network.parameters()).dtype), x.new_full((len(x),), time)
        if labels is None or guidance == 1:
            return self.network(inputs, times, labels).to(x.dtype)
        without: Tensor = self.network(inputs, times, None).to(x.dtype)
        if guidance == 0:
            return without
        return without + guidance * (self.network(inputs, times, labels).to(x.dtype) - without)

    def field(self, labels: Tensor | None, guidance: float = 1.0) -> Field:
        """Returns ``velocity`` as a function of state and time alone."""
        return lambda x, time: self.velocity(x, time, labels, guidance)

    def in_state_type(self, x: Tensor) -> Tensor:
        """Returns x on the model's device in the type that solvers compute in: float32 or the weights' float64."""
        dtype = torch.promote_types(next(self.network.parameters()).dtype, torch.float32)
        return x.to(self.device, dtype)

    # Codes and samples

    def sample_latent(self, num_samples: int, *, generator: Generator | None = None) -> Tensor:
        """Draws codes x_0 ~ N(0, I), shape (num_samples, latent_dim)."""
        num_samples = check_num_samples(num_samples)
        return draw_normal((num_samples, self.latent_dim), generator or new_generator(), self.device)

    def decode(
        self, z: Tensor, *, labels: Tensor | None = None, steps: int | None = None, guidance: float | None = None
    ) -> Tensor:
        """Returns the examples (N, *shape) to which the flow carries codes (N, latent_dim); images lie in [-1, 1].

        Args:
            z: Codes.
            labels: The condition of a conditional model: classes int64 (N,), or as ``caption_condition`` returns it.
            steps: Steps of Heun's method, by default the hyperparameter.
            guidance: w, by default the hyperparameter.

        Raises:
            ValueError: If an argument is out of range, or labels are missing or do not fit.
        """
        steps = self.steps if steps is None else as_count("steps", steps)
        w = self.guidance if guidance is None else self.as_guidance(guidance)
        times = graded_times(steps, self.sampling_power)
        x = self.in_state_type(self.codes(z)).unflatten(1, self.hparams["shape"])
        labels = self.labels_for(len(x), labels)
        x = self.in_chunks(lambda part, given: heun(self.field(given, w), part, times), x, labels)
        return x.clamp(*self.value_range) if x.ndim == 4 else x

    def encode(self, x: Tensor, *, labels: Tensor | None = None, steps: int | None = None) -> Tensor:
        """Returns the codes (N, latent_dim) of examples (N, *shape): the flow backwards, without guidance.

        Args:
            x: Examples.
            labels: The condition of a conditional model: classes int64 (N,), or as ``caption_condition`` returns it.
            steps: Steps of Heun's method, by default the hyperparameter.

        Raises:
            ValueError: If an argument is out of range, or labels are missing or do not fit.
        """
        steps = self.steps if steps is None else as_count("steps", steps)
        times = graded_times(steps, self.sampling_power)[::-1]
        x = self.in_state_type(self.examples(x))
        labels = self.labels_for(len(x), labels)
        return self.in_chunks(lambda part, given: heun(self.field(given), part, times), x, labels).flatten(1)

    def reconstruct(self, x: Tensor, *, labels: Tensor | None = None, steps: int | None = None) -> Tensor:
        """Decodes the codes of examples (N, *shape), without guidance: they differ by the solver's error alone.

        Arguments and errors are those of ``encode``.
        """
        return self.decode(self.encode(x, labels=labels, steps=steps), labels=labels, steps=steps, guidance=1.0)

    def sample(
        self,
        num_samples: int,
        *,
        labels: Tensor | None = None,
        captions: TextOrTokens | None = None,
        generator: Generator | None = None,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        """Samples examples, shape (num_samples, *shape): codes carried to data; images in [-1, 1].

        Args:
            num_samples: Number of samples, at least 1.
            labels: Class labels, int64 (num_samples,), for a class-conditional model; ``None`` draws them by their
                frequency in training.
            captions: Captions of a model of these, as in ``choose_condition``.
            generator: Source of all random numbers; ``None`` takes a fresh seed from the system. The global random
                state does not change.
            steps: Steps of Heun's method, two evaluations of the network each; by default the hyperparameter.
            guidance: w: 0 without the condition, 1 as it says, more exaggerates it; by default the hyperparameter.

        Raises:
            ValueError: If an argument is out of range, or ``labels`` or ``captions`` do not fit the model.
        """
        num_samples, source = check_num_samples(num_samples), generator or new_generator()
        labels = self.choose_condition(num_samples, labels, captions, source)
        z = self.sample_latent(num_samples, generator=source)
        return self.decode(z, labels=labels, steps=steps, guidance=guidance)

    # Likelihood

    def log_prob(
        self, x: Tensor, *, labels: Tensor | None = None, steps: int | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Returns log p(x) in nats, shape (N,), with gradients, given the condition of a conditional model.

        Of points it is exact up to the solver's error. Of images it is an unbiased estimate, from ``num_probes`` random
        directions per image.

        Args:
            x: Examples, shape (N, *shape).
            labels: The condition of a conditional model: classes int64 (N,), or as ``caption_condition`` returns it.
            steps: Steps of the Runge-Kutta method, by default ``likelihood_steps``.
            generator: Source of the directions; ``None`` makes them a function of the position in ``x``, the same ones
                in every call.

        Raises:
            ValueError: If ``x`` is of another shape, is not finite, or holds images outside of [-1, 1], or another
                argument is out of range.
        """
        steps = self.likelihood_steps if steps is None else as_count("steps", steps)
        x = self.examples(x)
        labels = self.labels_for(len(x), labels)
        draws: Draws = FixedNoise(torch.arange(len(x))) if generator is None else Noise(generator)
        with measuring(self):
            return self.unchecked_log_prob(x, labels, draws, steps)

    def unchecked_log_prob(self, x: Tensor, labels: Tensor | None, draws: Draws, steps: int) -> Tensor:
        """Returns what ``log_prob`` does, of any finite values, with directions from ``draws``, by ``CHUNK``.

        It is computed without mixed precision, whose error would be far above the solver's.
        """
        enabled, full_precision = torch.is_grad_enabled(), torch.autocast(self.device.type, enabled=False)
        # Derivatives by x cannot be computed in the inference mode of validation, nor with its tensors.
        with torch.inference_mode(False), torch.set_grad_enabled(enabled), full_precision:
            x, times = self.in_state_type(normal_tensor(x)), graded_times(steps, LIKELIHOOD_POWER)
            vectors, weight = self.directions(x, draws)
            conditions: Any = [None] * len(x) if labels is None else normal_tensor(labels).split(CHUNK)
            parts = zip(x.split(CHUNK), vectors.split(CHUNK, 1), conditions, strict=False)
            return torch.cat(
                [flow_log_density(self.field(y), part, times, Directions(some, weight)) for part, some, y in parts]
            )

    def directions(self, x: Tensor, draws: Draws) -> Directions:
        """Returns unit vectors for points, and random signs from ``draws`` for images."""
        if x.ndim != 4:
            return unit_directions(x)
        uniform = draws.uniform(len(x), self.num_probes, *x.shape[1:], device=x.device)
        return random_directions(uniform.to(x.dtype))

    def negative_log_likelihood(self, batch: Batch, indices: Tensor, stage: str) -> dict[str, Tensor]:
        """Returns -log p by kind: ``exact`` for points, ``estimate_ode`` for images in tests; see the class."""
        is_image, steps = batch.x.ndim == 4, self.likelihood_steps
        kind = "estimate_ode" if is_image else "exact"
        wanted = (
            {kind: steps, f"{kind}_half_steps": steps // 2} if stage == "test" else {} if is_image else {kind: steps}
        )
        condition = self.condition(batch)
        return {
            name: -self.unchecked_log_prob(batch.x, condition, FixedNoise(indices), count)
            for name, count in wanted.items()
        }


def normal_tensor(x: Tensor) -> Tensor:
    """Returns a copy of a tensor that was made in inference mode, and any other tensor itself."""
    return x.clone() if x.is_inference() else x
