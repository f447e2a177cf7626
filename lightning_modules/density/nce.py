"""Noise-contrastive estimation: a density out of a classifier between data and noise of a known density.

A classifier D that tells data p from nu times as much noise q learns p / (p + nu q) (eq. 1.34 and 1.35), and so

    p(x) = nu D(x) / (1 - D(x)) q(x)

of which eq. 1.36 is the case nu = 1. Here the classifier's logit is log p(x) - log q(x) - log nu with an unnormalised
log p(x) = c - E(x): the constant c is learned as any other weight, and at the optimum it is -log Z, without a sample of
the model or an integral having been asked for.

NOTE: The energy is taken relative to the noise, E = f - log q with a network f, so that q cancels in the classifier,
and where f = 0 the model is the noise. Any energy can be written so.

NOTE: It works as far as the noise resembles the data. On pictures hardly anything does: the classifier saturates, a few
draws of noise get all of the importance, and the effective sample size, which is logged, falls to near 1.

Noise-contrastive estimation (Gutmann and Hyvarinen, 2010), https://proceedings.mlr.press/v9/gutmann10a.html
Noise-Contrastive Estimation of Unnormalized Statistical Models (Gutmann and Hyvarinen, 2012),
https://jmlr.org/papers/v13/gutmann12a.html
"""

import contextvars
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from lightning_modules.base import GenerativeModule, fused_if_possible
from lightning_modules.likelihood import LikelihoodModule
from lightning_modules.networks.potential import build_potential
from lightning_modules.parts.capabilities import DataSpec, HasDensity, Samples
from lightning_modules.parts.mcmc import effective_sample_size, mala_step
from lightning_modules.parts.noise import GeneratorNoise, Noise, new_generator
from lightning_modules.parts.plane import GRID_EXTENT, grid_log_integral, mixture_divergence, on_grid
from lightning_modules.parts.sampling import CHUNK, check_num_samples, evaluating
from lightning_modules.parts.schedules import linear_decay

ESS_DRAWS = {"val": 1000, "test": 10_000}
PROPOSALS_EVERY = 5


class NCE(LikelihoodModule):
    """log p(x) = log q(x) - f(x) + c with a network f and a noise density q, trained as a classifier between them.

    Held-out numbers: ``nll-estimate_nce``, which trusts c and may be on either side of the truth; for points in the
    plane also ``nll-grid``, with Z summed over a grid, and in tests ``log_integral-grid``, the logarithm of what p
    integrates to (0 for a c that is right) and, where the law of the data is known, ``kl-grid``. Besides the loss in
    nats: ``accuracy`` of telling data from noise at equal priors (0.5: noise as good as the data; 1: saturated), and
    ``ess-1k``, the effective sample size of a thousand draws of noise under importance weights p / q (10 000 in tests).

    Args:
        shape: (C, H, W) of pictures in [-1, 1], or (D,) of points.
        noise_density: q: a module with ``log_prob`` and ``sample``, or {"method": ..., "hyperparameters": {...}} of one
            of this library's; its weights are kept, frozen, in this module's own state. ``None`` for N(0, I). A density
            with ``draw(noise, num)`` trains equally on any number of processes; of others each process draws its own.
        noise_ratio: nu, draws of noise for each example of data.
        architecture: ``"conv"`` for pictures, ``"mlp"`` for both.
        width: Channels of the first convolution, or a quarter of the units of a layer of the MLP.
        lr: Adam's learning rate.
        betas: Adam's decay rates.
        decay_steps: Batches after which the learning rate has fallen linearly to zero, or ``None``.
        oversampling: Draws of noise for each sample of importance resampling.
        steps: Steps of a chain in ``sample(..., method="mcmc")``.
        step_size: Step size of those chains.

    Raises:
        ValueError: If a number is out of range, or the noise density cannot be built or lacks a call.
    """

    value_range = (-1.0, 1.0)

    num_judged = 2000  # each sample is the end of a long chain

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
        super().__init__()
        for name, value in (
            ("noise_ratio", noise_ratio),
            ("lr", lr),
            ("oversampling", oversampling),
            ("steps", steps),
            ("step_size", step_size),
        ):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}={value} must be positive.")
        density, plain = frozen_density(noise_density, shape)
        self.save_hyperparameters(ignore=["noise_density"])
        self.save_hyperparameters({"noise_density": plain})
        self.decay = linear_decay(decay_steps)
        self.noise_density = density  # not ``noise``: that is the seam of training's random numbers
        self.network = build_potential(architecture, shape, width, None)
        self.log_normalizer = nn.Parameter(torch.zeros(()))
        self.log_integral: float | None = None
        self.to(memory_format=torch.channels_last)

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Shape from the data; points need the multi-layer perceptron."""
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

    def log_ratio(self, x: Tensor) -> Tensor:
        """Returns log p(x) - log q(x) = c - f(x), shape (N,): the classifier's logit at equal priors."""
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return self.log_normalizer - self.network(x)

    def forward(self, x: Tensor) -> Tensor:
        """Returns D(x), shape (N,): the probability that x is data, where there is nu times as much noise."""
        return torch.sigmoid(self.log_ratio(x) - math.log(self.hparams["noise_ratio"]))

    def log_prob(self, x: Tensor) -> Tensor:
        """Returns log p(x) in nats, shape (N,), as far as the learned c normalises it: an estimate, not exact."""
        return self.noise_density.log_prob(x) + self.log_ratio(x)  # type: ignore[operator]

    def energy(self, x: Tensor) -> Tensor:
        """Returns E(x) = f(x) - log q(x) in nats, shape (N,): p(x) is proportional to exp(-E(x))."""
        return self.log_normalizer - self.log_prob(x)

    def draw_noise(self, noise: Noise, num: int) -> Tensor:
        """Draws from q, shape (num, *shape)."""
        draw = getattr(self.noise_density, "draw", None)
        with torch.no_grad():
            if draw is not None:
                return draw(noise, num)
            seed = int(noise.integers(2**62, 1, torch.device("cpu")).item())
            generator = torch.Generator().manual_seed(seed)
            return self.noise_density.sample(num, generator=generator)  # type: ignore[operator]

    # Training

    def on_train_start(self) -> None:
        """The noise density is not in training, whatever dropout it may have."""
        self.noise_density.eval()

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """Logistic loss of telling data from noise, nats for each example of data."""
        if batch_idx == 0:
            self.check_batch(batch)
        x = batch[0]
        noise = self.draw_noise(self.noise, self.num_noise(len(x)))
        return self.objective(self.classification_losses(x, noise))

    def num_noise(self, num: int) -> int:
        """Returns nu * num, at least 1."""
        return max(1, round(self.hparams["noise_ratio"] * num))

    def classification_losses(self, x: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Returns -log D of data, and nu times -log(1 - D) of noise, means in nats."""
        ratio = self.hparams["noise_ratio"]
        logits = self.log_ratio(torch.cat([x, noise])) - math.log(ratio)
        return {
            "data": F.softplus(-logits[: len(x)]).mean(),
            "noise": ratio * F.softplus(logits[len(x) :]).mean(),
        }

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam, its learning rate falling linearly if ``decay_steps`` is set; the noise density stays as it is."""
        optimizer = fused_if_possible(
            torch.optim.Adam,
            [self.log_normalizer, *self.network.parameters()],
            lr=self.hparams["lr"],
            betas=tuple(self.hparams["betas"]),
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.decay)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # Measuring

    def on_validation_epoch_start(self) -> None:
        """Integrates the density where that can be done."""
        super().on_validation_epoch_start()
        self.integrate()

    def on_test_epoch_start(self) -> None:
        """Integrates the density where that can be done."""
        super().on_test_epoch_start()
        self.integrate()

    def integrate(self) -> None:
        """Sums p over a grid, if it is a density in the plane."""
        if list(self.hparams["shape"]) == [2]:
            self.log_integral = grid_log_integral(on_grid(self.log_prob, self.device), GRID_EXTENT).item()

    def negative_log_likelihood(self, x: Tensor, labels: Tensor, indices: Tensor, stage: str) -> dict[str, Tensor]:
        """Returns c's estimate, and in the plane the value with p normalised over a grid."""
        nll = -self.log_prob(x).double()
        return {"estimate_nce": nll} | ({} if self.log_integral is None else {"grid": nll + self.log_integral})

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Logs ``val/nll-...``, ``val/loss`` and ``val/accuracy``."""
        super().validation_step(batch, batch_idx)
        self.log_classifier(batch[0], batch_idx, "val")

    def test_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Logs ``test/nll-...``, ``test/loss`` and ``test/accuracy``."""
        super().test_step(batch, batch_idx)
        self.log_classifier(batch[0], batch_idx, "test")

    def log_classifier(self, x: Tensor, batch_idx: int, stage: str) -> None:
        """Measures the classifier on held-out data and fresh noise, of a seed for each batch and process."""
        seed = batch_idx * self.trainer.world_size + self.global_rank
        noise = self.draw_noise(GeneratorNoise(torch.Generator().manual_seed(seed)), self.num_noise(len(x)))
        losses = self.classification_losses(x, noise)
        right = (self.log_ratio(x) > 0).float().mean() + (self.log_ratio(noise) <= 0).float().mean()
        values = {f"{stage}/loss": losses["data"] + losses["noise"], f"{stage}/accuracy": right / 2}
        self.log_dict(values, sync_dist=True, batch_size=len(x))

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/ess-1k`` and the means."""
        super().on_validation_epoch_end()
        self.log("val/ess-1k", self.importance_ess(ESS_DRAWS["val"]))

    def on_test_epoch_end(self) -> None:
        """Logs ``test/ess-10k``, and what a grid in the plane has shown."""
        super().on_test_epoch_end()
        self.log("test/ess-10k", self.importance_ess(ESS_DRAWS["test"]))
        if self.log_integral is None:
            return
        self.log("test/log_integral-grid", self.log_integral)
        divergence = mixture_divergence(on_grid(self.log_prob, self.device), self.data_spec)
        if divergence is not None:
            self.log("test/kl-grid", divergence)

    def importance_ess(self, num: int) -> float:
        """Returns the effective sample size of ``num`` draws of noise, of a fixed seed, weighted by p / q."""
        noise = GeneratorNoise(torch.Generator().manual_seed(0))
        with evaluating(self):
            parts = [min(CHUNK, num - done) for done in range(0, num, CHUNK)]
            weights = torch.cat([self.log_ratio(self.draw_noise(noise, part)) for part in parts])
        return effective_sample_size(weights.double()).item()

    # Sampling

    def sample(
        self,
        num_samples: int,
        *,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        method: str = "importance",
    ) -> Tensor:
        """Draws examples, shape (num_samples, *shape); see ``sample_with_report``, of which this is the first half."""
        return self.sample_with_report(num_samples, labels=labels, generator=generator, method=method)[0]

    def sample_with_report(
        self,
        num_samples: int,
        *,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        method: str = "importance",
    ) -> tuple[Tensor, dict[str, float]]:
        """Draws examples, shape (num_samples, *shape), and says how far to trust them; pictures are clipped to [-1, 1].

        Args:
            num_samples: How many, at least 1.
            labels: Must be ``None``: there are no classes.
            generator: Source of all randomness; ``None`` takes a fresh seed from the system.
            method: ``"importance"``: ``oversampling`` draws of noise for each sample, resampled with weights p / q,
                with replacement: a small effective sample size means many copies of few draws. ``"mcmc"``: chains from
                noise, of Metropolis-adjusted Langevin steps and, before every fifth, the proposal of a fresh draw of
                noise; both leave p invariant.

        Returns:
            The examples, and {"ess", "proposals"} or {"langevin_acceptance", "noise_acceptance"}.

        Raises:
            ValueError: If an argument is out of range.
        """
        check_num_samples(num_samples)
        if labels is not None:
            raise ValueError("labels were given to an unconditional model; NCE has no classes.")
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
        """Importance resampling, for every 500 samples from draws of their own."""
        noise, parts, ess, proposals = GeneratorNoise(generator), [], 0.0, 0
        for done in range(0, num, CHUNK):
            part = min(CHUNK, num - done)
            draws = self.draw_noise(noise, part * self.hparams["oversampling"])
            weights = torch.cat([self.log_ratio(some) for some in draws.split(CHUNK)]).double()
            chosen = torch.multinomial(
                weights.softmax(0).to(generator.device), part, replacement=True, generator=generator
            )
            parts.append(draws[chosen.to(draws.device)])
            ess, proposals = ess + effective_sample_size(weights).item(), proposals + len(draws)
        return torch.cat(parts), {"ess": ess, "proposals": float(proposals)}

    def run_chains(self, num: int, generator: Generator) -> tuple[Tensor, dict[str, float]]:
        """Chains from noise, all of them in parallel."""
        noise = GeneratorNoise(generator)
        x = self.draw_noise(noise, num)
        moved: dict[str, list[float]] = {"langevin_acceptance": [], "noise_acceptance": []}
        for step in range(self.hparams["steps"]):
            if step % PROPOSALS_EVERY == 0:
                proposal = self.draw_noise(noise, num)
                # An independence sampler: q cancels, and what is left is the ratio of importance weights.
                accepted = noise.uniform(num, device=x.device).log() < self.log_ratio(proposal) - self.log_ratio(x)
                x = torch.where(accepted.view(-1, *[1] * (x.ndim - 1)), proposal, x)
                moved["noise_acceptance"].append(accepted.float().mean().item())
            x, accepted = mala_step(self.energy, x, self.hparams["step_size"], generator)
            moved["langevin_acceptance"].append(accepted.float().mean().item())
        return x, {name: sum(shares) / len(shares) for name, shares in moved.items()}


def frozen_density(
    density: nn.Module | Mapping[str, Any] | None, shape: Sequence[int]
) -> tuple[nn.Module, dict[str, Any]]:
    """Returns the noise density, without gradients, and the JSON-plain description of it.

    Raises:
        ValueError: If it cannot be built, is of another shape, or lacks ``log_prob`` or ``sample``.
    """
    if density is None:
        density = {"method": "Gaussian", "hyperparameters": {"shape": list(shape), "covariance": "diagonal"}}
    if isinstance(density, Mapping):
        # In a context of its own: under LightningCLI the module inside would take its hyperparameters for its own.
        module = contextvars.Context().run(build_density, density)
        plain = {"method": density["method"], "hyperparameters": dict(density["hyperparameters"])}
    else:
        module = density
        plain = {"method": type(density).__name__, "hyperparameters": plain_hyperparameters(density)}
    if not isinstance(module, HasDensity) or not isinstance(module, Samples):
        raise ValueError(f"noise_density={type(module).__name__} needs log_prob(x) and sample(num_samples, ...).")
    own = plain["hyperparameters"].get("shape", shape)
    if list(own) != list(shape):
        raise ValueError(f"noise_density was built for shape={list(own)}, not for {list(shape)}.")
    return module.requires_grad_(False), plain


def build_density(description: Mapping[str, Any]) -> nn.Module:
    """Builds a method of the registry.

    Raises:
        ValueError: If the description is not {"method", "hyperparameters"} of one.
    """
    from lightning_modules import METHODS  # here, because the registry imports this file

    if set(description) != {"method", "hyperparameters"} or description["method"] not in METHODS:
        raise ValueError(
            f"noise_density={dict(description)!r} must be {{'method': ..., 'hyperparameters': {{...}}}} with one of "
            f"{', '.join(METHODS)}."
        )
    return METHODS[description["method"]](**description["hyperparameters"])


def plain_hyperparameters(module: nn.Module) -> dict[str, Any]:
    """Returns what a module was built with, without what LightningCLI adds; tuples become lists."""
    hparams = module.hparams if isinstance(module, GenerativeModule) else {}
    kept = {key: value for key, value in hparams.items() if not key.startswith("_")}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in kept.items()}
