"""What every method with a likelihood shares: its value on held-out data, with the kind that the number is of.

The mean of -log p over held-out examples is a cross-entropy, and by eq. 1.12 and 1.13 an upper bound of the entropy of
the data, which it reaches if and only if the model is the law of the data: lower is better, and nothing honest lies
below. A lower bound of log p, as a VAE has, gives an upper bound of the cross-entropy; estimates by annealing are
neither, and come with their standard error and effective sample size.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.base import GenerativeModule
from lightning_modules.callbacks.generation_measure import short_count
from lightning_modules.parts.capabilities import DataSpec
from lightning_modules.parts.distributed import gather_objects
from lightning_modules.parts.likelihoods import bits_per_dim

GREY_OFFSET = 7.0  # log2 of the 128 grey values in a unit of [-1, 1]


class LikelihoodModule(GenerativeModule):
    """Abstract: a subclass says -log p of a batch, this class measures it on held-out data.

    Logged are, for each kind of number, the mean over the split as ``val/nll-<kind>`` in nats per example and
    ``val/bits_per_dim-<kind>``, and under ``test/`` also the standard error of the mean over examples,
    ``test/nll_standard_error-<kind>``. Sums are in float64 and over all processes, each example once.

    Kinds are ``exact``, ``upper_bound_k<K>`` (of -log p, from a lower bound of log p with K samples), or the name of
    the estimate.
    """

    discrete: bool = False
    """Whether p is a probability mass (of bits, of 256 grey values); else it is a density."""
    num_tested: int | None = None
    """Tests on the first so many examples only, where one costs much; the names then end in ``-1k``."""

    def __init__(self) -> None:
        super().__init__()
        self.held_out_sums: dict[str, Tensor] = {}

    @abstractmethod
    def negative_log_likelihood(self, x: Tensor, labels: Tensor, indices: Tensor, stage: str) -> dict[str, Tensor]:
        """Returns -log p of each example, nats, shape (N,), by the kind of number.

        Args:
            x: Shape (N, ...).
            labels: int64 (N,).
            indices: int64 (N,), the positions of the examples in their split. What is random is a function of these,
                so that the number does not depend on the batch size or on the number of processes.
            stage: ``"val"`` or ``"test"``.
        """

    def on_validation_epoch_start(self) -> None:
        """Starts new sums."""
        self.held_out_sums = {}

    def on_test_epoch_start(self) -> None:
        """Starts new sums."""
        self.held_out_sums = {}

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Adds to the sums of ``val/nll-<kind>``."""
        self.add_held_out(batch, batch_idx, "val")

    def test_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Adds to the sums of ``test/nll-<kind>``."""
        self.add_held_out(batch, batch_idx, "test")

    def on_validation_epoch_end(self) -> None:
        """Logs the means."""
        self.log_held_out("val")

    def on_test_epoch_end(self) -> None:
        """Logs the means and their standard errors."""
        self.log_held_out("test")

    def add_held_out(self, batch: Sequence[Tensor], batch_idx: int, stage: str) -> None:
        """Adds count, sum and sum of squares of -log p over a batch, by kind."""
        if batch_idx == 0:
            self.check_batch(batch)
        x, labels = batch[0], batch[1]
        indices = self.example_indices(len(x), batch_idx, stage)
        if stage == "test" and self.num_tested is not None:
            chosen = indices < self.num_tested
            x, labels, indices = x[chosen], labels[chosen], indices[chosen]
        values = self.negative_log_likelihood(x, labels, indices, stage) if len(x) else {}
        for kind, nll in values.items():
            nll = nll.detach().double()
            sums = torch.stack([torch.ones_like(nll).sum(), nll.sum(), nll.square().sum()])
            self.held_out_sums[kind] = self.held_out_sums[kind] + sums if kind in self.held_out_sums else sums

    def example_indices(self, num: int, batch_idx: int, stage: str) -> Tensor:
        """Returns the positions in their split of the examples of a batch, int64 (num,)."""
        loader = self.trainer.val_dataloaders if stage == "val" else self.trainer.test_dataloaders
        loader = loader[0] if isinstance(loader, (list, tuple)) else loader
        share = getattr(loader, "share", None)
        if share is not None:
            start, stop = share(batch_idx)
            if stop - start == num:
                return torch.arange(start, stop, device=self.device)
        # A loader of the user's own, split as Lightning's samplers do.
        size, rank, world_size = getattr(loader, "batch_size", None) or num, self.global_rank, self.trainer.world_size
        return (batch_idx * size + torch.arange(num, device=self.device)) * world_size + rank

    def log_held_out(self, stage: str) -> None:
        """Logs what was summed over the epoch, equal on every process."""
        kinds = self.kinds_everywhere()
        zeros = torch.zeros(3, dtype=torch.float64, device=self.device)
        for kind in kinds:
            sums = self.trainer.strategy.reduce(self.held_out_sums.get(kind, zeros).clone(), reduce_op="sum")
            count, total, squares = sums.tolist()
            mean = total / count
            name = kind if stage == "val" or self.num_tested is None else f"{kind}-{short_count(int(count))}"
            values = {f"{stage}/nll-{name}": mean}
            if (offset := self.bits_offset()) is not None:
                values[f"{stage}/bits_per_dim-{name}"] = bits_per_dim(mean, self.num_dimensions, offset)
            if stage == "test":
                variance = max(squares / count - mean**2, 0.0) * count / max(count - 1, 1)
                values[f"{stage}/nll_standard_error-{name}"] = (variance / count) ** 0.5
            self.log_dict(values)

    def kinds_everywhere(self) -> list[str]:
        """Returns the kinds that any process has, in order: one whose examples are all left out has none."""
        return list(dict.fromkeys(kind for kinds in gather_objects(list(self.held_out_sums)) for kind in kinds))

    @property
    def num_dimensions(self) -> int:
        """Numbers in one example."""
        return int(torch.Size(self.hparams["shape"]).numel())

    def bits_offset(self) -> float | None:
        """Returns what turns nats into comparable bits/dim: 0 for masses and points, 7 for dequantised pictures.

        ``None`` for densities of data that were not dequantised: such bits compare with nothing.
        """
        spec: DataSpec | None = self.data_spec
        if self.discrete or len(self.hparams["shape"]) == 1:
            return 0.0
        dequantized = spec is not None and spec.preprocessing.endswith("dequantized")
        return GREY_OFFSET if dequantized else None
