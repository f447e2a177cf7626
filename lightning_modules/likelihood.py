"""Base class of methods with a likelihood: -log p of held-out data, as exact value, bound or estimate.

The mean of -log p over held-out examples is a cross-entropy. By eq. 1.12 and 1.13 it is an upper bound of the entropy
of the data, with equality if and only if the model is the distribution of the data. Lower is better, and no correct
value is below the entropy. A lower bound of log p, as a VAE has, gives an upper bound of the cross-entropy. Estimates
by annealing are neither exact nor bounds; they are logged with their standard error and effective sample size.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from datamodules.spec import Batch
from lightning_modules.base import GenerativeModule
from lightning_modules.metrics.names import short_count
from lightning_modules.parts.likelihoods import bits_per_dim
from lightning_modules.parts.schedules import Schedule
from lightning_modules.runtime.held_out import Mean, Weighted

GREY_OFFSET = 7.0  # log2(128): an interval of length 1 in [-1, 1] holds 128 grey values


class LikelihoodModule(GenerativeModule):
    """Abstract: a subclass computes -log p of a batch; this class measures it on held-out data.

    For each kind of value it logs the mean over the split, as ``val/nll-<kind>`` in nats per example and as
    ``val/bits_per_dim-<kind>``; under ``test/`` also the standard error of the mean over examples,
    ``test/nll_standard_error-<kind>``. Kinds are ``exact``, ``upper_bound_k<K>`` (of -log p, from a lower bound of log
    p with K samples), or the name of the estimate.

    Args:
        num_tested: Number of examples to test on, the first of the split, where one is expensive; ``None`` for all.
            The names then end in that number, as in ``-1k``.
        num_classes: Number of classes of a class-conditional model, or ``None``.
        lr_schedule: Factor of the learning rate, a function of the batch.
        clip_norm: Largest norm of the gradient, or ``None``.
        num_words: Number of words of the captions that the model is conditional on, or ``None``.

    Raises:
        ValueError: If ``num_tested`` is not positive.
    """

    discrete: bool = False
    """Whether p is a probability mass (of bits, of 256 grey values); else it is a density."""

    def __init__(
        self,
        num_tested: int | None = None,
        num_classes: int | None = None,
        lr_schedule: Schedule | None = None,
        clip_norm: float | None = None,
        num_words: int | None = None,
    ) -> None:
        super().__init__(num_classes, lr_schedule, clip_norm, num_words)
        if num_tested is not None and num_tested < 1:
            raise ValueError(f"num_tested={num_tested} must be at least 1, or null for all examples.")
        self.num_tested = num_tested

    @abstractmethod
    def negative_log_likelihood(self, batch: Batch, indices: Tensor, stage: str) -> dict[str, Tensor]:
        """Returns -log p of each example in nats, (N,), by kind (see the class); arguments as in ``held_out``.

        Its mean is the objective of maximum likelihood, eq. 1.10, and estimates the cross-entropy of eq. 1.13.
        """

    def half_precision_problem(self) -> str | None:
        """Names the digits that a likelihood needs; 16 bits also merge some of the 256 grey values."""
        return "a likelihood needs the digits of float32."

    def diagnostics(self, batch: Batch, indices: Tensor, stage: str) -> Mapping[str, Weighted]:
        """Hook: returns further values that are measured on a batch; see ``held_out``."""
        return {}

    def held_out(self, batch: Batch, indices: Tensor, stage: str) -> Mapping[str, Weighted]:
        """Measures -log p, by kind."""
        measured = dict(self.diagnostics(batch, indices, stage))
        if stage == "test" and self.num_tested is not None:
            batch, indices = first_examples(batch, indices, self.num_tested)
        if len(batch.x):
            values = self.negative_log_likelihood(batch, indices, stage)
            measured |= {f"_nll-{kind}": nll for kind, nll in values.items()}
        return measured

    def end_held_out(self, means: Mapping[str, Mean], stage: str) -> Mapping[str, float]:
        """Returns nats per example and bits/dim by kind, and in tests the standard error of the former."""
        values: dict[str, float] = {}
        for name, mean in means.items():
            if not name.startswith("_nll-"):
                continue
            kind = name.removeprefix("_nll-")
            if stage == "test" and self.num_tested is not None:
                kind = f"{kind}-{short_count(int(mean.total_weight))}"
            values[f"nll-{kind}"] = mean.mean
            if (offset := self.bits_offset()) is not None:
                values[f"bits_per_dim-{kind}"] = float(bits_per_dim(mean.mean, self.num_dimensions, offset))
            if stage == "test":
                values[f"nll_standard_error-{kind}"] = mean.standard_error
        return values

    @property
    def num_dimensions(self) -> int:
        """Number of values in one example."""
        return int(torch.Size(self.hparams["shape"]).numel())

    def bits_offset(self) -> float | None:
        """Returns the offset that makes bits/dim comparable: 0 for masses and points, 7 for dequantised images.

        ``None`` for densities of data that were not dequantised: their bits/dim cannot be compared.
        """
        if self.discrete or len(self.hparams["shape"]) == 1:
            return 0.0
        return GREY_OFFSET if self.has_data_spec and self.data_spec.is_dequantized else None


def first_examples(batch: Batch, indices: Tensor, num: int) -> tuple[Batch, Tensor]:
    """Returns the examples of a batch that are among the first ``num`` of their split, and their positions."""
    chosen = indices < num
    fields: dict[str, Any] = {name: None if value is None else value[chosen] for name, value in vars(batch).items()}
    return Batch(**fields), indices[chosen]
