"""The mixture of Gaussians (eq. 1.17): arbitrarily flexible, and normalised by construction.

    q(x) = sum_k pi_k q_k(x),        log q(x) = logsumexp_k (log pi_k + log q_k(x))

Components without data near them get no gradient, so a mixture is only as good as its initialisation: here k-means++
on the first training examples, and the covariances of its clusters. It is then trained by gradients (``Trainer.fit``)
or by expectation maximisation (``fit_em``), which maximise the same objective: EM is gradient ascent with a
positive-definite preconditioner, which the gradient steps use, too (``lightning_modules.density.components``).

References:
    Maximum Likelihood from Incomplete Data via the EM Algorithm (Dempster, Laird and Rubin, 1977),
    https://doi.org/10.1111/j.2517-6161.1977.tb01600.x
    The EM Algorithm for Mixtures of Factor Analyzers (Ghahramani and Hinton, 1996)
    A Brief Introduction to Generative Models (Lamb, 2021), https://arxiv.org/abs/2103.00265, section 1.2.2

NOTE: The likelihood of a mixture is unbounded: a component centred on one example can shrink without limit.
``covariance_floor`` prevents this.
"""

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from datamodules.spec import Batch
from lightning_modules.density.components import Moments
from lightning_modules.density.fitting import (
    batches_of,
    checked,
    first_examples,
    natural_descent,
    step_limit,
    summed,
    summed_moments,
)
from lightning_modules.density.gaussian import check_settings
from lightning_modules.density.low_rank import build_components
from lightning_modules.density.unconditional_samples import UnconditionalSamples
from lightning_modules.parts.clustering import k_means
from lightning_modules.parts.noise import Noise, draw_categorical
from lightning_modules.parts.precision import home_of_float64, in_float64, without_autocast
from lightning_modules.parts.sampling import CHUNK, measuring
from lightning_modules.parts.schedules import linear_decay
from lightning_modules.runtime.positions import flat

START_SEED = 0
"""Seed of k-means++, so that the initialisation is a function of the first training examples alone."""
SMALL_SHARE = 0.1
"""Fraction of an equal share below which gradients are not scaled up further: a batch has too few such examples."""


class GaussianMixture(UnconditionalSamples):
    """Gaussians with weights, initialised by k-means++ and trained by gradient maximum likelihood or by EM.

    Both maximise the mean log-likelihood minus the mean over components of
    ``covariance_floor / 2 * trace(Sigma_k^-1)``. At a maximum a component with an equal share of the data has the
    covariance of its part plus ``covariance_floor * I``; with half that share, plus twice the floor. (For ``low_rank``
    the trace is that of the inverse noise variances alone: at a maximum each noise variance is the variance that the
    factors do not explain plus the floor.)

    Args:
        shape: (C, H, W) of images in [-1, 1], or (D,) of points.
        num_components: Number of Gaussians, at least 1.
        covariance: ``"full"``, ``"diagonal"`` or ``"low_rank"`` (a mixture of factor analysers).
        rank: Number of shared directions of ``"low_rank"``, at least 1 and less than the dimensions; else ``None``.
        covariance_floor: Variance added to every dimension, at least 0.
        lr: Initial learning rate, in (0, 1]; 1 is nearly a whole step to the optimum of a single batch.
        decay_steps: Batches after which the learning rate has fallen linearly to zero, or ``None`` for a constant one.
        start_examples: Number of training examples, the first ones, that are clustered for the initialisation.

    Raises:
        ValueError: If a number is out of range, or ``rank`` does not fit ``covariance``.
    """

    value_range = (-1.0, 1.0)
    started: Tensor

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        num_components: int = 10,
        covariance: str = "full",
        rank: int | None = None,
        covariance_floor: float = 1e-6,
        lr: float = 0.1,
        decay_steps: int | None = None,
        start_examples: int = 10_000,
    ) -> None:
        super().__init__(lr_schedule=linear_decay(decay_steps))
        check_settings(covariance_floor, lr)
        if num_components < 1:
            raise ValueError(f"num_components={num_components} must be at least 1.")
        if start_examples < num_components:
            raise ValueError(f"start_examples={start_examples} must be at least num_components={num_components}.")
        self.save_hyperparameters()
        self.shape = tuple(shape)
        self.components = build_components(covariance, rank, num_components, self.num_dimensions)
        self.logits = nn.Parameter(torch.zeros(num_components))
        # Whether the components were initialised from data: kept in the checkpoint, so that a resumed run does not.
        self.register_buffer("started", torch.zeros((), dtype=torch.int64))

    # Densities

    def log_prob(self, x: Tensor) -> Tensor:
        """Returns the log-density of eq. 1.17 of examples (N, *shape), exact, in nats, shape (N,), with gradients.

        It is the density of the mixture on the whole space; that ``sample`` clips images is not taken into account.

        Raises:
            ValueError: If ``x`` is of another shape, is not finite, or holds images outside of [-1, 1].
        """
        return self.joint_log_prob(x).logsumexp(1)

    def joint_log_prob(self, x: Tensor) -> Tensor:
        """Returns log pi_k + log q_k(x) of examples, nats, shape (N, num_components); x as in ``log_prob``."""
        with measuring(self):
            return self.unchecked_joint_log_prob(self.examples(x))

    def posterior(self, x: Tensor) -> Tensor:
        """Returns the responsibilities p(k | x) of examples, shape (N, num_components); x as in ``log_prob``."""
        return self.joint_log_prob(x).softmax(1)

    @without_autocast
    def unchecked_joint_log_prob(self, x: Tensor) -> Tensor:
        """Returns what ``joint_log_prob`` does, of any finite values (N, ...)."""
        x = x.flatten(1).to(self.components.mean.dtype)
        return self.components.log_prob(x) + F.log_softmax(self.logits, 0)

    def unchecked_log_prob(self, x: Tensor) -> Tensor:
        """Returns what ``log_prob`` does, of any finite values; training calls it."""
        return self.unchecked_joint_log_prob(x).logsumexp(1)

    @property
    def weights(self) -> Tensor:
        """The weights pi_k, shape (num_components,)."""
        return self.logits.softmax(0)

    # Training by gradients

    def on_fit_start(self) -> None:
        """Initialises the components from the trainer's datamodule, unless that was done before.

        Raises:
            ValueError: If there is neither a datamodule nor a training loader.
        """
        super().on_fit_start()
        if self.started:
            return
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is not None:
            self.start(datamodule)
        elif self.trainer.fit_loop._data_source.instance is None:
            raise ValueError(
                "A GaussianMixture is initialised from data: give Trainer.fit a datamodule or a loader, or call "
                "start(batches)."
            )

    def on_train_start(self) -> None:
        """Initialises the components from the training loader if there was no datamodule."""
        super().on_train_start()
        if not self.started:
            (loader,) = flat(self.trainer.train_dataloader)
            self.start(self.examples_of(copy(loader)))  # the loader itself stays at its first batch

    def examples_of(self, loader: Iterable[Any]) -> Iterator[Tensor]:
        """Yields the examples (N, *shape) of batches of any form, which are checked as in training."""
        for number, batch in enumerate(map(self.converted, loader)):
            self.on_train_batch_start(batch, number)
            yield batch.x

    @torch.no_grad()
    def start(self, data: Any) -> None:
        """Sets the components to the clusters of the first ``start_examples`` training examples, by k-means++.

        The covariance of each cluster is averaged with the pooled covariance of all clusters, which counts as many
        examples as there are dimensions: the covariance of a small cluster alone would be singular. The result is the
        same on every process, and does not depend on their number.

        Args:
            data: A datamodule, whose training split is used, or an iterable of batches.

        Raises:
            ValueError: If there are fewer distinct examples than components.
        """
        x = first_examples(data, self.hparams["start_examples"], self.shape).to(self.device)
        num, dim = self.components.num, self.components.dim
        if len(x) < num:
            raise ValueError(f"num_components={num} needs at least as many examples, but there are {len(x)}.")
        assigned = k_means(x, num, torch.Generator().manual_seed(START_SEED))
        membership = F.one_hot(assigned, num).to(x.dtype)
        means = in_float64(membership).T @ in_float64(x) / in_float64(membership).sum(0)[:, None]
        self.components.mean.copy_(means)
        own = self.components.moments(x, membership)
        within = own.second.sum(0) / own.counts.sum()
        self.logits.copy_((own.counts / len(x)).log())
        self.components.fit_(
            Moments(own.counts + dim, own.first, own.second + dim * within), self.floors(own.counts), fresh=True
        )
        self.started.fill_(1)

    def floors(self, count: Tensor) -> Tensor:
        """Returns what the objective adds to the variances of components that have these counts of examples."""
        equal = count.sum() / len(count)
        return self.hparams["covariance_floor"] * equal / count.clamp_min(1e-6 * equal)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the mean of -log q in nats plus the term of ``covariance_floor``."""
        return self.objective({"nll": -self.unchecked_log_prob(batch.x).mean(), "floor": self.floor_term()})

    def floor_term(self) -> Tensor:
        """Returns the term that the objective subtracts from the mean log-likelihood."""
        return self.hparams["covariance_floor"] * self.components.shrinkage().mean()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stops at a non-finite gradient, else applies EM's preconditioner to the gradients."""
        super().on_before_optimizer_step(optimizer)
        limit = step_limit(optimizer)
        shares = self.weights.detach().clamp_min(SMALL_SHARE / self.components.num)
        self.components.natural_(shares, limit)
        if self.logits.grad is not None:
            self.logits.grad.div_(shares).clamp_(-limit, limit)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns SGD, which steps along the preconditioned gradient."""
        return self.scheduled(natural_descent(self.parameters(), self.hparams["lr"]))

    def negative_log_likelihood(self, batch: Batch, indices: Tensor, stage: str) -> dict[str, Tensor]:
        """Returns the exact value."""
        return {"exact": -self.unchecked_log_prob(batch.x)}

    # Training by expectation maximisation

    @torch.no_grad()
    def fit_em(self, data: Any, iterations: int = 100, tolerance: float = 1e-4) -> list[float]:
        """Runs expectation maximisation over all the data, which never lowers the objective.

        Sums are in float64 and over all processes, each of which passes its own part. It starts from the present
        components, or from k-means++ if they have not been initialised. (For ``low_rank`` the M step is ten steps of
        EM for factor analysis: a generalised EM, which is also monotone.)

        Args:
            data: A datamodule, whose training split is used, or batches that can be iterated repeatedly: examples
                (N, *shape), or tuples that begin with them.
            iterations: Largest number of passes.
            tolerance: Stops when the objective, nats per example, rises by less.

        Returns:
            The objective before each step, and at the end.

        Raises:
            ValueError: If there are fewer examples than components, one is not finite or of another shape, or a
                covariance is singular.
        """
        if not self.started:
            self.start(data)
        objective, moments = self.expect(data)
        history = [objective]
        for _ in range(iterations):
            self.components.fit_(moments, self.floors(moments.counts), fresh=False)
            self.logits.copy_(moments.counts.clamp_min(1e-12 * moments.counts.sum()).log())
            objective, moments = self.expect(data)
            history.append(objective)
            if history[-1] - history[-2] < tolerance:
                break
        return history

    def expect(self, data: Any) -> tuple[float, Moments]:
        """Makes one pass over the data; returns the objective, nats per example, and moments by responsibilities."""
        moments: Moments | None = None
        total = torch.zeros(2, dtype=torch.float64, device=home_of_float64(self.device))
        for x in batches_of(data):
            flat = checked(x, self.shape).to(self.device)
            joint = self.unchecked_joint_log_prob(flat)
            total += torch.stack([in_float64(joint.logsumexp(1)).sum(), total.new_tensor(len(flat))])
            own = self.components.moments(flat, joint.softmax(1))
            moments = own if moments is None else Moments(*(a + b for a, b in zip(moments, own, strict=True)))
        if moments is None:
            raise ValueError("There are no examples. EM needs batches that can be iterated over repeatedly.")
        (total,) = summed(total)
        if total[1] < self.components.num:
            raise ValueError(
                f"num_components={self.components.num} needs at least as many examples, but there are {int(total[1])}."
            )
        return (total[0] / total[1] - in_float64(self.floor_term())).item(), summed_moments(moments)

    # Sampling

    @torch.no_grad()
    def draw(self, noise: Noise, num: int) -> Tensor:
        """Samples examples (num, *shape) from the density itself, unclipped, with the random numbers of ``noise``."""
        chosen = noise.categorical(self.weights, num)
        z = noise.normal(num, self.components.num_normals, device=self.device)
        return self.components.place(chosen, z).view(num, *self.shape)

    def draw_flat(self, num: int, generator: Generator) -> Tensor:
        """Draws examples as vectors (num, D), unclipped."""
        chosen = draw_categorical(self.weights, num, generator)
        return torch.cat([self.components.draw(part, generator) for part in chosen.split(CHUNK)])
