"""Members of the exponential family, one independent variable per value of an example, beside the Gaussian (eq. 1.16).

    log q(x) = <eta, T(x)> - A(eta),        A(eta) = log sum_x exp(<eta, T(x)>)

with natural parameters eta and sufficient statistics T. The log-partition A has a closed form, so q is normalised by
construction (eq. 1.14 and 1.15) and everything follows from A: its gradient is the mean of T, its Hessian (the Fisher
information) the covariance of T, and the KL divergence of two members is its Bregman divergence,

    KL(q || r) = A(eta_r) - A(eta_q) - <eta_r - eta_q, grad A(eta_q)>.

Hence the maximum of the likelihood has the moments of the data: E_q T = mean of T over the data. A value that training
has never shown would have probability zero, and the first one in the test split an infinite loss. So the data are mixed
with ``smoothing`` times as much uniform noise: the maximum has the means (mean + smoothing uniform) / (1 + smoothing).

NOTE: A step is the natural gradient in the means of T, mean <- (1 - lr) mean + lr * (mean of the batch, smoothed): an
exponential average that cannot leave the simplex, and with lr = 1 the maximum for the batch.

References:
    A Brief Introduction to Generative Models (Lamb, 2021), https://arxiv.org/abs/2103.00265, section 1.2.1
    Graphical Models, Exponential Families, and Variational Inference (Wainwright and Jordan, 2008),
    https://doi.org/10.1561/2200000001
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from datamodules.spec import Batch
from lightning_modules.density.fitting import batches_of, checked, natural_descent, summed
from lightning_modules.density.unconditional_samples import UnconditionalSamples
from lightning_modules.parts.precision import in_float64, without_autocast
from lightning_modules.parts.sampling import CHUNK, measuring
from lightning_modules.parts.schedules import linear_decay

Member = TypeVar("Member", bound="ExponentialFamily")


class ExponentialFamily(UnconditionalSamples):
    """Abstract: a product of D independent members, each with S natural parameters; starts at the uniform one.

    Args:
        shape: (C, H, W) of images, D values.
        num_statistics: Number S of sufficient statistics of one value.
        smoothing: Weight of uniform noise in the objective, in [1e-6, 1].
        lr: Initial learning rate, in (0, 1].
        decay_steps: Batches after which the learning rate has fallen linearly to zero, or ``None``.

    Raises:
        ValueError: If a number is out of range.
    """

    kinds = ("image",)
    discrete = True

    def __init__(
        self, shape: Sequence[int], num_statistics: int, smoothing: float, lr: float, decay_steps: int | None
    ) -> None:
        super().__init__(lr_schedule=linear_decay(decay_steps))
        if not 1e-6 <= smoothing <= 1:
            raise ValueError(f"smoothing={smoothing} must lie in [1e-6, 1]: at 0, unseen values would be impossible.")
        if not 0 < lr <= 1:
            raise ValueError(f"lr={lr} must lie in (0, 1]: 1 is a whole step to the optimum of a batch.")
        self.smoothing, self.lr = smoothing, lr
        self.eta = nn.Parameter(torch.zeros(torch.Size(shape).numel(), num_statistics))

    # The family

    @abstractmethod
    def sufficient_statistics(self, x: Tensor) -> Tensor:
        """Returns the sum of T over examples (N, *shape), (D, S), float64."""

    @abstractmethod
    def inner_product(self, x: Tensor) -> Tensor:
        """Returns <eta, T(x)> of examples (N, *shape), summed over their values, (N,)."""

    @abstractmethod
    def log_partition(self, eta: Tensor) -> Tensor:
        """Returns A of natural parameters (..., S), nats, shape (...)."""

    @abstractmethod
    def mean_parameters(self, eta: Tensor) -> Tensor:
        """Returns E T, the gradient of A, of natural parameters (..., S); the same shape."""

    @abstractmethod
    def natural_parameters(self, mean: Tensor) -> Tensor:
        """Returns natural parameters with means (..., S) of T in the interior of their range; the same shape."""

    @abstractmethod
    def place(self, uniform: Tensor) -> Tensor:
        """Returns one sample of all values for each row of uniform numbers in [0, 1), (N, D), by inversion."""

    def entropy(self) -> float:
        """Returns H(q) = A(eta) - <eta, grad A(eta)> in nats."""
        eta = in_float64(self.eta.detach())
        return float((self.log_partition(eta) - (eta * self.mean_parameters(eta)).sum(-1)).sum())

    def kl_divergence(self: Member, other: Member) -> float:
        """Returns KL(self || other) of eq. 1.4 in nats, the Bregman divergence of A.

        It is at least 0, and 0 if and only if the distributions are equal (eq. 1.1 and 1.2).

        Raises:
            ValueError: If ``other`` is another member of the family, or of another shape.
        """
        if type(other) is not type(self) or other.hparams["shape"] != self.hparams["shape"]:
            raise ValueError(
                f"KL of {type(self).__name__} of shape {self.hparams['shape']} needs another such model, not "
                f"{type(other).__name__} of shape {getattr(other, 'hparams', {}).get('shape')}."
            )
        eta, others = in_float64(self.eta.detach()), in_float64(other.eta.detach()).to(self.device)
        linear = ((others - eta) * self.mean_parameters(eta)).sum(-1)
        divergence = float((self.log_partition(others) - self.log_partition(eta) - linear).sum())
        return max(divergence, 0.0)  # of distributions that are nearly equal, rounding may be larger than it is

    # Likelihood

    def log_prob(self, x: Tensor) -> Tensor:
        """Returns log q of examples (N, *shape), exact, in nats, (N,), with gradients by eta; eq. 1.14 to 1.16.

        Raises:
            ValueError: If ``x`` is of another shape, or holds a value of probability zero.
        """
        with measuring(self):
            return self.unchecked_log_prob(self.examples(x))

    @without_autocast
    def unchecked_log_prob(self, x: Tensor) -> Tensor:
        """Returns what ``log_prob`` does, of values of the support; training calls it."""
        return self.inner_product(x) - self.log_partition(self.eta).sum()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the mean of -log q in nats plus ``smoothing`` times that of uniform noise."""
        nll = -self.unchecked_log_prob(batch.x).mean()
        uniform = self.mean_parameters(torch.zeros_like(self.eta))
        cross_entropy = self.log_partition(self.eta).sum() - (uniform * self.eta).sum()
        return self.objective({"nll": nll, "smoothing": self.smoothing * cross_entropy})

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stops at a non-finite gradient, else replaces it by one whose step is the natural one in the means of T."""
        super().on_before_optimizer_step(optimizer)
        if self.eta.grad is None or (lr := optimizer.param_groups[0]["lr"]) == 0:
            return
        eta = in_float64(self.eta.detach())
        self.eta.grad.copy_((eta - self.after_step(self.eta.grad, lr)) / lr)

    def after_step(self, gradient: Tensor, lr: float) -> Tensor:
        """Returns the natural parameters after a step of size ``lr``, float64, by the gradient of the objective."""
        eta = in_float64(self.eta.detach())
        # The gradient by eta is (1 + smoothing) E T minus the statistics of data and noise.
        mean = self.mean_parameters(eta) - lr / (1 + self.smoothing) * in_float64(gradient)
        # The means hold at least this much of the noise; the gradient, in float32, may be off by more than that.
        least = lr * self.smoothing / (1 + self.smoothing) * self.mean_parameters(torch.zeros_like(eta[:1]))
        return self.natural_parameters(torch.minimum(torch.maximum(mean, least), 1 - least))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns SGD, which steps along the natural gradient."""
        return self.scheduled(natural_descent(self.parameters(), self.lr))

    def negative_log_likelihood(self, batch: Batch, indices: Tensor, stage: str) -> dict[str, Tensor]:
        """Returns the exact value."""
        return {"exact": -self.unchecked_log_prob(batch.x)}

    @torch.no_grad()
    def fit_closed_form(self, data: Any) -> None:
        """Sets the means of T to those of the data, smoothed: the argmin of eq. 1.3 for the KL divergence, in one pass.

        Sums are in float64 and over all processes, each of which passes its own part.

        Args:
            data: A datamodule, whose training split is used, or an iterable of batches: examples (N, *shape), or
                tuples that begin with them.

        Raises:
            ValueError: If there are no examples, or one is of another shape or outside of the support.
        """
        total, count = in_float64(torch.zeros_like(self.eta)), in_float64(self.eta.new_zeros(1))
        for x in batches_of(data):
            x = checked(x, tuple(self.hparams["shape"])).view(x.shape)
            total += self.sufficient_statistics(self.examples(x))
            count += len(x)
        total, count = summed(total, count)
        if not count > 0:
            raise ValueError("There are no examples to fit.")
        uniform = self.mean_parameters(torch.zeros_like(total))
        self.eta.copy_(self.natural_parameters((total / count + self.smoothing * uniform) / (1 + self.smoothing)))

    def draw_flat(self, num: int, generator: Generator) -> Tensor:
        """Draws examples as vectors (num, D), each value independently of all others."""
        values = len(self.eta)
        parts = [
            self.place(torch.rand(len(part), values, generator=generator, device=generator.device))
            for part in torch.empty(num).split(CHUNK)
        ]
        return torch.cat(parts)
