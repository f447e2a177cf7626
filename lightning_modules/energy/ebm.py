"""Deep energy-based models, trained by maximum likelihood with Langevin chains from a replay buffer.

The density is exp(-E(x)) / Z. Its log-likelihood has the gradient of eq. 1.28: energy is pushed down where the data are
(positive phase) and up where the model's own samples are (negative phase). These come from Langevin chains, which go on
from a replay buffer and so run, in all, much longer than one training step could let them.

NOTE: The network is the potential f, low on data; some codes let it be -f. What the sampler targets is exp(-f / T) at
the temperature T = noise_scale^2 / (2 step_size), and that is what ``energy`` = f / T means. On points T is 1, and the
model is a density that can be integrated. On pictures the field takes long steps with little noise (step 10, noise
0.005: T of the order 1e-6), which makes good pictures and no useful likelihood: those models report energy gaps and
effective sample sizes, and no nats.

Implicit Generation and Modeling with Energy-Based Models (Du and Mordatch, 2019), https://arxiv.org/abs/1903.08689
On the Anatomy of MCMC-Based Maximum Likelihood Learning of Energy-Based Models (Nijkamp et al., 2020),
https://arxiv.org/abs/1903.12370
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor, nn

from lightning_modules.base import fused_if_possible
from lightning_modules.likelihood import LikelihoodModule
from lightning_modules.networks.potential import build_potential
from lightning_modules.parts.capabilities import DataSpec
from lightning_modules.parts.distributed import all_reduce_gradients, gather_objects
from lightning_modules.parts.mcmc import chain_effective_sample_size, langevin_step
from lightning_modules.parts.noise import new_generator
from lightning_modules.parts.plane import GRID_EXTENT, grid_log_integral, mixture_divergence, on_grid
from lightning_modules.parts.replay import ReplayBuffer, select_chains
from lightning_modules.parts.sampling import CHUNK, check_num_samples, evaluating
from lightning_modules.parts.schedules import linear_decay

TEST_CHAINS, TEST_STEPS = 64, 200


class RunawayEnergy(FloatingPointError):
    """The energies of data and chains have parted: the chains no longer sample the model."""


class EBM(LikelihoodModule):
    """p(x) = exp(-f(x) / T) / Z with a network f, trained by eq. 1.28 on Langevin chains.

    Sampling starts from ``particles``, chains of the replay buffer that are kept in the model's own state, so that a
    checkpoint samples without data, and walks ``sample_steps`` further; or from noise, with ``start="noise"``.

    Held-out data are measured by ``val/energy_gap``, f of uniform noise minus f of data (positive in a model that has
    learned anything), and ``val/energy_difference``, f of data minus f of the particles, which swings around 0 in a
    healthy run. Points in the plane at T = 1 also have ``nll-grid``, with Z summed over a grid on [-4, 4]^2, and where
    their law is known ``test/kl-grid``, KL(data || model) in nats. ``test/ess`` is the number of independent draws
    that 64 chains of 200 steps are worth, judged by the potential along and between chains.

    Args:
        shape: (C, H, W) of pictures in [-1, 1], or (2,) for points.
        architecture: ``"conv"`` for pictures, ``"mlp"`` for both.
        width: Channels of the first convolution, or a quarter of the units of a layer of the MLP.
        reference_scale: Deviation of a Gaussian that the MLP's density falls off like, or ``None``.
        steps: Langevin steps of a training step.
        step_size: Factor of the gradient of f in a Langevin step.
        temperature: T; the noise of a step has the deviation sqrt(2 step_size T).
        max_gradient: Entries of the gradient in a Langevin step are clamped to this, or ``None``.
        buffer_size: Chains in the replay buffer, over all positions of the batch and all processes.
        fresh_share: Probability that a chain starts anew, from uniform noise.
        jump_every: Before every so many Langevin steps a chain is proposed a place of uniform noise, and accepts as
            Metropolis does: in the plane this carries chains between modes; ``None`` for never.
        initial_scale: Uniform noise spans [-initial_scale, initial_scale] in each coordinate.
        data_noise: Deviation of Gaussian noise on training data.
        magnitude_weight: Weight of f(data)^2 + f(chain)^2, which keeps the potential near 0.
        lr: Adam's learning rate.
        betas: Adam's decay rates.
        decay_steps: Batches after which the learning rate has fallen linearly to zero, or ``None``.
        num_particles: Chains kept in the model's state.
        burn_in: Training steps that a chain has taken part in before it is kept, where there are enough.
        sample_steps: Langevin steps of ``sample``.
        runaway: Training stops where mean f of data and of chains differ by more.

    Raises:
        ValueError: If a number is out of range, or the architecture does not fit the shape.
    """

    value_range = (-1.0, 1.0)
    particles: Tensor

    num_judged = 2000  # each sample is the end of a long chain

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        architecture: str = "conv",
        width: int = 16,
        reference_scale: float | None = None,
        steps: int = 20,
        step_size: float = 10.0,
        temperature: float = 1.25e-6,
        max_gradient: float | None = 0.03,
        buffer_size: int = 4096,
        fresh_share: float = 0.05,
        jump_every: int | None = None,
        initial_scale: float = 1.0,
        data_noise: float = 0.005,
        magnitude_weight: float = 0.1,
        lr: float = 1e-4,
        betas: Sequence[float] = (0.0, 0.999),
        decay_steps: int | None = None,
        num_particles: int = 1000,
        burn_in: int = 10,
        sample_steps: int = 100,
        runaway: float = 100.0,
    ) -> None:
        super().__init__()
        check_positive(
            steps=steps,
            step_size=step_size,
            temperature=temperature,
            buffer_size=buffer_size,
            initial_scale=initial_scale,
            lr=lr,
            num_particles=num_particles,
            sample_steps=sample_steps,
            runaway=runaway,
        )
        if max_gradient is not None:
            check_positive(max_gradient=max_gradient)
        if jump_every is not None:
            check_positive(jump_every=jump_every)
        if not 0 <= fresh_share <= 1 or min(data_noise, magnitude_weight, burn_in) < 0:
            raise ValueError(
                f"fresh_share={fresh_share} must be in [0, 1], and data_noise={data_noise}, "
                f"magnitude_weight={magnitude_weight} and burn_in={burn_in} not negative."
            )
        self.decay = linear_decay(decay_steps)
        self.save_hyperparameters()
        self.network = build_potential(architecture, shape, width, reference_scale)
        self.is_picture = len(shape) == 3
        start = self.uniform(torch.rand(num_particles, *shape, generator=torch.Generator().manual_seed(0)))
        self.register_buffer("particles", to_levels(start) if self.is_picture else start)
        self.replay: ReplayBuffer | None = None
        self.log_partition: float | None = None
        self.to(memory_format=torch.channels_last)

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Shape from the data; points are modelled at temperature 1, by a multi-layer perceptron."""
        if spec.kind == "image":
            return {"shape": list(spec.shape)}
        return {
            "shape": list(spec.shape),
            "architecture": "mlp",
            "width": 32,
            "reference_scale": 2.0,
            "step_size": 5e-3,
            "temperature": 1.0,
            "max_gradient": None,
            "fresh_share": 0.0,
            "jump_every": 5,
            "initial_scale": 3.0,
            "data_noise": 0.0,
            "magnitude_weight": 0.0,
            "lr": 2e-3,
            "betas": [0.9, 0.999],
        }

    def potential(self, x: Tensor) -> Tensor:
        """Returns f(x), shape (N,): temperature times the energy; low on data."""
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return self.network(x)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the potential f(x), shape (N,)."""
        return self.potential(x)

    def energy(self, x: Tensor) -> Tensor:
        """Returns E(x) = f(x) / T in nats, shape (N,): the sampler targets exp(-E)."""
        return self.potential(x) / self.hparams["temperature"]

    def averaged_networks(self) -> Mapping[str, nn.Module]:
        """Sampling uses the potential alone."""
        return {"network": self.network}

    # Training

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """Positive phase on data, negative phase on chains that have walked on from the replay buffer.

        Raises:
            RunawayEnergy: If the potentials of data and chains have parted.
        """
        if batch_idx == 0:
            self.check_batch(batch)
        x = batch[0]
        if deviation := self.hparams["data_noise"]:
            x = x + deviation * self.noise.normal(*x.shape, device=x.device)
        chains = self.negative_samples(len(x))
        positive, negative = self.potential(torch.cat([x, chains])).chunk(2)
        self.stop_runaway(positive.mean(), negative.mean())
        terms = {"contrast": positive.mean() - negative.mean()}
        if weight := self.hparams["magnitude_weight"]:
            terms["magnitude"] = weight * (positive.square() + negative.square()).mean()
        return self.objective(terms)

    def negative_samples(self, num: int) -> Tensor:
        """Walks on with one chain for each position of the batch, and puts it back into the buffer."""
        shape, slots = self.hparams["shape"], self.slots(num)
        if self.replay is None or self.replay.visits.shape != (num, slots):
            chains = self.uniform(self.noise.uniform(num, slots, *shape, device=self.device))
            visits = torch.zeros(num, slots, dtype=torch.int64, device=self.device)
            self.replay = ReplayBuffer(chains, visits)
        fresh = self.uniform(self.noise.uniform(num, *shape, device=self.device))
        chains = self.replay.take(fresh, self.hparams["fresh_share"], self.noise)
        for step in range(self.hparams["steps"]):
            if self.jumps_at(step):
                draws = self.noise.uniform(num, *shape, device=self.device)
                chains = self.jump(chains, draws, self.noise.uniform(num, device=self.device))
            chains = self.walk(chains, self.noise.normal(*chains.shape, device=self.device))
        self.replay.put(chains)
        return chains

    def walk(self, x: Tensor, normal: Tensor) -> Tensor:
        """One Langevin step of chains (N, *shape); pictures stay in [-1, 1]."""
        step_size = self.hparams["step_size"]
        x = langevin_step(
            self.potential,
            x,
            step_size,
            normal,
            noise_scale=math.sqrt(2 * step_size * self.hparams["temperature"]),
            max_gradient=self.hparams["max_gradient"],
        )
        return x.clamp(-1, 1) if self.is_picture else x

    def jumps_at(self, step: int) -> bool:
        """Returns whether a jump is proposed before a Langevin step."""
        every = self.hparams["jump_every"]
        return every is not None and step % every == 0

    @torch.no_grad()
    def jump(self, x: Tensor, draws: Tensor, uniform: Tensor) -> Tensor:
        """Proposes a place of uniform noise to each chain inside its range, and accepts as Metropolis does.

        The proposal is symmetric within the box of uniform noise, and chains outside stay: exp(-E) is left invariant.

        Args:
            x: Chains, shape (N, *shape).
            draws: Uniform in [0, 1), in the shape of x.
            uniform: Uniform in [0, 1), shape (N,), for the accept step.
        """
        proposal = self.uniform(draws)
        accepted = uniform.log() < self.energy(x) - self.energy(proposal)
        accepted &= x.abs().flatten(1).amax(1) <= self.hparams["initial_scale"]
        return torch.where(accepted.view(-1, *[1] * (x.ndim - 1)), proposal, x)

    def slots(self, num: int) -> int:
        """Returns the slots of each of the ``num`` positions of this process."""
        return max(1, self.hparams["buffer_size"] // (num * self.trainer.world_size))

    def uniform(self, draws: Tensor) -> Tensor:
        """Maps draws from [0, 1) to where chains start."""
        return self.hparams["initial_scale"] * (2 * draws - 1)

    def stop_runaway(self, positive: Tensor, negative: Tensor) -> None:
        """Raises ``RunawayEnergy`` on all processes together, on the means over all of them."""
        (means,) = all_reduce_gradients([], torch.stack([positive, negative]).detach().float())
        data, chains = means.tolist()
        if not math.isfinite(data - chains) or abs(data - chains) > self.hparams["runaway"]:
            raise RunawayEnergy(
                f"Training stopped at batch {self.batches_trained}: the potential is {data:g} on data and {chains:g} "
                f"on chains, further apart than runaway={self.hparams['runaway']:g}. More Langevin steps, a smaller "
                "step_size, a lower lr or a larger magnitude_weight are the usual remedies."
            )

    def rank_state(self) -> dict[str, Tensor]:
        """The replay buffer."""
        return {} if self.replay is None else self.replay.state()

    def load_rank_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes the replay buffer back."""
        self.replay = ReplayBuffer.from_state(state, self.device)

    def keep_particles(self) -> None:
        """Copies chains of the replay buffers of all processes into ``particles``; all must call it together."""
        states = [state for state in gather_objects(self.rank_state()) if state]
        if states:
            kept = select_chains(states, len(self.particles), self.hparams["burn_in"])
            self.particles.copy_(to_levels(kept) if self.is_picture else kept)

    def on_train_end(self) -> None:
        """Leaves a module that samples as its checkpoint does."""
        self.keep_particles()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the particles of this moment; the file refers to the same memory."""
        self.keep_particles()
        super().on_save_checkpoint(checkpoint)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam, its learning rate falling linearly if ``decay_steps`` is set."""
        hparams = self.hparams
        optimizer = fused_if_possible(
            torch.optim.Adam, self.network.parameters(), lr=hparams["lr"], betas=tuple(hparams["betas"])
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.decay)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # Measuring

    def on_validation_epoch_start(self) -> None:
        """Takes the chains of this moment, and integrates the density where that can be done."""
        super().on_validation_epoch_start()
        self.keep_particles()
        self.integrate()

    def on_test_epoch_start(self) -> None:
        """Integrates the density where that can be done."""
        super().on_test_epoch_start()
        self.integrate()

    def integrate(self) -> None:
        """Sums exp(-E) over a grid in the plane, if the model is one of points there at temperature 1."""
        if list(self.hparams["shape"]) == [2] and self.hparams["temperature"] == 1:
            self.log_partition = grid_log_integral(self.log_values_on_grid(), GRID_EXTENT).item()

    def log_values_on_grid(self) -> Tensor:
        """Returns -E at the cells of the grid, float64."""
        return on_grid(lambda x: -self.energy(x), self.device)

    def negative_log_likelihood(self, x: Tensor, labels: Tensor, indices: Tensor, stage: str) -> dict[str, Tensor]:
        """Returns E(x) + log Z, with Z summed over a grid, for points in the plane; nothing for pictures."""
        return {} if self.log_partition is None else {"grid": self.energy(x).double() + self.log_partition}

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Logs ``val/energy_gap`` and ``val/energy_difference``, in units of the potential."""
        super().validation_step(batch, batch_idx)
        self.log_energies(batch[0], batch_idx, "val")

    def test_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Logs ``test/energy_gap`` and ``test/energy_difference``, in units of the potential."""
        super().test_step(batch, batch_idx)
        self.log_energies(batch[0], batch_idx, "test")

    def log_energies(self, x: Tensor, batch_idx: int, stage: str) -> None:
        """Compares data with uniform noise and with the particles."""
        generator = torch.Generator().manual_seed(batch_idx * self.trainer.world_size + self.global_rank)
        noise = self.uniform(torch.rand(x.shape, generator=generator).to(self.device))
        chosen = torch.randint(len(self.particles), (len(x),), generator=generator)
        data, away, chains = (
            self.potential(part).mean() for part in (x, noise, self.particles_at(chosen.to(self.device)))
        )
        values = {f"{stage}/energy_gap": away - data, f"{stage}/energy_difference": data - chains}
        self.log_dict(values, sync_dist=True, batch_size=len(x))

    def on_test_epoch_end(self) -> None:
        """Logs ``test/ess``, and ``test/kl-grid`` where the law of the data is known."""
        super().on_test_epoch_end()
        self.log("test/ess", self.chain_ess())
        if self.log_partition is None:
            return
        divergence = mixture_divergence(self.log_values_on_grid(), self.data_spec)
        if divergence is not None:
            self.log("test/kl-grid", divergence)

    def chain_ess(self) -> float:
        """Returns the effective sample size of 64 chains of 200 steps, by the potential; a fixed seed."""
        generator = torch.Generator().manual_seed(0)
        with evaluating(self):
            x = self.starts(TEST_CHAINS, "particles", generator)
            series = []
            for _ in range(TEST_STEPS):
                x = self.walk(x, torch.randn(x.shape, generator=generator).to(self.device))
                series.append(self.potential(x))
        return chain_effective_sample_size(torch.stack(series)).item()

    # Sampling

    def particles_at(self, indices: Tensor) -> Tensor:
        """Returns kept chains as examples; pictures were rounded to 256 levels."""
        kept = self.particles[indices]
        return kept.float() / 127.5 - 1 if self.is_picture else kept

    def starts(self, num: int, start: str, generator: Generator) -> Tensor:
        """Draws where chains start: kept particles, or uniform noise."""
        if start == "particles":
            chosen = torch.randint(len(self.particles), (num,), generator=generator, device=generator.device)
            return self.particles_at(chosen.to(self.device))
        draws = torch.rand(num, *self.hparams["shape"], generator=generator, device=generator.device)
        return self.uniform(draws.to(self.device))

    def sample(
        self,
        num_samples: int,
        *,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        steps: int | None = None,
        start: str = "particles",
    ) -> Tensor:
        """Draws examples, shape (num_samples, *shape), by Langevin chains; pictures in [-1, 1].

        Args:
            num_samples: How many, at least 1.
            labels: Must be ``None``: the model is unconditional.
            generator: Source of all randomness; ``None`` takes a fresh seed from the system.
            steps: Langevin steps, by default ``sample_steps``.
            start: ``"particles"``: chains go on from kept ones, drawn with replacement, so that a few steps will do
                and samples that share a start are alike; ``"noise"``: they start from uniform noise, independent
                of one another, and need as many steps as chains of training have behind them.

        Raises:
            ValueError: If an argument is out of range.
        """
        check_num_samples(num_samples)
        if labels is not None:
            raise ValueError("labels were given to an unconditional model; an EBM has no classes.")
        if start not in ("particles", "noise"):
            raise ValueError(f"start={start!r} must be 'particles' or 'noise'.")
        steps = self.hparams["sample_steps"] if steps is None else steps
        check_positive(steps=steps)
        generator = generator or new_generator()
        parts = []
        with evaluating(self):
            for done in range(0, num_samples, CHUNK):
                x = self.starts(min(CHUNK, num_samples - done), start, generator)
                for step in range(steps):
                    if self.jumps_at(step):
                        draws = torch.rand(x.shape, generator=generator, device=generator.device)
                        uniform = torch.rand(len(x), generator=generator, device=generator.device)
                        x = self.jump(x, draws.to(self.device), uniform.to(self.device))
                    normal = torch.randn(x.shape, generator=generator, device=generator.device)
                    x = self.walk(x, normal.to(self.device))
                parts.append(x)
        return torch.cat(parts)


def check_positive(**values: float) -> None:
    """Raises ValueError for the first of the named numbers that is not positive and finite."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name}={value} must be positive.")


def to_levels(x: Tensor) -> Tensor:
    """Rounds pictures in [-1, 1] to uint8."""
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
