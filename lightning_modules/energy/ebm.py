"""Deep energy-based models, trained by maximum likelihood with Langevin chains from a replay buffer.

The density is exp(-E(x)) / Z. Its log-likelihood has the gradient of eq. 1.28: training lowers the energy of data
(positive phase) and raises the energy of samples of the model (negative phase). The samples are states of Langevin
chains that continue from a replay buffer, so that in total they run much longer than one training step allows.

NOTE: The network is the potential f, low on data; in some other implementations it is -f. The sampler targets
exp(-f / T) at the temperature T = noise_scale^2 / (2 step_size), so ``energy`` is f / T. For points T is 1, and the
density can be integrated. For images it is common practice to take long steps with little noise (step 10, noise
0.005: T of the order 1e-6), which gives good images but no useful likelihood: for those models energy gaps and
effective sample sizes are logged, and no nats.

Implicit Generation and Modeling with Energy-Based Models (Du and Mordatch, 2019), https://arxiv.org/abs/1903.08689
On the Anatomy of MCMC-Based Maximum Likelihood Learning of Energy-Based Models (Nijkamp et al., 2020),
https://arxiv.org/abs/1903.12370
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor, nn

from datamodules.spec import Batch, DataSpec
from lightning_modules.energy.langevin_chains import LangevinChains
from lightning_modules.energy.measured_ebm import MeasuredEBM
from lightning_modules.networks.potential import build_potential
from lightning_modules.parts.checks import as_count, check_no_labels, check_positive
from lightning_modules.parts.noise import Noise, new_generator
from lightning_modules.parts.optimizers import adam_with
from lightning_modules.parts.quantization import to_uint8
from lightning_modules.parts.replay import ReplayBuffer, select_chains
from lightning_modules.parts.sampling import CHUNK, check_num_samples, evaluating, in_type_of
from lightning_modules.parts.schedules import linear_decay
from lightning_modules.runtime.distributed import all_reduce_gradients, gather_objects

POINTS = {
    "architecture": "mlp",
    "width": 32,
    "reference_scale": 2.0,
    "step_size": 5e-3,
    "temperature": 1.0,
    "max_gradient": None,
    "fresh_share": 0.0,
    "mh_proposal_every": 5,
    "initial_scale": 3.0,
    "data_noise": 0.0,
    "magnitude_weight": 0.0,
    "lr": 2e-3,
    "betas": [0.9, 0.999],
}
"""Hyperparameters for points: a density at temperature 1, whose integral is computed."""


class RunawayEnergy(FloatingPointError):
    """The potentials of data and of chains have diverged: the chains no longer sample the model."""


class EBM(MeasuredEBM):
    """p(x) = exp(-f(x) / T) / Z with a network f, trained by eq. 1.28 on Langevin chains.

    Sampling continues ``particles`` by ``sample_steps`` steps: chains of the replay buffer that are kept in the model's
    state, so that a checkpoint can be sampled without data. With ``start="noise"`` it starts from noise. See
    ``MeasuredEBM`` for what validation and tests measure. In the plane ``log_prob`` is normalised by a sum over a grid;
    for other data ``set_log_partition`` takes an estimate of log Z.

    Args:
        shape: (C, H, W) of images in [-1, 1], or (2,) for points.
        architecture: ``"conv"`` for images, ``"mlp"`` for both.
        width: Channels of the first convolution, or a quarter of the units of a layer of the MLP.
        reference_scale: Standard deviation of a Gaussian with whose tails the MLP's density decays, or ``None``.
        steps: Langevin steps per training step.
        step_size: Factor of the gradient of f in a Langevin step.
        temperature: T; the noise of a step has the standard deviation sqrt(2 step_size T).
        max_gradient: Entries of the gradient in a Langevin step are clamped to this, or ``None``.
        buffer_size: Chains in the replay buffer, over all positions of the batch and all processes.
        fresh_share: Probability that a chain is restarted from uniform noise.
        mh_proposal_every: Number of Langevin steps between Metropolis-Hastings proposals of uniform noise, by which
            chains in the plane move between modes; ``None`` for no proposals.
        initial_scale: Uniform noise spans [-initial_scale, initial_scale] in each coordinate.
        data_noise: Standard deviation of Gaussian noise on training data.
        magnitude_weight: Weight of f(data)^2 + f(chain)^2, which keeps the potential near 0.
        lr: Adam's learning rate.
        betas: Adam's decay rates.
        decay_steps: Batches after which the learning rate has fallen linearly to zero, or ``None``.
        num_particles: Chains kept in the model's state.
        burn_in: Number of training steps that a chain must have run before it is kept, if there are enough such chains.
        sample_steps: Langevin steps of ``sample``.
        runaway: Training stops if mean f of data and of chains differ by more than this.

    Raises:
        ValueError: If a number is out of range, or the architecture does not fit the shape.
    """

    value_range = (-1.0, 1.0)
    num_evaluated = 2000  # each sample is the end of a long chain
    renamed_hyperparameters: Mapping[str, str] = {"jump_every": "mh_proposal_every"}
    particles: Tensor

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
        mh_proposal_every: int | None = None,
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
        super().__init__(lr_schedule=linear_decay(decay_steps))
        check_positive(steps=steps, step_size=step_size, temperature=temperature, buffer_size=buffer_size)
        check_positive(initial_scale=initial_scale, num_particles=num_particles, sample_steps=sample_steps)
        check_positive(runaway=runaway)
        optional = {"max_gradient": max_gradient, "mh_proposal_every": mh_proposal_every}
        check_positive(**{name: value for name, value in optional.items() if value is not None})
        if not 0 <= fresh_share <= 1 or min(data_noise, magnitude_weight, burn_in) < 0:
            raise ValueError(
                f"fresh_share={fresh_share} must be in [0, 1], and data_noise={data_noise}, "
                f"magnitude_weight={magnitude_weight} and burn_in={burn_in} not negative."
            )
        self.save_hyperparameters()
        self.build_optimizer = adam_with(lr, betas)
        self.network = build_potential(architecture, shape, width, reference_scale)
        self.is_image = len(shape) == 3
        start = self.sampler.start(torch.rand(num_particles, *shape, generator=torch.Generator().manual_seed(0)))
        self.register_buffer("particles", to_uint8(start, (-1.0, 1.0)) if self.is_image else start)
        self.replay: ReplayBuffer | None = None
        self.to(memory_format=torch.channels_last)

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Returns the shape and, for points, an MLP at temperature 1 with its settings."""
        return {"shape": list(spec.shape), **({} if spec.kind == "image" else POINTS)}

    def unchecked_potential(self, x: Tensor) -> Tensor:
        """Returns f(x), shape (N,), of any finite values: temperature times the energy; low on data."""
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return self.network(in_type_of(self.network, x))

    @property
    def sampler(self) -> LangevinChains:
        """The chains of training and of ``sample``."""
        names = ("step_size", "temperature", "max_gradient", "mh_proposal_every", "initial_scale")
        settings = {name: self.hparams[name] for name in names}
        dtype = next(self.network.parameters()).dtype
        return LangevinChains(self.unchecked_potential, bounded=self.is_image, dtype=dtype, **settings)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the potential f(x), shape (N,), as ``potential``."""
        return self.potential(x)

    def averaged_networks(self) -> Mapping[str, nn.Module]:
        """Returns the potential, the only network that sampling uses."""
        return {"network": self.network}

    # Training

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the contrast between data and chains that continue from the replay buffer, plus the magnitude term.

        Raises:
            RunawayEnergy: If the mean potentials of data and of chains differ by more than ``runaway``.
        """
        x = batch.x
        if deviation := self.hparams["data_noise"]:
            x = x + deviation * self.noise.normal(*x.shape, device=x.device)
        chains = self.negative_samples(len(x))
        positive, negative = self.unchecked_potential(torch.cat([x, chains])).chunk(2)
        self.stop_runaway(positive.mean(), negative.mean())
        terms = {"contrast": positive.mean() - negative.mean()}
        if weight := self.hparams["magnitude_weight"]:
            terms["magnitude"] = weight * (positive.square() + negative.square()).mean()
        return self.objective(terms)

    def negative_samples(self, num: int) -> Tensor:
        """Continues one chain for each position of the batch, stores it in the buffer and returns it."""
        shape = self.hparams["shape"]
        kept, slots = (0, self.slots(num)) if self.replay is None else self.replay.visits.shape
        if num > kept:
            chains = self.sampler.start(self.noise.uniform(num - kept, slots, *shape, device=self.device))
            self.replay = ReplayBuffer.started(chains) if self.replay is None else self.replay.extended(chains)
        assert self.replay is not None
        fresh = self.sampler.start(self.noise.uniform(num, *shape, device=self.device))
        chains = self.replay.take(fresh, self.hparams["fresh_share"], self.noise)
        chains = self.sampler.run(chains, self.hparams["steps"], self.noise)
        self.replay.put(chains)
        return chains

    def slots(self, num: int) -> int:
        """Returns the number of slots for each of the ``num`` positions of this process."""
        return max(1, self.hparams["buffer_size"] // (num * self.trainer.world_size))

    def stop_runaway(self, positive: Tensor, negative: Tensor) -> None:
        """Raises ``RunawayEnergy`` on all processes together, based on means over all of them."""
        (means,) = all_reduce_gradients([], torch.stack([positive, negative]).detach().float())
        data, chains = means.tolist()
        if abs(data - chains) > self.hparams["runaway"]:  # NaN is found by the objective
            raise RunawayEnergy(
                f"Training stopped at batch {self.batches_trained}: the potential is {data:g} on data and {chains:g} "
                f"on chains, further apart than runaway={self.hparams['runaway']:g}. More Langevin steps, a smaller "
                "step_size, a lower lr or a larger magnitude_weight are the usual remedies."
            )

    def rank_state(self) -> dict[str, Tensor]:
        """Returns the replay buffer."""
        return {} if self.replay is None else self.replay.state()

    def load_rank_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores the replay buffer."""
        self.replay = ReplayBuffer.from_state(state, self.device)

    def keep_chains(self) -> None:
        """Copies chains of the replay buffers of all processes into ``particles``; all must call it together."""
        states = [state for state in gather_objects(self.rank_state()) if state]
        if states:
            kept = select_chains(states, len(self.particles), self.hparams["burn_in"])
            self.particles.copy_(to_uint8(kept, (-1.0, 1.0)) if self.is_image else kept)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns Adam, with a linear decay of the learning rate if ``decay_steps`` is set."""
        return self.scheduled(self.build_optimizer(self.network.parameters()))

    # Sampling

    def particles_at(self, indices: Tensor) -> Tensor:
        """Returns kept chains as examples; images were rounded to 256 levels."""
        kept = self.particles[indices]
        return kept.to(next(self.network.parameters()).dtype) / 127.5 - 1 if self.is_image else kept

    def starts(self, num: int, start: str, noise: Noise) -> Tensor:
        """Draws initial states of chains: kept particles, or uniform noise."""
        if start == "particles":
            return self.particles_at(noise.integers(len(self.particles), num, self.device))
        return self.sampler.start(noise.uniform(num, *self.hparams["shape"], device=self.device))

    def sample(
        self,
        num_samples: int,
        *,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        steps: int | None = None,
        start: str = "particles",
    ) -> Tensor:
        """Samples examples, shape (num_samples, *shape), by Langevin chains; images in [-1, 1].

        Args:
            num_samples: Number of samples, at least 1.
            labels: Must be ``None``: the model is unconditional.
            generator: Source of all random numbers; ``None`` takes a fresh seed from the system.
            steps: Langevin steps, by default ``sample_steps``.
            start: ``"particles"``: chains continue from kept ones, chosen with replacement; a few steps suffice, and
                samples that share a start are alike. ``"noise"``: chains start independently from uniform noise, and
                need as many steps as chains of training have run.

        Raises:
            ValueError: If an argument is out of range.
        """
        num_samples = check_num_samples(num_samples)
        check_no_labels(labels, "an EBM")
        if start not in ("particles", "noise"):
            raise ValueError(f"start={start!r} must be 'particles' or 'noise'.")
        steps = as_count("steps", self.hparams["sample_steps"] if steps is None else steps)
        noise = Noise(generator or new_generator())
        sizes = [min(CHUNK, num_samples - done) for done in range(0, num_samples, CHUNK)]
        with evaluating(self):
            return torch.cat([self.sampler.run(self.starts(size, start, noise), steps, noise) for size in sizes])
