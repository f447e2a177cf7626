"""Held-out metrics of a restricted Boltzmann machine: free energies, pseudo-likelihood, estimates of log Z."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from datamodules.spec import Batch
from lightning_modules.energy.boltzmann import BoltzmannMachine
from lightning_modules.energy.partition import (
    MAX_ENUMERATED,
    PartitionEstimate,
    ReverseEstimate,
    annealed_importance_sampling,
    exact_log_partition,
    reverse_annealed_importance_sampling,
)
from lightning_modules.metrics.names import short_count
from lightning_modules.parts.likelihoods import bernoulli_log_prob, bits_per_dim
from lightning_modules.parts.noise import fixed_uniform
from lightning_modules.parts.normalizers import LogPartition
from lightning_modules.parts.precision import home_of_float64, in_finest, in_float64
from lightning_modules.parts.processes import rank, world_size
from lightning_modules.parts.schedules import Schedule
from lightning_modules.runtime.distributed import gather_objects, sum_over_processes
from lightning_modules.runtime.held_out import Mean, Weighted, mean_of

PSEUDO_PIXELS = 16
MAX_EXACT = 20
"""Largest number of units in the smaller layer for which tests also compute Z exactly, in half a minute."""
RAISE_BLOCK = 250
"""Number of test images that share a random generator; the metric depends on it."""


class MeasuredRBM(BoltzmannMachine):
    """Abstract: a subclass trains the model.

    Validation logs ``val/pseudo_nll`` (minus the sum of log p(v_i | all others), nats, from 16 fixed pixels of each
    image), ``val/reconstruction_cross_entropy`` (of v under p(v | E[h | v]), nats) and ``val/free_energy_gap``, the
    mean F of held-out minus that of training images: Z cancels in it, and a growing gap indicates overfitting. Tests
    estimate the likelihood. ``test/nll-ais`` is for all images, with log Z by annealed importance sampling; it is low
    in expectation. ``test/nll-raise-1k`` is by reverse annealing from the first ``num_reversed`` images; it is high in
    expectation for p_ann, the distribution of the annealed chains. ``test/nll-ais-1k`` is that of the former for the
    same images, and ``test/raise_minus_ais-1k`` the distance of the two bounds, with a standard error of its mean over
    these images and of log Z. ``test/ais_*`` are log Z, its standard error and its effective sample size.
    """

    def __init__(self, shape: Sequence[int], num_hidden: int, lr_schedule: Schedule, num_reversed: int) -> None:
        super().__init__(shape, num_hidden, lr_schedule)
        self.num_reversed = num_reversed
        self.reference: Tensor | None = None
        self.partition: PartitionEstimate | None = None
        self.exact: float | None = None
        self.reversed_from: list[tuple[Tensor, Tensor]] = []

    def log_partition(
        self,
        schedule: str | int | Sequence[float] | None = None,
        *,
        num_chains: int | None = None,
        generator: Generator | None = None,
    ) -> PartitionEstimate:
        """Estimates log Z in nats by annealed importance sampling, with standard error and effective sample size.

        Args:
            schedule: As in ``annealed_importance_sampling``; by default the hyperparameter.
            num_chains: Number of chains; by default the hyperparameter.
            generator: Source of all random numbers; ``None`` takes a fresh seed from the system.

        Returns:
            The estimate, whose ``samples`` are images (num_chains, *shape).
        """
        estimate = annealed_importance_sampling(
            self.annealing_path(),
            self.hparams["schedule"] if schedule is None else schedule,
            num_chains=self.hparams["num_chains"] if num_chains is None else num_chains,
            generator=generator,
        )
        return replace(estimate, samples=estimate.samples.view(-1, *self.shape))

    def reverse_log_likelihood(
        self,
        x: Tensor,
        schedule: str | int | Sequence[float] | None = None,
        *,
        num_chains: int = 1,
        generator: Generator | None = None,
    ) -> ReverseEstimate:
        """Bounds log p_ann of examples (N, *shape) in {0, 1} from below, by reverse annealing; see ``partition``.

        Args:
            x: Examples.
            schedule: As in ``annealed_importance_sampling``; by default the hyperparameter.
            num_chains: Chains per example.
            generator: Source of all random numbers; ``None`` takes a fresh seed from the system.

        Raises:
            ValueError: If ``x`` is of another shape or not binary, or a number is out of range.
        """
        schedule = self.hparams["schedule"] if schedule is None else schedule
        return reverse_annealed_importance_sampling(
            self.annealing_path(), self.examples(x), schedule, num_chains=num_chains, generator=generator
        )

    def exact_log_partition(self) -> float:
        """Returns log Z in nats, by enumeration of the smaller layer.

        Raises:
            ValueError: If both layers have more than 25 units.
        """
        num_hidden = self.num_hidden
        few_hidden = num_hidden <= self.num_visible
        return exact_log_partition(
            self.unchecked_hidden_energy if few_hidden else self.unchecked_energy,
            min(num_hidden, self.num_visible),
            device=self.device,
            dtype=self.weight.dtype,
        )

    def exact_normalizer(self) -> LogPartition | None:
        """Returns log Z by enumeration, or ``None`` if both layers have more than 25 units."""
        if min(self.num_hidden, self.num_visible) > MAX_ENUMERATED:
            return None
        return LogPartition(self.exact_log_partition(), 0.0, "enumeration")

    def pseudo_nll(self, x: Tensor, pixels: Tensor) -> Tensor:
        """Returns minus the pseudo-log-likelihood, -sum_i log p(v_i | all others), in nats, shape (N,).

        Args:
            x: Examples, (N, ...).
            pixels: int64 (N, M): the units that the sum is estimated from, as D times their mean.

        Raises:
            ValueError: If ``x`` is of another shape than (N, *shape), or not binary, or ``pixels`` are no units.
        """
        x = self.examples(x)
        fits = pixels.ndim == 2 and len(pixels) == len(x) and pixels.dtype in (torch.int32, torch.int64)
        if not fits or pixels.numel() == 0 or pixels.min() < 0 or pixels.max() >= self.num_visible:
            raise ValueError(
                f"pixels must be integers from 0 to {self.num_visible - 1} of shape ({len(x)}, M), the units that the "
                f"sum is estimated from, not {pixels.dtype} of {list(pixels.shape)}."
            )
        return self.unchecked_pseudo_nll(x, pixels.to(x.device, torch.int64))

    def unchecked_pseudo_nll(self, x: Tensor, pixels: Tensor) -> Tensor:
        """Returns what ``pseudo_nll`` does, of any values (N, ...)."""
        x, inputs = x.flatten(1), self.hidden_input(x)
        change = 1 - 2 * x.gather(1, pixels)
        flipped = inputs[:, None] + change[:, :, None] * self.weight[pixels]
        # F(x) - F(x with the unit flipped)
        rise = change * self.visible_bias[pixels] + F.softplus(flipped).sum(2) - F.softplus(inputs).sum(1)[:, None]
        return self.num_visible * F.softplus(rise).mean(1)

    def begin_held_out(self, stage: str) -> None:
        """Copies the present chains in validation; in tests estimates log Z, with the same seed on every process."""
        if stage == "val":
            self.keep_chains()
            return
        self.partition = self.log_partition(generator=self.fixed_generator(0))
        small = min(len(self.hidden_bias), self.num_visible) <= MAX_EXACT
        self.exact = self.exact_log_partition() if small else None
        self.reversed_from = []

    def negative_log_likelihood(self, batch: Batch, indices: Tensor, stage: str) -> dict[str, Tensor]:
        """Returns F(x) + log Z in tests, with log Z by annealed importance sampling and, for small models, exact."""
        if stage == "val" or self.partition is None:
            return {}
        energy = in_finest(self.unchecked_energy(batch.x))
        exact = {} if self.exact is None else {"exact": energy + self.exact}
        return {"ais": energy + self.partition.log_partition, **exact}

    def diagnostics(self, batch: Batch, indices: Tensor, stage: str) -> Mapping[str, Weighted]:
        """Measures pseudo-likelihood, reconstruction and free energies in validation; see the class.

        In tests it keeps the examples from which reverse annealing starts.
        """
        if stage == "test":
            chosen = indices < self.num_reversed
            self.reversed_from.append((indices[chosen].cpu(), batch.x[chosen].to(torch.uint8).cpu()))
            return {}
        x = batch.x.flatten(1)
        pixels = (fixed_uniform(indices, min(PSEUDO_PIXELS, self.num_visible)) * self.num_visible).long()
        logits = self.visible_input(self.hidden_input(x).sigmoid())
        values = {
            "pseudo_nll": self.unchecked_pseudo_nll(x, pixels),
            "reconstruction_cross_entropy": -bernoulli_log_prob(logits, x),
        }
        if self.reference is not None:
            reference = self.unchecked_energy(self.reference.to(self.weight))
            values["free_energy_gap"] = self.unchecked_energy(x) - reference.mean()
        return values

    def model_measures(self, stage: str) -> Mapping[str, float]:
        """Returns, in tests, the likelihood by reverse annealing, and log Z with indicators of its reliability."""
        estimate = self.partition
        if stage == "val" or estimate is None:
            return {}
        return {
            **self.reversed_measures(estimate),
            "ais_log_partition": estimate.log_partition,
            "ais_standard_error": estimate.standard_error,
            "ais_ess": estimate.effective_sample_size,
            "ais_chains": float(estimate.num_chains),
            "ais_temperatures": float(estimate.num_temperatures),
        }

    def reversed_measures(self, partition: PartitionEstimate) -> dict[str, float]:
        """Returns the two bounds for the same images, and their distance; see the class.

        Reverse annealing goes over blocks of examples; block b runs on process b modulo their number.

        Each block has its own seed, so that the result depends neither on the batch size nor on the processes.
        """
        kept = [pair for pairs in gather_objects(self.reversed_from) for pair in pairs if len(pair[0])]
        if not kept:
            return {}
        indices, x = (torch.cat(parts) for parts in zip(*kept, strict=True))
        x = x[indices.argsort()]
        raised, annealed = [torch.zeros(0, dtype=torch.float64)], [torch.zeros(0, dtype=torch.float64)]
        for number, block in enumerate(x.split(RAISE_BLOCK)):
            if number % world_size() == rank():
                generator = self.fixed_generator(number + 1)
                raised.append(-self.reverse_log_likelihood(block, generator=generator).log_likelihood)
                energy = in_float64(self.unchecked_energy(block.to(self.weight))).cpu()
                annealed.append(energy + partition.log_partition)
        high, low = torch.cat(raised), torch.cat(annealed)
        count = short_count(len(x))
        values = {}
        for kind, nll in ((f"raise-{count}", high), (f"ais-{count}", low)):
            mean = self.mean_over_processes(nll)
            values[f"nll-{kind}"] = mean.mean
            values[f"bits_per_dim-{kind}"] = float(bits_per_dim(mean.mean, self.num_dimensions))
            values[f"nll_standard_error-{kind}"] = mean.standard_error
        distance = self.mean_over_processes(high - low)
        values[f"raise_minus_ais-{count}"] = distance.mean
        of_both = math.hypot(distance.standard_error, partition.standard_error)
        values[f"raise_minus_ais_standard_error-{count}"] = of_both
        return values

    def mean_over_processes(self, values: Tensor) -> Mean:
        """Returns the mean of the values of all processes, float64 (N,), and its standard error."""
        sums = torch.stack([torch.ones_like(values).sum(), values.sum(), values.square().sum()])
        return mean_of(sum_over_processes(sums.to(home_of_float64(self.device))))

    def fixed_generator(self, seed: int) -> Generator:
        """Returns a generator on the model's device, so that random numbers need not be moved."""
        return torch.Generator(self.device).manual_seed(seed)
