"""Restricted Boltzmann machine: binary visible and hidden units, coupled between the layers only.

E(v, h) = -a v - c h - v W h. Hidden units sum out, which leaves the free energy F(v) = -a v - sum_j softplus(c + v W)_j
as the f of eq. 1.18: p(v) = exp(-F(v)) / Z (eq. 1.20). The gradient of the log-likelihood is that of F on data minus
that of F on samples of the model (eq. 1.28). Contrastive divergence (CD-k) samples by k steps of block Gibbs sampling
that start from the data; persistent CD (PCD-k) continues the chains of the previous step.

NOTE: CD-k is biased and may leave modes far from all data; PCD is not, as long as the learning rate is low enough for
the chains to follow the model. The likelihood of both is estimated by annealed importance sampling, see ``partition``.

Training Products of Experts by Minimizing Contrastive Divergence (Hinton, 2002),
https://doi.org/10.1162/089976602760128018
Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient (Tieleman, 2008),
https://doi.org/10.1145/1390156.1390290
How to Center Deep Boltzmann Machines (Melchior, Fischer and Wiskott, 2016), https://arxiv.org/abs/1311.1354
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor

from datamodules.spec import Batch
from lightning_modules.energy.annealing_paths import SALAKHUTDINOV, temperatures
from lightning_modules.energy.measured_rbm import MeasuredRBM
from lightning_modules.parts.checks import as_count, as_temperature, check_counts, check_no_labels
from lightning_modules.parts.likelihoods import not_binary
from lightning_modules.parts.noise import new_generator
from lightning_modules.parts.optimizers import fused_if_possible
from lightning_modules.parts.precision import without_autocast
from lightning_modules.parts.processes import world_size
from lightning_modules.parts.sampling import CHUNK, check_num_samples, evaluating
from lightning_modules.parts.schedules import linear_decay
from lightning_modules.runtime.distributed import gather_objects

READ_CHUNK = 4096
REFERENCE_SIZE = 2000
"""Number of training images with whose free energy that of held-out images is compared."""
STARTS = ("fantasies", "rates", "annealed")


class RBM(MeasuredRBM):
    """p(v) = exp(-F(v)) / Z over binary images, trained by (persistent) contrastive divergence.

    The gradient is centred by default: computed for v - mu and h - 1/2, with the data's rates mu, and mapped back to
    W, a and c. It optimises the same likelihood, but inverting the images (1 - v) does not change the training, and
    the biases follow changes of the weights. See ``MeasuredRBM`` for what validation and tests measure.

    Args:
        shape: (C, H, W) of binary images.
        num_hidden: Hidden units.
        cd_steps: k, steps of block Gibbs sampling per training step.
        persistent: Whether chains continue (PCD-k) or start from the data in each step (CD-k).
        centered: Whether the gradient is centred.
        lr: Learning rate of SGD.
        momentum: Momentum of SGD.
        weight_decay: L2 penalty of W, as a share of W in its gradient.
        decay_steps: Batches after which the learning rate has fallen linearly to zero, or ``None``. Chains of PCD
            catch up with the model only when it changes slowly.
        sample_steps: Steps of ``sample``.
        start: Start of samples; see ``sample``.
        num_fantasies: Chains of training that are kept in the model's state.
        schedule: Inverse temperatures of the tests: a number in equal steps, or ``"salakhutdinov"``, 14 503 of them.
        num_chains: Chains of the tests' annealed importance sampling.
        num_reversed: Test images from which reverse annealing starts; 0 for none.

    Raises:
        ValueError: If a number is out of range.
    """

    kinds = ("image",)
    num_evaluated = 2000  # each sample is the end of a long chain
    value_range = (0.0, 1.0)
    discrete = True
    fantasies: Tensor

    def __init__(
        self,
        shape: Sequence[int] = (1, 28, 28),
        num_hidden: int = 500,
        cd_steps: int = 10,
        persistent: bool = True,
        centered: bool = True,
        lr: float = 0.02,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        decay_steps: int | None = None,
        sample_steps: int = 1000,
        start: str = "fantasies",
        num_fantasies: int = 500,
        schedule: str | int = SALAKHUTDINOV,
        num_chains: int = 100,
        num_reversed: int = 1000,
    ) -> None:
        check_counts(num_hidden=num_hidden, cd_steps=cd_steps, sample_steps=sample_steps, num_fantasies=num_fantasies)
        super().__init__(shape, num_hidden, linear_decay(decay_steps), num_reversed)
        if not lr > 0 or not 0 <= momentum < 1 or weight_decay < 0:
            raise ValueError(
                f"lr={lr} must be positive, momentum={momentum} in [0, 1) and weight_decay={weight_decay} not negative."
            )
        if num_chains < 2 or num_reversed < 0:
            raise ValueError(f"num_chains={num_chains} must be at least 2 and num_reversed={num_reversed} at least 0.")
        check_start(start)
        temperatures(schedule)
        self.save_hyperparameters()
        self.register_buffer("fantasies", torch.zeros(num_fantasies, *shape, dtype=torch.uint8))
        self.chains: Tensor | None = None

    # Training

    def batch_problem(self, batch: Batch) -> str | None:
        """Names a value that is neither 0 nor 1, if there is one: the units are binary."""
        return not_binary(batch.x)

    def on_fit_start(self) -> None:
        """Sets the visible biases to the logits of the data's rates, if the datamodule provides all images at once.

        If units start at these rates, only correlations remain to be learned.
        """
        super().on_fit_start()
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None or not hasattr(datamodule, "images"):
            return  # ``first_batch`` does it
        images = datamodule.images("train")[0]
        if images.shape[1:] != torch.Size(self.hparams["shape"]) or images.dtype != torch.uint8:
            return
        self.reference = images[:REFERENCE_SIZE].gt(127).to(self.weight)
        if not self.is_initialized:
            counts = torch.stack([block.gt(127).sum(0) for block in images.split(READ_CHUNK)]).sum(0)
            self.initialize(counts, len(images))

    def first_batch(self, x: Tensor) -> None:
        """Initialises from the first batch what ``on_fit_start`` could not initialise from all data."""
        if self.reference is None:
            self.reference = x.detach().clone()
        if not self.is_initialized:
            counts = self.trainer.strategy.reduce(x.sum(0), reduce_op="sum")
            self.initialize(counts, len(x) * world_size())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the mean free energy of the data minus that of the chains, whose gradient is eq. 1.28."""
        x = batch.x
        if batch_idx == 0:
            self.first_batch(x)
        samples = self.negative_samples(x.flatten(1))
        positive, negative = self.unchecked_energy(torch.cat([x.flatten(1), samples])).split([len(x), len(samples)])
        return self.objective({"contrast": positive.mean() - negative.mean()})

    @torch.no_grad()
    @without_autocast
    def negative_samples(self, x: Tensor) -> Tensor:
        """Returns states (N, D) after ``cd_steps`` of Gibbs sampling, one chain for each position of the batch."""
        chains, rest = x, x[:0]
        if self.chains is not None:  # a user's loader may yield a shorter batch first or at the end of an epoch
            kept = self.chains.to(x)
            rest = kept[len(x) :]
            if self.hparams["persistent"]:
                chains = torch.cat([kept[: len(x)], x[len(kept) :]])
        back = self.weight.T.contiguous()
        for _ in range(self.hparams["cd_steps"]):
            hidden = self.flip(torch.addmm(self.hidden_bias, chains, self.weight))
            chains = self.flip(torch.addmm(self.visible_bias, hidden, back))
        self.chains = torch.cat([chains, rest])
        return chains

    def flip(self, logits: Tensor) -> Tensor:
        """Samples units with training noise, each 1 with probability sigmoid(logits)."""
        return (self.noise.uniform(*logits.shape, device=logits.device) < logits.sigmoid()).to(logits.dtype)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Centres the gradients, which at this point are those of the whole batch."""
        if self.hparams["centered"]:
            self.center_gradients()
        super().on_before_optimizer_step(optimizer)

    @torch.no_grad()
    def center_gradients(self) -> None:
        """Maps gradients to those for v - mu and h - 1/2, and these back to the biases of v and h.

        With G the gradient by W, g and s those by a and c, and mu the rates of the data:
        G' = G - mu s' - g 1'/2, g' = g - G' 1/2, s' = s - G'' mu; the products are outer ones.
        """
        mu, lam = self.base_rates, 0.5
        weight, visible, hidden = (p.grad for p in (self.weight, self.visible_bias, self.hidden_bias))
        assert weight is not None
        assert visible is not None
        assert hidden is not None
        weight.addr_(mu, hidden, alpha=-1.0).sub_(lam * visible[:, None])
        visible.sub_(lam * weight.sum(1))
        hidden.sub_(mu @ weight)

    def rank_state(self) -> dict[str, Tensor]:
        """Returns the chains of this process."""
        return {} if self.chains is None else {"chains": self.chains.to(torch.uint8).cpu()}

    def load_rank_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores the chains."""
        self.chains = state["chains"].to(self.weight)

    def keep_chains(self) -> None:
        """Copies the chains of all processes into ``fantasies``; all must call it together."""
        states = [state["chains"] for state in gather_objects(self.rank_state()) if state]
        if states:
            chains = torch.cat(states)
            repeated = chains[torch.arange(len(self.fantasies)) % len(chains)]
            self.fantasies.copy_(repeated.view_as(self.fantasies))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns SGD with weight decay on W alone, and a linear decay of its rate if ``decay_steps`` is set."""
        groups = [
            {"params": [self.weight], "weight_decay": self.hparams["weight_decay"]},
            {"params": [self.visible_bias, self.hidden_bias], "weight_decay": 0.0},
        ]
        optimizer = fused_if_possible(torch.optim.SGD, groups, lr=self.hparams["lr"], momentum=self.hparams["momentum"])
        return self.scheduled(optimizer)

    # Sampling

    def sample(
        self,
        num_samples: int,
        *,
        labels: Tensor | None = None,
        generator: Generator | None = None,
        steps: int | None = None,
        mean: bool = False,
        temperature: float = 1.0,
        start: str | None = None,
    ) -> Tensor:
        """Samples binary images, shape (num_samples, *shape), by block Gibbs sampling.

        Args:
            num_samples: Number of samples, at least 1.
            labels: Must be ``None``: the model is unconditional.
            generator: Source of all random numbers; ``None`` takes a fresh seed from the system.
            steps: Gibbs steps, by default ``sample_steps``.
            mean: Whether to return the probabilities p(v = 1 | h) of the last step instead of samples.
            temperature: Samples are from p(v, h)^(1 / temperature); below 1 they are more likely ones.
            start: ``"fantasies"``: chains continue from those of training, chosen with replacement; samples that share
                a start are alike after few steps. ``"rates"``: units start independently at the data's rates.
                ``"annealed"``: the same start, and as many temperatures as steps up to the model: independent samples
                of p_ann of annealed importance sampling. By default the hyperparameter.

        Raises:
            ValueError: If an argument is out of range.
        """
        num_samples = check_num_samples(num_samples)
        check_no_labels(labels, "an RBM")
        steps = as_count("steps", self.hparams["sample_steps"] if steps is None else steps)
        temperature = as_temperature(temperature)
        start = self.hparams["start"] if start is None else start
        check_start(start)
        generator = generator or new_generator()
        sizes = [min(CHUNK, num_samples - done) for done in range(0, num_samples, CHUNK)]
        settings: dict[str, Any] = {"temperature": temperature, "annealed": start == "annealed", "mean": mean}
        with evaluating(self):
            parts = [self.gibbs_chain(self.starts(n, start, generator), steps, generator, **settings) for n in sizes]
        return torch.cat(parts).view(num_samples, *self.shape)

    def starts(self, num: int, start: str, generator: Generator) -> Tensor:
        """Draws initial states of chains, (num, D); see ``sample``."""
        if start != "fantasies":
            return self.independent_units(num, generator)
        chosen = torch.randint(len(self.fantasies), (num,), generator=generator, device=generator.device)
        return self.fantasies[chosen.to(self.device)].flatten(1).to(self.weight.dtype)

    def fantasy_particles(self) -> Tensor:
        """Returns p(v = 1 | E[h | v]) of the kept chains of training, shape (num_fantasies, *shape)."""
        with evaluating(self):
            return self.reconstruct(self.fantasies.to(self.weight.dtype))


def check_start(start: str) -> None:
    """Raises ValueError unless ``start`` is one of ``STARTS``."""
    if start not in STARTS:
        raise ValueError(f"start={start!r} must be one of {', '.join(STARTS)}.")
