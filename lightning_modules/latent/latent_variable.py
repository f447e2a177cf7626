"""Base class of models with a latent code z: posterior, and bounds with any number of samples.

The posterior is q(z|x) = N(mu(x), diag sigma(x)^2) (eq. 1.33), sampled as z = mu + sigma * eps so that gradients reach
the encoder. With weights w = p(x, z) / q(z|x) of k samples,

    L_k = E log 1/k sum_i w_i,        L_1 <= L_k <= L_{k+1} <= log p(x),

where L_1 is the variational bound of eq. 1.31 and 1.32, and L_k comes from Importance Weighted Autoencoders. The prior
p(z) is N(0, I) unless another is given; see ``prior``.

References:
    Auto-Encoding Variational Bayes (Kingma & Welling, 2013), https://arxiv.org/abs/1312.6114
    Importance Weighted Autoencoders (Burda et al., 2015), https://arxiv.org/abs/1509.00519
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor, nn

from datamodules.spec import Batch, DataSpec
from lightning_modules.latent.observation import Observation
from lightning_modules.latent.posterior_noise import ROWS, PosteriorNoise, drawn_from, fixed_by
from lightning_modules.latent.prior import Drawn, LatentPrior, StandardNormal
from lightning_modules.latent.samples_by_codes import SamplesByCodes
from lightning_modules.parts.checks import as_count
from lightning_modules.parts.likelihoods import log_mean_exp
from lightning_modules.parts.noise import new_generator
from lightning_modules.parts.optimizers import BuildOptimizer
from lightning_modules.parts.precision import in_single
from lightning_modules.parts.sampling import evaluating, in_type_of
from lightning_modules.parts.schedules import Schedule

Objective = Callable[["LatentVariableModule", Tensor, Tensor | None], dict[str, Tensor]]


def check_particles(name: str, value: Any) -> int:
    """Returns a number of samples from the posterior as an ``int``; raises ValueError unless it is positive."""
    return as_count(name, value, hint=": 1 gives the ELBO, more give a tighter bound")


class LatentVariableModule(SamplesByCodes):
    """A decoder p(x|z) and an encoder q(z|x), with bounds, codes and samples; a method defines the objective.

    It can also be built directly, with any two networks. It then trains, measures and samples, but the zoo refuses it,
    because a file cannot describe how to rebuild it.

    Args:
        encoder: Maps examples (N, *shape) and a condition, int64 (N, ...) or ``None``, to the concatenated
            mean and log-scale of q(z|x), (N, 2 * latent_dim).
        decoder: Maps what it reads of codes, (N, D), and a condition to the observation's parameters.
        observation: p(x|z), given these parameters.
        objective: Maps this module, examples and a condition to the terms that training minimises, nats per example.
        latent_dim: Size of the code z.
        prior: Distribution of codes of that size; ``None`` for N(0, I), of whose codes the decoder reads all.
        optimizer: Builds the optimizer from all parameters.
        lr_schedule: Factor of the learning rate, a function of the batch.
        num_classes: Number of classes of a class-conditional model p(x|y), or ``None``.
        num_words: Number of words of the captions of a model conditional on these, or ``None``.
        val_particles: Samples k of the tighter bound on validation data; 1 for the ELBO alone.
        test_particles: Samples k of the tighter bound on test data.
        num_tested: Number of examples to test on, the first of the split, or ``None`` for all.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        observation: Observation,
        *,
        objective: Objective,
        latent_dim: int,
        prior: LatentPrior | None = None,
        optimizer: BuildOptimizer,
        lr_schedule: Schedule | None = None,
        num_classes: int | None = None,
        num_words: int | None = None,
        val_particles: int = 50,
        test_particles: int = 5000,
        num_tested: int | None = None,
    ) -> None:
        super().__init__(num_tested, num_classes, lr_schedule, num_words=num_words)
        check_particles("val_particles", val_particles)
        check_particles("test_particles", test_particles)
        self.observation, self.encoder, self.decoder, self.shape = observation, encoder, decoder, observation.shape
        self.prior = StandardNormal(latent_dim) if prior is None else prior
        self.value_range, self.discrete = observation.value_range, observation.discrete
        self.latent_dim, self.build_optimizer, self.objective_of = latent_dim, optimizer, objective
        self.particles = {"val": val_particles, "test": test_particles}
        self.to(memory_format=torch.channels_last)

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Returns shape, likelihood and architecture by the data: bits, 256 grey values, or real numbers."""
        if spec.kind != "image":
            return {"shape": list(spec.shape), "likelihood": "gaussian", "architecture": "mlp"}
        if spec.value_range == (0.0, 1.0):
            return {"shape": list(spec.shape), "likelihood": "bernoulli", "architecture": "mlp"}
        likelihood = "gaussian" if spec.is_dequantized else "discretized_logistic_mixture"
        return {"shape": list(spec.shape), "likelihood": likelihood, "architecture": "conv"}

    def batch_problem(self, batch: Batch) -> str | None:
        """Names a value of probability zero, if there is one."""
        return self.observation.problem_with(batch.x)

    def averaged_networks(self) -> Mapping[str, nn.Module]:
        """Returns all networks: bounds need the encoder, sampling the prior and the decoder."""
        names = ("encoder", "decoder", "observation", "prior")
        return {name: self.get_submodule(name) for name in names}

    # Training

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the negative of the method's bound in nats per example."""
        return self.objective(self.objective_of(self, batch.x, self.condition(batch)))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns the optimizer of all parameters under the learning-rate schedule."""
        return self.scheduled(self.build_optimizer(self.parameters()))

    # Posterior and bounds

    def posterior(self, x: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the encoder's mean and log-scale of eq. 1.33, each (N, latent_dim), with gradients, unchecked.

        They are those of q(z|x), but for priors that combine them with their own; see ``LatentPrior.infer``. Those of
        an encoder of half precision are in float32, because codes, their divergences and weights need its digits.
        """
        mean, log_scale = in_single(self.encoder(x, labels)).chunk(2, dim=1)
        return mean, log_scale

    def infer(self, posterior: tuple[Tensor, Tensor], noise: Tensor) -> Drawn:
        """Returns samples of q(z|x) for noise (N, k, latent_dim), with gradients; ``posterior`` is the encoder's."""
        mean, log_scale = posterior
        return self.prior.infer(mean.unsqueeze(1), log_scale.unsqueeze(1), noise)

    def log_likelihood(self, x: Tensor, labels: Tensor | None, z: Tensor) -> Tensor:
        """Returns log p(x|z) of x (N, *shape) under codes (N, k, latent_dim), nats, (N, k), with gradients."""
        return self.observed(x, labels, self.prior.decoder_input(z))

    def observed(self, x: Tensor, labels: Tensor | None, decoder_input: Tensor) -> Tensor:
        """Returns log p(x|z), nats, (N, k), of x (N, *shape) for what the decoder reads (N, k, D), with gradients."""
        particles = decoder_input.shape[1]
        labels = None if labels is None else labels.repeat_interleave(particles, 0)
        parameters = self.decoder(in_type_of(self.decoder, decoder_input.flatten(0, 1)), labels)
        return self.observation.log_prob(in_single(parameters).unflatten(0, (len(x), particles)), x)

    def log_weights(self, x: Tensor, labels: Tensor | None, posterior: tuple[Tensor, Tensor], noise: Tensor) -> Tensor:
        """Returns log p(x, z) / q(z|x) for the codes of ``noise``, nats, shape (N, k), with gradients.

        Args:
            x: Shape (N, *shape).
            labels: Class labels, int64 (N,), or ``None``.
            posterior: The encoder's mean and log-scale, each (N, latent_dim).
            noise: Shape (N, k, latent_dim).
        """
        drawn = self.infer(posterior, noise)
        return self.observed(x, labels, drawn.decoder_input) + drawn.log_ratio()

    def elbo(
        self, x: Tensor, num_samples: int = 1, *, labels: Tensor | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Returns an unbiased estimate of L_1 = E_q log p(x|z) - KL(q(z|x) || p(z)), nats, (N,); eq. 1.31 and 1.32.

        Args:
            x: Shape (N, *shape); there are no gradients, and the networks run in evaluation mode.
            num_samples: Samples from q over which log p(x|z) is averaged; the KL term is exact for N(0, I).
            labels: Class labels, int64 (N,), for a class-conditional model.
            generator: Source of random numbers; ``None`` takes a fresh seed from the system.

        Raises:
            ValueError: If ``x`` is of another shape, a value has probability zero, or an argument is out of range.
        """
        return self.measure(*self.requested(x, num_samples, labels, generator), exact_kl=True)

    def log_prob_bound(
        self, x: Tensor, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Returns an estimate of L_k, a lower bound of log p(x) in expectation, nats, shape (N,).

        It rises with k to the marginal likelihood of eq. 1.29 and 1.30; L_1 is the bound of eq. 1.31.

        Args:
            x: Shape (N, *shape); there are no gradients, and the networks run in evaluation mode.
            num_samples: k; the memory of the decoder does not grow with it.
            labels: Class labels, int64 (N,), for a class-conditional model.
            generator: Source of random numbers; ``None`` takes a fresh seed from the system.

        Raises:
            ValueError: If ``x`` is of another shape, a value has probability zero, or an argument is out of range.
        """
        return self.measure(*self.requested(x, num_samples, labels, generator))

    def requested(
        self, x: Tensor, num_samples: int, labels: Tensor | None, generator: Generator | None
    ) -> tuple[Tensor, Tensor | None, int, PosteriorNoise]:
        """Returns the first arguments of ``measure`` for a caller's, which are checked; see ``elbo``."""
        num_samples, x = check_particles("num_samples", num_samples), self.examples(x)
        draw = drawn_from(generator or new_generator(), num_samples, self.latent_dim, self.device)
        return x, self.labels_for(len(x), labels), num_samples, draw

    def negative_log_likelihood(self, batch: Batch, indices: Tensor, stage: str) -> dict[str, Tensor]:
        """Returns the negative ELBO, ``upper_bound_k1``, and the tighter bound with the stage's number of samples."""
        x, labels = batch.x, self.condition(batch)
        noise = fixed_by(indices, 1, self.latent_dim)
        values = {"upper_bound_k1": -self.measure(x, labels, 1, noise, exact_kl=True)}
        if (particles := self.particles[stage]) > 1:
            bound = self.measure(x, labels, particles, fixed_by(indices, particles, self.latent_dim))
            values[f"upper_bound_k{particles}"] = -bound
        return values

    def measure(
        self, x: Tensor, labels: Tensor | None, particles: int, draw: PosteriorNoise, exact_kl: bool = False
    ) -> Tensor:
        """Returns L_k, or with ``exact_kl`` L_1 averaged over k samples, in nats, shape (N,), chunk by chunk.

        Args:
            x: Shape (N, *shape).
            labels: Class labels, int64 (N,), or ``None``.
            particles: k.
            draw: The noise of the codes.
            exact_kl: Whether to average log p(x|z) and subtract the KL term, in closed form as far as there is one.
        """
        dtype, step, bounds = next(self.decoder.parameters()).dtype, max(1, ROWS // particles), []
        x = x.to(self.device, dtype)
        with evaluating(self):
            for start in range(0, len(x), step):
                chunk = x[start : start + step]
                condition = None if labels is None else labels[start : start + step]
                posterior = self.posterior(chunk, condition)
                noise = (part.to(posterior[0]) for part in draw(start, start + len(chunk)))
                terms = self.elbo_terms if exact_kl else self.log_weights
                parts = torch.cat([terms(chunk, condition, posterior, part) for part in noise], 1)
                bounds.append(parts.mean(1) if exact_kl else log_mean_exp(parts))
        return torch.cat(bounds) if bounds else x.new_zeros(0)

    def elbo_terms(self, x: Tensor, labels: Tensor | None, posterior: tuple[Tensor, Tensor], noise: Tensor) -> Tensor:
        """Returns log p(x|z) - KL(q(z|x) || p(z)), nats, shape (N, k); arguments as in ``log_weights``."""
        drawn = self.infer(posterior, noise)
        return self.observed(x, labels, drawn.decoder_input) - drawn.kl()
