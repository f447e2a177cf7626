"""Held-out metrics of a deep energy-based model: energies of data, noise and chains, and in the plane likelihood."""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from datamodules.spec import Batch
from lightning_modules.energy.langevin_chains import LangevinChains
from lightning_modules.energy.persistent_chains import PersistentChains
from lightning_modules.parts.mcmc import chain_effective_sample_size
from lightning_modules.parts.noise import Noise, fixed_uniform
from lightning_modules.parts.plane import GridDensity
from lightning_modules.parts.sampling import evaluating
from lightning_modules.parts.schedules import Schedule
from lightning_modules.runtime.held_out import Weighted

TEST_CHAINS, TEST_STEPS = 64, 200


class MeasuredEBM(PersistentChains):
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
    def potential(self, x: Tensor) -> Tensor:
        """Returns f(x), shape (N,): temperature times the energy; low on data."""

    @abstractmethod
    def energy(self, x: Tensor) -> Tensor:
        """Returns E(x) = f(x) / T in nats, shape (N,): the sampler targets exp(-E)."""

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
        self.grid = GridDensity(lambda x: -self.energy(x), self.device) if in_the_plane else None

    def negative_log_likelihood(self, batch: Batch, indices: Tensor, stage: str) -> dict[str, Tensor]:
        """Returns E(x) + log Z, with Z summed over a grid, for points in the plane at T = 1; else nothing."""
        return {} if self.grid is None else {"grid": self.energy(batch.x).double() + self.grid.log_integral}

    def diagnostics(self, batch: Batch, indices: Tensor, stage: str) -> Mapping[str, Weighted]:
        """Compares data with uniform noise and with the particles, in units of the potential."""
        uniform = self.sampler.start(fixed_uniform(indices, *batch.x.shape[1:]))
        chosen = (fixed_uniform(indices) * len(self.particles)).long()
        data, noise, chains = (self.potential(part) for part in (batch.x, uniform, self.particles_at(chosen)))
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
                series.append(self.potential(x))
        return chain_effective_sample_size(torch.stack(series)).item()
