"""Noise-contrastive estimation: a density from a classifier between data and noise with a known density.

A classifier D that tells data p from nu times as much noise q learns p / (p + nu q) (eq. 1.34 and 1.35), and so

    p(x) = nu D(x) / (1 - D(x)) q(x)

of which eq. 1.36 is the case nu = 1. Here the classifier's logit is log p(x) - log q(x) - log nu with an unnormalised
log p(x) = c - E(x). The constant c is learned like any other weight, and at the optimum it is -log Z. This needs
neither samples of the model nor an integral.

NOTE: The energy is defined relative to the noise, E = f - log q with a network f, so that q cancels in the classifier,
and where f = 0 the model is the noise. Any energy can be written so.

NOTE: It works only as far as the noise resembles the data. Where the classifier tells nearly all examples apart, its
gradient vanishes, and a few noise samples have almost all importance weight. The accuracy and the effective sample size
are logged: for images the latter may be a hundredth of the number of samples, and it changes much with the seed.

Noise-Contrastive Estimation: A New Estimation Principle for Unnormalized Models (Gutmann and Hyvarinen, 2010),
https://proceedings.mlr.press/v9/gutmann10a.html
Noise-Contrastive Estimation of Unnormalized Statistical Models (Gutmann and Hyvarinen, 2012),
https://jmlr.org/papers/v13/gutmann12a.html
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor, nn

from datamodules.spec import Batch, DataSpec
from lightning_modules.density.measured_nce import MeasuredNCE
from lightning_modules.density.noise_density import BuildMethod, frozen_density
from lightning_modules.networks.potential import build_potential
from lightning_modules.parts.checks import check_no_labels
from lightning_modules.parts.mcmc import BEST_ACCEPTANCE, effective_sample_size, mala_step
from lightning_modules.parts.noise import Noise, new_generator
from lightning_modules.parts.optimizers import adam_with
from lightning_modules.parts.precision import in_finest
from lightning_modules.parts.sampling import CHUNK, check_num_samples, evaluating, in_type_of
from lightning_modules.parts.schedules import linear_decay

PROPOSALS_EVERY = 5
PILOT_CHAINS, PILOT_STEPS, FAR_RATE = 50, 60, 8.0


class NCE(MeasuredNCE):
    """log p(x) = log q(x) - f(x) + c with a network f and a noise density q, trained as a classifier between them.

    See ``MeasuredNCE`` for what validation and tests measure.

    Args:
        shape: (C, H, W) of images in [-1, 1], or (D,) of points.
        noise_density: q: a module with ``log_prob`` and ``sample``, or {"method": ..., "hyperparameters": {...}} of a
            method of this library; its frozen weights are kept in this module's state. ``None`` for N(0, I). With a
            density that has ``draw(noise, num)``, training is the same on any number of processes; with another one,
            each process samples independently.
        noise_ratio: nu, noise samples per example of data.
        architecture: ``"conv"`` for images, ``"mlp"`` for both.
        width: Channels of the first convolution, or a quarter of the units of a layer of the MLP.
        lr: Adam's learning rate.
        betas: Adam's decay rates.
        decay_steps: Batches after which the learning rate has fallen linearly to zero, or ``None``.
        oversampling: Noise samples per sample of importance resampling.
        steps: Steps of a chain in ``sample(..., method="mcmc")``.
        step_size: Step size at which the tuning of those chains begins, see ``tuned_step_size``.

    Raises:
        ValueError: If a number is out of range, or the noise density cannot be built or lacks a method.
    """

    value_range = (-1.0, 1.0)
    num_evaluated = 2000  # each sample is the end of a long chain
    build_method: ClassVar[BuildMethod]
    """Builds the noise density from its description; set by the registry of all methods."""

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        noise_density: nn.Module | dict[str, Any] | None = None,
        noise_ratio: float = 1.0,
        architecture: str = "conv",
        width: int = 16,
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        decay_steps: int | None = None,
        oversampling: int = 20,
        steps: int = 100,
        step_size: float = 1e-5,
    ) -> None:
        super().__init__(lr_schedule=linear_decay(decay_steps))
        for name, value in (
            ("noise_ratio", noise_ratio),
            ("oversampling", oversampling),
            ("steps", steps),
            ("step_size", step_size),
        ):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}={value} must be positive.")
        density, plain = frozen_density(noise_density, shape, type(self).build_method)
        self.save_hyperparameters(ignore=["noise_density"])
        self.save_hyperparameters({"noise_density": plain})
        self.build_optimizer = adam_with(lr, betas)
        self.noise_density = density  # not ``noise``: that is the source of training's random numbers
        self.network = build_potential(architecture, shape, width, None)
        self.log_normalizer = nn.Parameter(torch.zeros(()))
        self.to(memory_format=torch.channels_last)

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Returns the shape and, for points, an MLP with its settings."""
        if spec.kind == "image":
            return {"shape": list(spec.shape)}
        return {
            "shape": list(spec.shape),
            "architecture": "mlp",
            "width": 32,
            "noise_ratio": 10.0,
            "oversampling": 100,
            "step_size": 5e-3,
        }

    # Densities

    def unchecked_log_ratio(self, x: Tensor) -> Tensor:
        """Returns what ``log_ratio`` does, of any finite values; training calls it."""
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return self.log_normalizer - self.network(in_type_of(self.network, x))

    def forward(self, x: Tensor) -> Tensor:
        """Returns D(x), shape (N,): the probability that x is data, where there is nu times as much noise.

        Eq. 1.34 and 1.35 are the case nu = 1.
        """
        return torch.sigmoid(self.unchecked_log_ratio(x) - math.log(self.hparams["noise_ratio"]))

    def unchecked_log_prob(self, x: Tensor) -> Tensor:
        """Returns log nu D / (1 - D) q, of which eq. 1.36 is the case nu = 1, of any finite values."""
        density: Any = self.noise_density
        log_q = getattr(density, "unchecked_log_prob", density.log_prob)(x)
        return log_q + self.unchecked_log_ratio(x)

    def unchecked_energy(self, x: Tensor) -> Tensor:
        """Returns what ``energy`` does, of any finite values; chains call it."""
        return self.log_normalizer - self.unchecked_log_prob(x)

    def draw_noise(self, noise: Noise, num: int) -> Tensor:
        """Samples noise from q, shape (num, *shape)."""
        draw = getattr(self.noise_density, "draw", None)
        with torch.no_grad():
            if draw is not None:
                return draw(noise, num)
            seed = int(noise.integers(2**62, 1, torch.device("cpu")).item())
            generator = torch.Generator().manual_seed(seed)
            return self.noise_density.sample(num, generator=generator).to(self.log_normalizer)  # type: ignore[operator]

    # Training

    def on_train_start(self) -> None:
        """Sets the noise density to evaluation mode, because it is not trained."""
        super().on_train_start()
        self.noise_density.eval()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the logistic loss of the classifier between data and noise, in nats per example of data."""
        x = batch.x
        noise = self.draw_noise(self.noise, self.num_noise(len(x)))
        return self.objective(self.classification_losses(x, noise))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns Adam with a linear decay if ``decay_steps`` is set; the noise density is not trained."""
        return self.scheduled(self.build_optimizer([self.log_normalizer, *self.network.parameters()]))

    # Sampling

    def sample(
        self,
        num_samples: int,
        *,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        method: str = "importance",
    ) -> Tensor:
        """Samples examples, shape (num_samples, *shape): the first result of ``sample_with_report``."""
        return self.sample_with_report(num_samples, labels=labels, generator=generator, method=method)[0]

    def sample_with_report(
        self,
        num_samples: int,
        *,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        method: str = "importance",
    ) -> tuple[Tensor, dict[str, float]]:
        """Samples examples, shape (num_samples, *shape), and reports how reliable they are; clips images to [-1, 1].

        Args:
            num_samples: Number of samples, at least 1.
            labels: Must be ``None``: there are no classes.
            generator: Source of all random numbers; ``None`` takes a fresh seed from the system.
            method: ``"importance"``: ``oversampling`` noise samples per sample, resampled with weights p / q and with
                replacement; a small effective sample size means many copies of few noise samples. ``"mcmc"``: chains
                that start from noise, of Metropolis-adjusted Langevin steps of a tuned size and, before every fifth of
                them, a Metropolis-Hastings proposal of a new noise sample; both leave p invariant.

        Returns:
            The examples, and {"ess", "proposals"} or {"langevin_acceptance", "noise_acceptance", "step_size"}.

        Raises:
            ValueError: If an argument is out of range.
        """
        num_samples = check_num_samples(num_samples)
        check_no_labels(labels, "NCE")
        if method not in ("importance", "mcmc"):
            raise ValueError(f"method={method!r} must be 'importance' or 'mcmc'.")
        generator = generator or new_generator()
        with evaluating(self):
            if method == "importance":
                x, report = self.resample(num_samples, generator)
            else:
                x, report = self.run_chains(num_samples, generator)
        return x.clamp(-1, 1) if x.ndim == 4 else x, report

    def resample(self, num: int, generator: Generator) -> tuple[Tensor, dict[str, float]]:
        """Samples by importance resampling, each ``CHUNK`` samples from separate noise samples."""
        noise, parts, ess, proposals = Noise(generator), [], 0.0, 0
        for done in range(0, num, CHUNK):
            part = min(CHUNK, num - done)
            candidates = self.draw_noise(noise, part * self.hparams["oversampling"])
            weights = in_finest(torch.cat([self.unchecked_log_ratio(some) for some in candidates.split(CHUNK)]))
            chosen = torch.multinomial(
                weights.softmax(0).to(generator.device), part, replacement=True, generator=generator
            )
            parts.append(candidates[chosen.to(candidates.device)])
            ess, proposals = ess + effective_sample_size(weights).item(), proposals + len(candidates)
        return torch.cat(parts), {"ess": ess, "proposals": float(proposals)}

    def run_chains(self, num: int, generator: Generator) -> tuple[Tensor, dict[str, float]]:
        """Samples by Markov chains that start from noise, all in parallel."""
        noise, step_size = Noise(generator), self.tuned_step_size(generator)
        x = self.draw_noise(noise, num)
        moved: dict[str, list[float]] = {"langevin_acceptance": [], "noise_acceptance": []}
        for step in range(self.hparams["steps"]):
            if step % PROPOSALS_EVERY == 0:
                proposal = self.draw_noise(noise, num)
                # An independence sampler: q cancels, which leaves the ratio of importance weights.
                gain = self.unchecked_log_ratio(proposal) - self.unchecked_log_ratio(x)
                accepted = noise.uniform(num, device=x.device).log() < gain
                x = torch.where(accepted.view(-1, *[1] * (x.ndim - 1)), proposal, x)
                moved["noise_acceptance"].append(accepted.float().mean().item())
            x, accepted = mala_step(self.unchecked_energy, x, step_size, generator)
            moved["langevin_acceptance"].append(accepted.float().mean().item())
        return x, {name: sum(shares) / len(shares) for name, shares in moved.items()} | {"step_size": step_size}

    def tuned_step_size(self, generator: Generator) -> float:
        """Returns a step size at which about 57 % of Langevin proposals are accepted, about the best share.

        It is found by chains of their own, which are then discarded: a step size that depends on a chain's history
        would change what the chain samples from.
        """
        size, found = float(self.hparams["step_size"]), []
        x = self.draw_noise(Noise(generator), PILOT_CHAINS)
        for _ in range(PILOT_STEPS):
            x, accepted = mala_step(self.unchecked_energy, x, size, generator)
            share = accepted.float().mean().item()
            far = share > 0.95 or share < 0.05
            size *= math.exp((FAR_RATE if far else 1.0) * (share - BEST_ACCEPTANCE["mala"]))
            found.append(math.log(size))
        return math.exp(sum(found[PILOT_STEPS // 2 :]) / (PILOT_STEPS - PILOT_STEPS // 2))
