"""What models with a Gaussian code z behind the data share: posterior, bounds of any number of draws, sampling.

The posterior is q(z|x) = N(mu(x), diag sigma(x)^2) (eq. 1.33), drawn as z = mu + sigma * eps so that gradients reach
the encoder. With weights w = p(x, z) / q(z|x) of k draws,

    L_k = E log 1/k sum_i w_i,        L_1 <= L_k <= L_{k+1} <= log p(x),

where L_1 is the variational bound of eq. 1.31 and 1.32, and L_k comes from Importance Weighted Autoencoders.

References:
    Auto-Encoding Variational Bayes (Kingma & Welling, 2013), https://arxiv.org/abs/1312.6114
    Importance Weighted Autoencoders (Burda et al., 2015), https://arxiv.org/abs/1509.00519
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor, nn

from lightning_modules.base import fused_if_possible
from lightning_modules.latent.observation import observation
from lightning_modules.likelihood import LikelihoodModule
from lightning_modules.networks.autoencoder import Sizes, autoencoder
from lightning_modules.parts.capabilities import DataSpec
from lightning_modules.parts.interpolation import spherical_interpolation
from lightning_modules.parts.noise import draw_normal, fixed_normal, new_generator
from lightning_modules.parts.sampling import CHUNK, check_labels, check_num_samples, choose_labels, evaluating
from lightning_modules.parts.schedules import linear_decay

ROWS = 500
"""Codes decoded at once when bounds are measured: their logits stay near the cache."""


def gaussian_kl(mean: Tensor, log_scale: Tensor) -> Tensor:
    """Returns KL(N(mean, exp(log_scale)^2) || N(0, I)) in nats, shape (N,), of (N, D) and (N, D)."""
    return 0.5 * (mean.square() + torch.exp(2 * log_scale) - 1 - 2 * log_scale).sum(1)


def log_mean_exp(log_weights: Tensor) -> Tensor:
    """Returns log 1/k sum_i w_i, shape (N,), of log w, shape (N, k)."""
    return torch.logsumexp(log_weights, 1) - math.log(log_weights.shape[1])


def check_particles(name: str, value: int) -> None:
    """Raises ValueError unless a number of draws from the posterior is a positive integer."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"{name}={value!r} must be a positive number of draws from the posterior: 1 gives the ELBO, more a "
            "tighter bound."
        )


class LatentVariableModule(LikelihoodModule):
    """Abstract: a decoder p(x|z), an encoder q(z|x) and what follows from them; a subclass says what is trained.

    Args:
        shape: Shape of an example: (C, H, W) or (D,).
        likelihood: ``"bernoulli"``, ``"gaussian"`` or ``"discretized_logistic"``.
        architecture: ``"mlp"`` or ``"conv"``.
        latent_dim: Size of the code z.
        hidden: Units of a dense layer.
        depth: Hidden layers of the multi-layer perceptrons.
        width: Channels of the convolutions at half resolution.
        num_classes: Number of classes of a class-conditional model p(x|y), or ``None``.
        scale: Gaussian likelihood: ``"global"`` or ``"per_dimension"``.
        mixtures: Discretised logistic likelihood: components a pixel.
        lr: Learning rate of Adam.
        decay_steps: Batches after which the learning rate has fallen linearly to zero, or ``None``.
        val_particles: Draws of the tighter bound on validation data; 1 for the ELBO alone.
        test_particles: Draws of the tighter bound on test data.
        num_tested: Tests on so many examples, or ``None`` for all.

    Raises:
        ValueError: If a number is out of range, a name unknown, or the parts do not fit one another.
    """

    class_probabilities: Tensor | None

    def __init__(
        self,
        shape: Sequence[int],
        likelihood: str,
        architecture: str,
        latent_dim: int,
        hidden: int,
        depth: int,
        width: int,
        num_classes: int | None,
        scale: str,
        mixtures: int,
        lr: float,
        decay_steps: int | None,
        val_particles: int,
        test_particles: int,
        num_tested: int | None,
    ) -> None:
        super().__init__()
        check_particles("val_particles", val_particles)
        check_particles("test_particles", test_particles)
        if lr <= 0:
            raise ValueError(f"lr={lr} must be positive.")
        if num_tested is not None and num_tested < 1:
            raise ValueError(f"num_tested={num_tested} must be at least 1, or null for all examples.")
        self.observation = observation(likelihood, shape, scale, mixtures)
        sizes = Sizes(shape, latent_dim, hidden, depth, width, num_classes)
        self.encoder, self.decoder = autoencoder(architecture, sizes, self.observation.num_parameters)
        self.value_range, self.discrete = self.observation.value_range, self.observation.discrete
        self.latent_dim, self.num_classes, self.num_tested = latent_dim, num_classes, num_tested
        self.lr, self.decay_steps, self.decay = lr, decay_steps, linear_decay(decay_steps)
        self.particles = {"val": val_particles, "test": test_particles}
        self.register_buffer(
            "class_probabilities", None if num_classes is None else torch.full((num_classes,), 1 / num_classes)
        )
        self.to(memory_format=torch.channels_last)

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Shape, likelihood and architecture from the data: bits, 256 grey values, or real numbers."""
        if spec.kind != "image":
            return {"shape": list(spec.shape), "likelihood": "gaussian", "architecture": "mlp"}
        if spec.value_range == (0.0, 1.0):
            return {"shape": list(spec.shape), "likelihood": "bernoulli", "architecture": "mlp"}
        likelihood = "gaussian" if spec.preprocessing.endswith("dequantized") else "discretized_logistic"
        return {"shape": list(spec.shape), "likelihood": likelihood, "architecture": "conv"}

    def setup(self, stage: str) -> None:
        """Takes the class frequencies of the data, by which unlabelled requests are answered."""
        super().setup(stage)
        counts = self.data_spec.class_counts if self.data_spec is not None else ()
        if self.class_probabilities is not None and counts:
            weights = torch.tensor(counts, dtype=torch.float32, device=self.class_probabilities.device)
            self.class_probabilities.copy_(weights / weights.sum())

    def on_fit_start(self) -> None:
        """Refuses a run that goes on after the learning rate has reached zero."""
        if self.decay_steps is not None and self.trainer.max_steps > self.decay_steps:
            raise ValueError(
                f"max_steps={self.trainer.max_steps} goes beyond decay_steps={self.decay_steps}, where the learning "
                f"rate reaches zero; set decay_steps={self.trainer.max_steps} (--model.decay_steps), or null."
            )

    def problem_with(self, batch: Sequence[Tensor]) -> str | None:
        """Returns what is wrong with a batch: shape, labels, or values that have no probability."""
        problem = self.observation.problem_with(batch[0])
        return super().problem_with(batch) or (None if problem is None else f"{type(self).__name__}: {problem}")

    def averaged_networks(self) -> Mapping[str, nn.Module]:
        """All of them: bounds need the encoder, sampling the decoder."""
        return {"encoder": self.encoder, "decoder": self.decoder, "observation": self.observation}

    # Training

    @abstractmethod
    def losses(self, x: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """Returns the terms that training minimises, nats per example, by name."""

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """The negative of the method's bound in nats per example."""
        if batch_idx == 0:
            self.check_batch(batch)
        return self.objective(self.losses(batch[0], batch[1] if self.num_classes is not None else None))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam, whose rate falls linearly to zero over ``decay_steps``."""
        optimizer = fused_if_possible(torch.optim.Adam, self.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.decay)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # Posterior and bounds

    def posterior(self, x: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns mean and log-scale of q(z|x), each (N, latent_dim), with gradients."""
        mean, log_scale = self.encoder(x, labels).chunk(2, dim=1)
        return mean, log_scale

    def log_likelihood(self, x: Tensor, labels: Tensor | None, z: Tensor) -> Tensor:
        """Returns log p(x|z) of x (N, *shape) under codes (N, k, latent_dim), nats, (N, k), with gradients."""
        particles = z.shape[1]
        labels = None if labels is None else labels.repeat_interleave(particles)
        parameters = self.decoder(z.flatten(0, 1), labels)
        return self.observation.log_prob(parameters.unflatten(0, (len(x), particles)), x)

    def log_weights(self, x: Tensor, labels: Tensor | None, posterior: tuple[Tensor, Tensor], noise: Tensor) -> Tensor:
        """Returns log p(x, z) / q(z|x) for z = mean + scale * noise, nats, shape (N, k), with gradients.

        Args:
            x: Shape (N, *shape).
            labels: int64 (N,), or ``None``.
            posterior: Mean and log-scale, each (N, latent_dim).
            noise: Shape (N, k, latent_dim).
        """
        mean, log_scale = (value.unsqueeze(1) for value in posterior)
        z = mean + torch.exp(log_scale) * noise
        prior_over_posterior = 0.5 * (noise.square() - z.square()).sum(2) + log_scale.sum(2)
        return self.log_likelihood(x, labels, z) + prior_over_posterior

    def elbo(
        self, x: Tensor, num_samples: int = 1, *, labels: Tensor | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Returns an unbiased estimate of L_1 = E_q log p(x|z) - KL(q(z|x) || p(z)), nats, shape (N,); eq. 1.32.

        Args:
            x: Shape (N, *shape).
            num_samples: Draws from q over which log p(x|z) is averaged; the KL term is exact.
            labels: Classes, int64 (N,), for a class-conditional model.
            generator: Source of the draws; ``None`` takes a fresh seed from the system.

        Raises:
            ValueError: If a value of ``x`` has no probability, or an argument is out of range.
        """
        check_particles("num_samples", num_samples)
        draw = self.drawn_from(generator or new_generator(), num_samples)
        return self.measure(x, self.labels_for(x, labels), num_samples, draw, exact_kl=True)

    def log_prob_bound(
        self, x: Tensor, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Returns an estimate of L_k, a lower bound of log p(x) in the mean, nats, shape (N,).

        Args:
            x: Shape (N, *shape).
            num_samples: k, any number: memory does not grow with the decoder's share of it.
            labels: Classes, int64 (N,), for a class-conditional model.
            generator: Source of the draws; ``None`` takes a fresh seed from the system.

        Raises:
            ValueError: If a value of ``x`` has no probability, or an argument is out of range.
        """
        check_particles("num_samples", num_samples)
        draw = self.drawn_from(generator or new_generator(), num_samples)
        return self.measure(x, self.labels_for(x, labels), num_samples, draw)

    def negative_log_likelihood(self, x: Tensor, labels: Tensor, indices: Tensor, stage: str) -> dict[str, Tensor]:
        """Returns the negative ELBO, ``upper_bound_k1``, and the tighter bound of the stage's number of draws."""
        asked = labels if self.num_classes is not None else None
        values = {"upper_bound_k1": -self.measure(x, asked, 1, self.fixed_by(indices, 1), exact_kl=True)}
        if (particles := self.particles[stage]) > 1:
            bound = self.measure(x, asked, particles, self.fixed_by(indices, particles))
            values[f"upper_bound_k{particles}"] = -bound
        return values

    def measure(
        self,
        x: Tensor,
        labels: Tensor | None,
        particles: int,
        draw: Callable[[int, int], Iterable[Tensor]],
        exact_kl: bool = False,
    ) -> Tensor:
        """Returns L_k, or with ``exact_kl`` L_1 averaged over k draws, in nats, shape (N,), chunk by chunk.

        Args:
            x: Shape (N, *shape).
            labels: int64 (N,), or ``None``.
            particles: k.
            draw: Maps (start, stop) to the noise of these examples, (stop - start, k, latent_dim), in parts along k.
            exact_kl: Whether to average log p(x|z) and subtract the KL term in closed form.
        """
        dtype, step, bounds = next(self.decoder.parameters()).dtype, max(1, ROWS // particles), []
        x = x.to(self.device, dtype)
        with evaluating(self):
            for start in range(0, len(x), step):
                chunk = x[start : start + step]
                asked = None if labels is None else labels[start : start + step]
                mean, log_scale = self.posterior(chunk, asked)
                noise = (part.to(self.device, dtype) for part in draw(start, start + len(chunk)))
                if exact_kl:
                    scale = torch.exp(log_scale).unsqueeze(1)
                    parts = [self.log_likelihood(chunk, asked, mean.unsqueeze(1) + scale * part) for part in noise]
                    bounds.append(torch.cat(parts, 1).mean(1) - gaussian_kl(mean, log_scale))
                else:
                    parts = [self.log_weights(chunk, asked, (mean, log_scale), part) for part in noise]
                    bounds.append(log_mean_exp(torch.cat(parts, 1)))
        return torch.cat(bounds)

    def drawn_from(self, generator: Generator, particles: int) -> Callable[[int, int], Iterable[Tensor]]:
        """Returns noise for ``measure`` from a generator, ``ROWS`` draws at a time."""

        def draw(start: int, stop: int) -> Iterable[Tensor]:
            for done in range(0, particles, ROWS):
                size = min(ROWS, particles - done)
                yield draw_normal((stop - start, size, self.latent_dim), generator, self.device)

        return draw

    def fixed_by(self, indices: Tensor, particles: int) -> Callable[[int, int], Iterable[Tensor]]:
        """Returns noise for ``measure`` that is a function of each example's index in its split."""
        return lambda start, stop: fixed_normal(indices[start:stop], particles, self.latent_dim).split(ROWS, 1)

    def labels_for(self, x: Tensor, labels: Tensor | None) -> Tensor | None:
        """Checks examples and labels that a caller gave; returns the labels on the module's device.

        Raises:
            ValueError: If a value has no probability, or the labels do not fit the model.
        """
        if problem := self.observation.problem_with(x):
            raise ValueError(f"{type(self).__name__}: {problem}")
        if self.class_probabilities is None and labels is None:
            return None
        return check_labels(labels, len(x), self.class_probabilities)

    # Codes and samples

    def encode(self, x: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Returns the mean of q(z|x), shape (N, latent_dim)."""
        asked = self.labels_for(x, labels)
        parts = [None] * len(x.split(CHUNK)) if asked is None else asked.split(CHUNK)
        x = x.to(self.device, next(self.encoder.parameters()).dtype)
        with evaluating(self):
            return torch.cat([self.posterior(*pair)[0] for pair in zip(x.split(CHUNK), parts, strict=True)])

    def reconstruct(self, x: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Returns E[x|z] at the mean of q(z|x), shape (N, *shape)."""
        return self.decode(self.encode(x, labels=labels), labels=labels)

    def sample_latent(self, num_samples: int, *, generator: Generator | None = None) -> Tensor:
        """Draws codes z ~ N(0, I), shape (num_samples, latent_dim)."""
        check_num_samples(num_samples)
        return draw_normal((num_samples, self.latent_dim), generator or new_generator(), self.device)

    def decode(self, z: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Returns E[x|z], shape (N, *shape), of codes (N, latent_dim): probabilities of bits, means of numbers.

        Raises:
            ValueError: Unless there is one label a code for a class-conditional model, and none for another.
        """
        return self.decoded(z, labels, self.observation.mean)

    def sample(
        self,
        num_samples: int,
        *,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        mean: bool = False,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draws examples, shape (num_samples, *shape), in the range of the data.

        Args:
            num_samples: How many, at least 1.
            labels: Classes to draw, int64 (num_samples,), for a class-conditional model; ``None`` draws them by
                their frequency in training.
            generator: Source of all randomness; ``None`` takes a fresh seed from the system. The global random
                state is never touched.
            mean: Return E[x|z] instead of draws from p(x|z).
            temperature: Multiplies the spread of the code, and of draws given it: below 1 samples are more typical
                and less varied.

        Raises:
            ValueError: If ``num_samples`` or ``temperature`` is not positive, or ``labels`` do not fit the model.
        """
        check_num_samples(num_samples)
        if temperature <= 0:
            raise ValueError(f"temperature={temperature} must be positive; 1 samples from the model itself.")
        source = generator or new_generator()
        labels = choose_labels(labels, num_samples, self.class_probabilities, source)
        z = temperature * self.sample_latent(num_samples, generator=source)
        if mean:
            return self.decode(z, labels=labels)
        return self.decoded(z, labels, lambda parameters: self.observation.draw(parameters, source, temperature))

    def decoded(self, z: Tensor, labels: Tensor | None, read: Callable[[Tensor], Tensor]) -> Tensor:
        """Decodes codes (N, latent_dim) chunk by chunk and lets ``read`` make examples of the outputs."""
        z = z.to(self.device, next(self.decoder.parameters()).dtype)
        chunks = z.split(CHUNK)
        if self.class_probabilities is None and labels is None:
            asked: Sequence[Tensor | None] = [None] * len(chunks)
        else:
            asked = check_labels(labels, len(z), self.class_probabilities).split(CHUNK)
        with evaluating(self):
            return torch.cat([read(self.decoder(*pair)) for pair in zip(chunks, asked, strict=True)])

    def traverse(self, z: Tensor, dimension: int, values: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Decodes codes with one coordinate set to each of ``values`` in turn.

        Args:
            z: Codes (N, latent_dim), as ``encode`` and ``sample_latent`` give them.
            dimension: The coordinate, 0 to latent_dim - 1.
            values: Shape (V,); two standard deviations of the prior are a usual span.
            labels: Classes, int64 (N,), for a class-conditional model.

        Returns:
            E[x|z], shape (N, V, *shape).

        Raises:
            ValueError: If there is no such coordinate.
        """
        if not 0 <= dimension < self.latent_dim:
            raise ValueError(f"dimension={dimension} is not one of 0 to {self.latent_dim - 1}.")
        codes = z.unsqueeze(1).repeat(1, len(values), 1)
        codes[..., dimension] = values.to(codes)
        return self.decode_paths(codes, labels)

    def interpolate(self, start: Tensor, end: Tensor, steps: int, *, labels: Tensor | None = None) -> Tensor:
        """Decodes ``steps`` codes on the arcs from ``start`` to ``end``, (N, latent_dim) each, ends included.

        Returns:
            E[x|z], shape (N, steps, *shape).

        Raises:
            ValueError: If ``steps`` is below 2.
        """
        if steps < 2:
            raise ValueError(f"steps={steps} must be at least 2: both ends are included.")
        return self.decode_paths(spherical_interpolation(start, end, steps), labels)

    def decode_paths(self, codes: Tensor, labels: Tensor | None) -> Tensor:
        """Decodes codes (N, V, latent_dim) to (N, V, *shape)."""
        num, steps = codes.shape[:2]
        labels = None if labels is None else torch.as_tensor(labels).repeat_interleave(steps)
        return self.decode(codes.flatten(0, 1), labels=labels).unflatten(0, (num, steps))
