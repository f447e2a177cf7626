"""Held-out metrics of a deep energy-based model: energies of data, noise and chains, and in the plane likelihood."""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from datamodules.spec import Batch
from lightning_modules.energy.annealing_paths import EnergyPath
from lightning_modules.energy.langevin_chains import LangevinChains
from lightning_modules.energy.partition import annealed_importance_sampling
from lightning_modules.energy.unnormalized import UnnormalizedModel
from lightning_modules.parts.mcmc import chain_effective_sample_size
from lightning_modules.parts.noise import Noise, fixed_uniform
from lightning_modules.parts.normalizers import LogPartition
from lightning_modules.parts.plane import GridDensity, checked_log_integral
from lightning_modules.parts.precision import device_and_type, in_finest, single_precision, without_autocast
from lightning_modules.parts.sampling import evaluating, measuring
from lightning_modules.parts.schedules import Schedule
from lightning_modules.runtime.held_out import Weighted

TEST_CHAINS, TEST_STEPS = 64, 200
NUM_TEMPERATURES, NUM_CHAINS = 1000, 100
"""Defaults of annealed importance sampling for points outside of the plane."""


class MeasuredEBM(UnnormalizedModel):
    """Abstract: a subclass defines the potential f, its chains and the training.

    ``val/energy_gap`` is f of uniform noise minus f of held-out data, positive after successful training.
    ``val/energy_difference`` is f of data minus f of the particles, and fluctuates around 0 in a stable run. For points
    in the plane at T = 1, ``nll-grid`` has Z summed over a grid on [-4, 4]^2, and where the distribution of the data is
    known, ``test/kl-grid`` is KL(data || model) in nats. ``test/ess`` is the effective sample size of 64 chains of 200
    steps, estimated from the potential within and between chains.
    """

    particles: Tensor

    def __init__(self, lr_schedule: Schedule) -> None:
        super().__init__(lr_schedule=lr_schedule)
        self.grid: GridDensity | None = None

    @abstractmethod
    def unchecked_potential(self, x: Tensor) -> Tensor:
        """Returns what ``potential`` does, of any finite values; training and chains call it."""

    def potential(self, x: Tensor) -> Tensor:
        """Returns f(x), shape (N,), with gradients: temperature times the energy; low on data.

        Raises:
            ValueError: If ``x`` is of another shape, is not finite, or holds images outside of [-1, 1].
        """
        with measuring(self):
            return self.unchecked_potential(self.examples(x))

    @without_autocast
    def unchecked_energy(self, x: Tensor) -> Tensor:
        """Returns E(x) = f(x) / T in nats, shape (N,), of any finite values: the sampler targets exp(-E)."""
        return self.unchecked_potential(x) / self.hparams["temperature"]

    def exact_normalizer(self) -> LogPartition | None:
        """Returns log Z of points in the plane, summed over a grid; ``None`` for other data."""
        if list(self.hparams["shape"]) != [2]:
            return None
        with measuring(self), single_precision(self):
            log_integral = checked_log_integral(lambda x: -self.unchecked_energy(x), device_and_type(self))
        return LogPartition(log_integral, 0.0, "grid")

    def log_partition(
        self, schedule: str | int | None = None, *, num_chains: int | None = None, generator: Generator | None = None
    ) -> LogPartition:
        """Returns log Z of exp(-E) in nats: in the plane summed over a grid, for other points estimated.

        Args:
            schedule: Number of inverse temperatures of annealed importance sampling, by default 1000. As all others it
                is not used in the plane.
            num_chains: Number of its chains, by default 100.
            generator: Source of its random numbers; ``None`` takes a fresh seed from the system.

        Raises:
            ValueError: If examples are images, or the grid does not hold the density.
        """
        if (exact := self.exact_normalizer()) is not None:
            return exact
        shape = list(self.hparams["shape"])
        if len(shape) != 1:
            raise ValueError(
                f"{type(self).__name__}: log Z of images of shape={shape} is not estimated here: at "
                f"temperature={self.hparams['temperature']:g} no chain reaches its weights. Give an estimate of your "
                "own to set_log_partition."
            )
        scale = self.hparams["reference_scale"] or self.hparams["initial_scale"]
        schedule = NUM_TEMPERATURES if schedule is None else schedule
        device, dtype = device_and_type(self)
        with measuring(self):
            path = EnergyPath(self.unchecked_energy, shape, scale=scale, device=device, dtype=dtype)
            path = path.tuned(schedule, generator=generator)
            chains = NUM_CHAINS if num_chains is None else num_chains
            return annealed_importance_sampling(path, schedule, num_chains=chains, generator=generator)

    @abstractmethod
    def particles_at(self, indices: Tensor) -> Tensor:
        """Returns kept chains as examples."""

    @property
    @abstractmethod
    def sampler(self) -> LangevinChains:
        """The chains of training and of ``sample``."""

    @abstractmethod
    def starts(self, num: int, start: str, noise: Noise) -> Tensor:
        """Draws initial states of chains: kept particles, or uniform noise."""

    def begin_held_out(self, stage: str) -> None:
        """Copies the present chains in validation, and integrates the density of points in the plane at T = 1."""
        if stage == "val":
            self.keep_chains()
        in_the_plane = list(self.hparams["shape"]) == [2] and self.hparams["temperature"] == 1
        with single_precision(self):
            density = (lambda x: -self.unchecked_energy(x)), *device_and_type(self)
            self.grid = GridDensity(*density) if in_the_plane else None

    def negative_log_likelihood(self, batch: Batch, indices: Tensor, stage: str) -> dict[str, Tensor]:
        """Returns E(x) + log Z, with Z summed over a grid, for points in the plane at T = 1; else nothing."""
        return {} if self.grid is None else {"grid": in_finest(self.unchecked_energy(batch.x)) + self.grid.log_integral}

    def diagnostics(self, batch: Batch, indices: Tensor, stage: str) -> Mapping[str, Weighted]:
        """Compares data with uniform noise and with the particles, in units of the potential."""
        uniform = self.sampler.start(fixed_uniform(indices, *batch.x.shape[1:]))
        chosen = (fixed_uniform(indices) * len(self.particles)).long()
        data, noise, chains = (self.unchecked_potential(part) for part in (batch.x, uniform, self.particles_at(chosen)))
        return {"energy_gap": noise - data, "energy_difference": data - chains}

    def model_measures(self, stage: str) -> Mapping[str, float]:
        """Returns, in tests, the effective sample size and, where the data's distribution is known, the divergence."""
        if stage == "val":
            return {}
        spec = self.data_spec if self.has_data_spec else None
        divergence = None if self.grid is None else self.grid.divergence_from(spec)
        return {"ess": self.chain_ess()} | ({} if divergence is None else {"kl-grid": divergence})

    def chain_ess(self) -> float:
        """Returns the effective sample size of 64 chains of 200 steps, by the potential, from a fixed seed."""
        noise, series = Noise(torch.Generator().manual_seed(0)), []
        with evaluating(self):
            x = self.starts(TEST_CHAINS, "particles", noise)
            for _ in range(TEST_STEPS):
                x = self.sampler.langevin_step(x, noise.normal(*x.shape, device=self.device))
                series.append(self.unchecked_potential(x))
        return chain_effective_sample_size(torch.stack(series)).item()
