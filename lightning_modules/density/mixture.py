"""The mixture of Gaussians (eq. 1.17): as flexible as one likes, and still a density by a two-line proof.

    q(x) = sum_k pi_k q_k(x),        log q(x) = logsumexp_k (log pi_k + log q_k(x))

Components with nothing near them get no gradient, so a mixture is only as good as its start: here k-means++ on the
first training examples, and the covariances of its clusters. From there it is trained by gradients (``Trainer.fit``)
or by expectation maximisation (``fit_em``), which climb the same objective: EM is the gradient under a
positive-definite preconditioner, and the gradient steps use that one too (``lightning_modules.density.components``).

References:
    A Brief Introduction to Generative Models (Lamb, 2021), https://arxiv.org/abs/2103.00265, section 1.2.2
    Maximum Likelihood from Incomplete Data via the EM Algorithm (Dempster, Laird and Rubin, 1977),
    https://doi.org/10.1111/j.2517-6161.1977.tb01600.x
    The EM Algorithm for Mixtures of Factor Analyzers (Ghahramani and Hinton, 1996)

NOTE: The likelihood of a mixture has no maximum: a component that sits on one example can shrink for ever. The floor
is what stops it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from lightning_modules.density.components import Moments, build_components
from lightning_modules.density.fitting import (
    batches_of,
    checked,
    first_examples,
    natural_descent,
    step_limit,
    summed,
    summed_moments,
)
from lightning_modules.density.gaussian import check_settings, clipped
from lightning_modules.likelihood import LikelihoodModule
from lightning_modules.parts.clustering import k_means
from lightning_modules.parts.noise import Noise, draw_categorical, new_generator
from lightning_modules.parts.sampling import CHUNK, check_num_samples, choose_labels, evaluating
from lightning_modules.parts.schedules import linear_decay

START_SEED = 0
"""Seed of k-means++; a start is a function of the first training examples alone."""
SMALL_SHARE = 0.1
"""Components with less than this part of an equal share learn no faster: a batch says too little of them."""


class GaussianMixture(LikelihoodModule):
    """Gaussians with weights, trained by gradient maximum likelihood from a k-means++ start, or by EM.

    What is maximised, by either route, is the mean log-likelihood less the mean over components of
    ``covariance_floor / 2 * trace(Sigma_k^-1)``: at a maximum a component with an equal share of the data has the
    covariance of its part plus ``covariance_floor * I``, one with half that share twice the floor. (In ``low_rank``
    the trace is that of the inverse noise variances alone: at a maximum each is what the factors leave over plus the
    floor.)

    Args:
        shape: (C, H, W) of pictures in [-1, 1], or (D,) of points.
        num_components: Number of Gaussians, at least 1.
        covariance: ``"full"``, ``"diagonal"`` or ``"low_rank"`` (a mixture of factor analysers).
        rank: Number of shared directions of ``"low_rank"``, at least 1 and less than the dimensions; else ``None``.
        covariance_floor: Variance added to every dimension, at least 0.
        lr: First learning rate, in (0, 1]; 1 would go nearly all the way to what a single batch says.
        decay_steps: Batches after which the learning rate has fallen linearly to zero, or ``None`` for a constant one.
        start_examples: The first so many training examples are clustered for the start.

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
        super().__init__()
        check_settings(covariance_floor, lr)
        if num_components < 1:
            raise ValueError(f"num_components={num_components} must be at least 1.")
        if start_examples < num_components:
            raise ValueError(f"start_examples={start_examples} must be at least num_components={num_components}.")
        self.save_hyperparameters()
        self.shape = tuple(shape)
        self.decay = linear_decay(decay_steps)
        self.components = build_components(covariance, rank, num_components, self.num_dimensions)
        self.logits = nn.Parameter(torch.zeros(num_components))
        # Whether the components were set from data: in the checkpoint, so that a resumed run does not start over.
        self.register_buffer("started", torch.zeros((), dtype=torch.int64))

    # Densities

    def joint_log_prob(self, x: Tensor) -> Tensor:
        """Returns log pi_k + log q_k(x) of examples (N, *shape), nats, shape (N, num_components)."""
        dtype = self.components.mean.dtype
        with torch.autocast(self.device.type, enabled=False):
            return self.components.log_prob(x.flatten(1).to(dtype)) + F.log_softmax(self.logits, 0)

    def log_prob(self, x: Tensor) -> Tensor:
        """Returns the log-density of examples (N, *shape), exact, in nats, shape (N,).

        It is the density of the mixture on all of space; what ``sample`` clips is still counted outside.
        """
        return self.joint_log_prob(x).logsumexp(1)

    def posterior(self, x: Tensor) -> Tensor:
        """Returns the responsibilities p(k | x) of examples (N, *shape), shape (N, num_components)."""
        return self.joint_log_prob(x).softmax(1)

    @property
    def weights(self) -> Tensor:
        """The weights pi_k, shape (num_components,)."""
        return self.logits.softmax(0)

    # Training by gradients

    def on_fit_start(self) -> None:
        """Starts from the data, unless that was done before.

        Raises:
            ValueError: If there is no datamodule to start from.
        """
        if self.started:
            return
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            raise ValueError(
                "A GaussianMixture starts from data: give Trainer.fit a datamodule, or call start(batches) first."
            )
        self.start(datamodule)

    @torch.no_grad()
    def start(self, data: Any) -> None:
        """Sets the components to the clusters of the first ``start_examples`` training examples, by k-means++.

        The covariance within each cluster is mixed with that within all, as if it had been seen in as many further
        examples as there are dimensions: a small cluster alone would be singular. The outcome is the same on every
        process, and does not depend on their number.

        Args:
            data: A datamodule, whose training split is taken, or an iterable of batches.

        Raises:
            ValueError: If there are fewer distinct examples than components.
        """
        x = first_examples(data, self.hparams["start_examples"], self.shape).to(self.device)
        num, dim = self.components.num, self.components.dim
        if len(x) < num:
            raise ValueError(f"num_components={num} need as many examples, but there are {len(x)} to start from.")
        assigned = k_means(x, num, torch.Generator().manual_seed(START_SEED))
        membership = F.one_hot(assigned, num).to(x.dtype)
        means = membership.T.double() @ x.double() / membership.double().sum(0)[:, None]
        self.components.mean.copy_(means)
        own = self.components.moments(x, membership)
        within = own.second.sum(0) / own.counts.sum()
        self.logits.copy_((own.counts / len(x)).log())
        self.components.fit_(
            Moments(own.counts + dim, own.first, own.second + dim * within), self.floors(own.counts), fresh=True
        )
        self.started.fill_(1)

    def floors(self, count: Tensor) -> Tensor:
        """Returns what the objective adds to the variances of components with these counts of examples."""
        equal = count.sum() / len(count)
        return self.hparams["covariance_floor"] * equal / count.clamp_min(1e-6 * equal)

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """Mean of -log q in nats, and the floor's term."""
        if batch_idx == 0:
            self.check_batch(batch)
        return self.objective({"nll": -self.log_prob(batch[0]).mean(), "floor": self.floor_term()})

    def floor_term(self) -> Tensor:
        """Returns what the objective takes off the mean log-likelihood."""
        return self.hparams["covariance_floor"] * self.components.shrinkage().mean()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stops at a non-finite gradient, and makes the others those of EM."""
        super().on_before_optimizer_step(optimizer)
        limit = step_limit(optimizer)
        shares = self.weights.detach().clamp_min(SMALL_SHARE / self.components.num)
        self.components.natural_(shares, limit)
        if self.logits.grad is not None:
            self.logits.grad.div_(shares).clamp_(-limit, limit)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Plain steps along EM's direction."""
        return natural_descent(self.parameters(), self.hparams["lr"], self.decay)  # type: ignore[return-value]

    def negative_log_likelihood(self, x: Tensor, labels: Tensor, indices: Tensor, stage: str) -> dict[str, Tensor]:
        """Exact."""
        return {"exact": -self.log_prob(x)}

    # Training by expectation maximisation

    @torch.no_grad()
    def fit_em(self, data: Any, iterations: int = 100, tolerance: float = 1e-4) -> list[float]:
        """Expectation maximisation over all the data, which never lowers the objective.

        Sums are in float64 and over all processes, each of which passes its own part. It starts from the components
        as they are, or from k-means++ where they have not been set. (For ``low_rank`` the maximisation is ten steps of
        EM for factor analysis: a generalised EM, as monotone.)

        Args:
            data: A datamodule, whose training split is taken, or batches that can be gone over many times: examples
                (N, *shape), or tuples that begin with them.
            iterations: Passes at most.
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
        """One pass over the data: the objective, nats per example, and the moments under the responsibilities."""
        moments: Moments | None = None
        total = torch.zeros(2, dtype=torch.float64, device=self.device)
        for x in batches_of(data):
            flat = checked(x, self.shape).to(self.device)
            joint = self.joint_log_prob(flat)
            total += torch.stack([joint.logsumexp(1).double().sum(), total.new_tensor(len(flat))])
            own = self.components.moments(flat, joint.softmax(1))
            moments = own if moments is None else Moments(*(a + b for a, b in zip(moments, own, strict=True)))
        if moments is None:
            raise ValueError("There are no examples: batches for EM must allow to be gone over many times.")
        (total,) = summed(total)
        if total[1] < self.components.num:
            raise ValueError(
                f"num_components={self.components.num} need as many examples, but there are {int(total[1])}."
            )
        return (total[0] / total[1] - self.floor_term().double()).item(), summed_moments(moments)

    # Sampling

    @torch.no_grad()
    def draw(self, noise: Noise, num: int) -> Tensor:
        """Draws examples (num, *shape) from the density itself, unclipped, out of a training step's noise."""
        chosen = noise.categorical(self.weights, num)
        z = noise.normal(num, self.components.num_normals, device=self.device)
        return self.components.place(chosen, z).view(num, *self.shape)

    def sample(self, num_samples: int, *, labels: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        """Draws examples, shape (num_samples, *shape); pictures are clipped to [-1, 1], points are not.

        Args:
            num_samples: How many, at least 1.
            labels: Must be ``None``: components are no classes.
            generator: Source of all randomness; ``None`` takes a fresh seed from the system.

        Raises:
            ValueError: If ``num_samples`` is not positive, or labels are given.
        """
        check_num_samples(num_samples)
        generator = generator or new_generator()
        choose_labels(labels, num_samples, None, generator)
        with evaluating(self):
            chosen = draw_categorical(self.weights, num_samples, generator)
            x = torch.cat([self.components.draw(part, generator) for part in chosen.split(CHUNK)])
        return clipped(x.view(num_samples, *self.shape))
