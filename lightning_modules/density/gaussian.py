"""The Gaussian (eq. 1.16), with one dimension per value of an example: the simplest normalised density.

Training minimises the mean of -log q over the data (eq. 1.10). By eq. 1.12 and 1.13

    mean of -log q = CE(p, q) = H(p) + KL(p || q) >= H(p):

the held-out value, in nats or bits, is an upper bound of the entropy of the data, below which a model can be only by
chance, and the better the model the tighter the bound. Of all distributions with the same mean and covariance the
Gaussian has the largest entropy, so this is the bound that follows from two moments alone. It holds for densities and
for masses; a differential entropy may be negative.

References:
    A Brief Introduction to Generative Models (Lamb, 2021), https://arxiv.org/abs/2103.00265, section 1.2.2
    EM Algorithms for ML Factor Analysis (Rubin and Thayer, 1982), https://doi.org/10.1007/BF02293851 (low rank)
    Natural Gradient Works Efficiently in Learning (Amari, 1998), https://doi.org/10.1162/089976698300017746

NOTE: Images of 256 grey values have no density: a model may put an arbitrarily high peak on each value. Build the
datamodule with ``dequantize=true``; only then are bits/dim logged.
"""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor
from torch.optim import Optimizer

from datamodules.spec import Batch
from lightning_modules.density.components import Moments
from lightning_modules.density.fitting import batches_of, checked, natural_descent, step_limit, summed_moments
from lightning_modules.density.low_rank import build_components
from lightning_modules.density.unconditional_samples import UnconditionalSamples
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.precision import home_of_float64, without_autocast
from lightning_modules.parts.sampling import CHUNK, measuring
from lightning_modules.parts.schedules import linear_decay


class Gaussian(UnconditionalSamples):
    """One Gaussian, trained by natural-gradient maximum likelihood from N(0, I), or fitted by ``fit_closed_form``.

    Both maximise the mean log-likelihood minus ``covariance_floor / 2 * trace(Sigma^-1)``: at the maximum Sigma is the
    data's covariance plus ``covariance_floor * I``. (For ``low_rank`` the trace is that of the inverse noise variances
    alone: at the maximum each noise variance is the variance that the factors do not explain plus the floor.)

    Args:
        shape: (C, H, W) of images in [-1, 1], or (D,) of points.
        covariance: ``"full"``, ``"diagonal"`` or ``"low_rank"`` (a factor analyser: ``rank`` shared directions and
            independent noise in each dimension).
        rank: Number of shared directions of ``"low_rank"``, at least 1 and less than the dimensions; else ``None``.
        covariance_floor: Variance added to every dimension, at least 0.
        lr: Initial learning rate, in (0, 1]; 1 is nearly a whole step to the optimum of a single batch.
        decay_steps: Batches after which the learning rate has fallen linearly to zero, or ``None`` for a constant one.

    Raises:
        ValueError: If a number is out of range, or ``rank`` does not fit ``covariance``.
    """

    value_range = (-1.0, 1.0)

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        covariance: str = "full",
        rank: int | None = None,
        covariance_floor: float = 1e-5,
        lr: float = 0.1,
        decay_steps: int | None = None,
    ) -> None:
        super().__init__(lr_schedule=linear_decay(decay_steps))
        check_settings(covariance_floor, lr)
        self.save_hyperparameters()
        self.shape = tuple(shape)
        self.components = build_components(covariance, rank, 1, self.num_dimensions)

    def log_prob(self, x: Tensor) -> Tensor:
        """Returns the log-density of examples (N, *shape), exact, in nats, (N,), with gradients; eq. 1.14 to 1.16.

        It is the density of the Gaussian on the whole space; that ``sample`` clips images is not taken into account.

        Raises:
            ValueError: If ``x`` is of another shape, is not finite, or holds images outside of [-1, 1].
        """
        with measuring(self):
            return self.unchecked_log_prob(self.examples(x))

    @without_autocast
    def unchecked_log_prob(self, x: Tensor) -> Tensor:
        """Returns what ``log_prob`` does, of any finite values; training calls it."""
        return self.components.log_prob(x.flatten(1).to(self.components.mean.dtype)).squeeze(1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the mean of -log q in nats plus the term of ``covariance_floor``."""
        floor = self.hparams["covariance_floor"]
        nll = -self.unchecked_log_prob(batch.x).mean()
        return self.objective({"nll": nll, "floor": floor * self.components.shrinkage()[0]})

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stops at a non-finite gradient, else replaces the gradients by natural gradients."""
        super().on_before_optimizer_step(optimizer)
        self.components.natural_(torch.ones(1, device=self.device), step_limit(optimizer))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns SGD, which steps along the natural gradient."""
        return self.scheduled(natural_descent(self.parameters(), self.hparams["lr"]))

    def negative_log_likelihood(self, batch: Batch, indices: Tensor, stage: str) -> dict[str, Tensor]:
        """Returns the exact value."""
        return {"exact": -self.unchecked_log_prob(batch.x)}

    @torch.no_grad()
    def fit_closed_form(self, data: Any) -> None:
        """Sets mean and covariance to the maximum of the objective, in one pass over the data.

        Sums are in float64 and over all processes, each of which passes its own part. There is no closed form for
        ``low_rank``: with the same sums, EM for factor analysis starts from the principal components of the
        correlations and runs until it converges.

        Args:
            data: A datamodule, whose training split is used, or an iterable of batches: examples (N, *shape), or
                tuples that begin with them.

        Raises:
            ValueError: If there are no examples, one is not finite or of another shape, or the covariance is singular.
        """
        total: Moments | None = None
        for x in batches_of(data):
            x = checked(x, self.shape).to(self.device)
            moments = self.components.moments(x, x.new_ones(len(x), 1))
            total = moments if total is None else Moments(*(a + b for a, b in zip(total, moments, strict=True)))
        if total is None:
            raise ValueError("There are no examples to fit.")
        home = home_of_float64(self.device)
        floors = torch.full((1,), self.hparams["covariance_floor"], dtype=torch.float64, device=home)
        self.components.fit_(summed_moments(total), floors, fresh=True, steps=1000)

    @torch.no_grad()
    def draw(self, noise: Noise, num: int) -> Tensor:
        """Samples examples (num, *shape) from the density itself, unclipped, with the random numbers of ``noise``."""
        chosen = torch.zeros(num, dtype=torch.int64, device=self.device)
        z = noise.normal(num, self.components.num_normals, device=self.device)
        return self.components.place(chosen, z).view(num, *self.shape)

    def draw_flat(self, num: int, generator: Generator) -> Tensor:
        """Draws examples as vectors (num, D), unclipped."""
        chosen = torch.zeros(num, dtype=torch.int64, device=self.device)
        return torch.cat([self.components.draw(part, generator) for part in chosen.split(CHUNK)])


def check_settings(covariance_floor: float, lr: float) -> None:
    """Raises ValueError if a number is out of range."""
    if not 0 <= covariance_floor < float("inf"):
        raise ValueError(f"covariance_floor={covariance_floor} must be a finite number, at least 0.")
    if not 0 < lr <= 1:
        raise ValueError(f"lr={lr} must lie in (0, 1]: 1 is a whole step to the optimum of a batch.")
