"""Held-out metrics of noise-contrastive estimation: likelihood, classifier, importance weights."""

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from datamodules.spec import Batch
from lightning_modules.likelihood import LikelihoodModule
from lightning_modules.parts.mcmc import effective_sample_size
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.normalizers import LogPartition
from lightning_modules.parts.plane import GridDensity
from lightning_modules.parts.precision import device_and_type, in_finest, in_float64, single_precision
from lightning_modules.parts.sampling import CHUNK, evaluating, measuring
from lightning_modules.parts.schedules import Schedule
from lightning_modules.runtime.held_out import Weighted

ESS_SAMPLES = {"val": 1000, "test": 10_000}
CHAINS = 250
NOISE_BLOCK = 256
"""Number of noise samples that are drawn together for held-out data; a change would change the measured values."""


class MeasuredNCE(LikelihoodModule):
    """Abstract: a subclass defines the density ratio and the noise.

    Validation and tests log ``nll-estimate_nce``, an estimate with the learned c, which may be above or below the true
    value. For points in the plane they also log ``nll-grid``, with Z summed over a grid, and tests
    ``log_integral-grid``, the logarithm of the integral of p (0 for the right c), and ``kl-grid`` where the
    distribution of the data is known. Further values are the loss in nats, the ``accuracy`` of the classifier between
    data and noise at equal priors (0.5: noise like the data; 1: saturated), and ``ess-1k``, the effective sample size
    of 1000 noise samples with importance weights p / q (10 000 in tests). Tests also log the share of proposals that
    250 chains of ``sample(..., method="mcmc")`` accept: ``langevin_acceptance-250`` and ``noise_acceptance-250``.
    """

    log_normalizer: nn.Parameter

    def __init__(self, lr_schedule: Schedule) -> None:
        super().__init__(lr_schedule=lr_schedule)
        self.grid: GridDensity | None = None

    @abstractmethod
    def unchecked_log_ratio(self, x: Tensor) -> Tensor:
        """Returns what ``log_ratio`` does, of any finite values."""

    @abstractmethod
    def unchecked_log_prob(self, x: Tensor) -> Tensor:
        """Returns what ``log_prob`` does, of any finite values."""

    @abstractmethod
    def unchecked_energy(self, x: Tensor) -> Tensor:
        """Returns what ``energy`` does, of any finite values."""

    def log_ratio(self, x: Tensor) -> Tensor:
        """Returns log p(x) - log q(x) = c - f(x), shape (N,): the classifier's logit at equal priors.

        Raises:
            ValueError: If ``x`` is of another shape, is not finite, or holds images outside of [-1, 1].
        """
        with measuring(self):
            return self.unchecked_log_ratio(self.examples(x))

    def log_prob(self, x: Tensor) -> Tensor:
        """Returns log p(x) in nats, shape (N,), with gradients: -E(x) - log Z with the learned log Z = -c.

        It is an estimate, not exact; ``log_partition`` returns the same log Z. Raises as ``log_ratio``.
        """
        with measuring(self):
            return self.unchecked_log_prob(self.examples(x))

    def energy(self, x: Tensor) -> Tensor:
        """Returns E(x) = f(x) - log q(x) in nats, shape (N,), with gradients: p(x) is proportional to exp(-E(x)).

        Raises as ``log_ratio``.
        """
        with measuring(self):
            return self.unchecked_energy(self.examples(x))

    def log_partition(self) -> LogPartition:
        """Returns log Z of exp(-E), in nats: the learned -c, whose error is not known."""
        return LogPartition(-self.log_normalizer.item(), math.nan, "learned")

    @abstractmethod
    def draw_noise(self, noise: Noise, num: int) -> Tensor:
        """Samples noise from q, shape (num, *shape)."""

    @abstractmethod
    def sample_with_report(
        self, num_samples: int, *, generator: Generator | None = None, method: str = "importance"
    ) -> tuple[Tensor, dict[str, float]]:
        """Samples examples by importance resampling or by chains, and reports how reliable they are."""

    def num_noise(self, num: int) -> int:
        """Returns nu * num, at least 1."""
        return max(1, round(self.hparams["noise_ratio"] * num))

    def classification_losses(self, x: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Returns -log D of data, and nu times -log(1 - D) of noise, means in nats."""
        ratio = self.hparams["noise_ratio"]
        logits = self.unchecked_log_ratio(torch.cat([x, noise])) - math.log(ratio)
        return {
            "data": F.softplus(-logits[: len(x)]).mean(),
            "noise": ratio * F.softplus(logits[len(x) :]).mean(),
        }

    def begin_held_out(self, stage: str) -> None:
        """Integrates the density if examples are points in the plane."""
        in_the_plane = list(self.hparams["shape"]) == [2]
        with single_precision(self):
            self.grid = GridDensity(self.unchecked_log_prob, *device_and_type(self)) if in_the_plane else None

    def negative_log_likelihood(self, batch: Batch, indices: Tensor, stage: str) -> dict[str, Tensor]:
        """Returns the estimate with the learned c, and in the plane also the value with p normalised over a grid."""
        nll = -in_finest(self.unchecked_log_prob(batch.x))
        return {"estimate_nce": nll} | ({} if self.grid is None else {"grid": nll + self.grid.log_integral})

    def diagnostics(self, batch: Batch, indices: Tensor, stage: str) -> Mapping[str, Weighted]:
        """Measures the classifier on held-out data and on separate noise for every example."""
        ratio = self.hparams["noise_ratio"]
        noise = self.fixed_noise(indices, max(1, round(ratio)))
        data = self.unchecked_log_ratio(batch.x)
        contrast = self.unchecked_log_ratio(noise.flatten(0, 1)).view(noise.shape[:2])
        loss = F.softplus(math.log(ratio) - data) + ratio * F.softplus(contrast - math.log(ratio)).mean(1)
        right = ((data > 0).float() + (contrast <= 0).float().mean(1)) / 2
        return {"loss": loss, "accuracy": right}

    def fixed_noise(self, indices: Tensor, num: int) -> Tensor:
        """Samples noise that is a function of the index of each example in its split, shape (N, num, *shape)."""
        numbers = indices.cpu()[:, None] * num + torch.arange(num)
        blocks, places = (numbers // NOISE_BLOCK).unique(return_inverse=True)
        sources = [Noise(torch.Generator().manual_seed(block)) for block in blocks.tolist()]
        noise = torch.cat([self.draw_noise(source, NOISE_BLOCK) for source in sources])
        return noise[(places * NOISE_BLOCK + numbers % NOISE_BLOCK).to(noise.device)]

    def model_measures(self, stage: str) -> Mapping[str, float]:
        """Returns the effective sample size, and in tests the values that are computed on a grid in the plane."""
        count = "1k" if stage == "val" else "10k"
        values = {f"ess-{count}": self.importance_ess(ESS_SAMPLES[stage])}
        if stage == "test":
            _, report = self.sample_with_report(CHAINS, generator=torch.Generator().manual_seed(0), method="mcmc")
            values |= {f"{name}-{CHAINS}": report[name] for name in ("langevin_acceptance", "noise_acceptance")}
        if stage == "val" or self.grid is None:
            return values
        divergence = self.grid.divergence_from(self.data_spec if self.has_data_spec else None)
        values["log_integral-grid"] = self.grid.log_integral
        return values if divergence is None else {**values, "kl-grid": divergence}

    def importance_ess(self, num: int) -> float:
        """Returns the effective sample size of ``num`` noise samples, from a fixed seed, weighted by p / q."""
        noise = Noise(torch.Generator().manual_seed(0))
        with evaluating(self):
            parts = [min(CHUNK, num - done) for done in range(0, num, CHUNK)]
            weights = torch.cat([self.unchecked_log_ratio(self.draw_noise(noise, part)) for part in parts])
        return effective_sample_size(in_float64(weights)).item()
