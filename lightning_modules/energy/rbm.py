"""Restricted Boltzmann machine: binary visible and hidden units, coupled between the layers only.

E(v, h) = -a v - c h - v W h. Hidden units sum out, which leaves the free energy F(v) = -a v - sum_j softplus(c + v W)_j
as the f of eq. 1.18: p(v) = exp(-F(v)) / Z (eq. 1.20). The gradient of the log-likelihood is that of F on data minus
that of F on samples of the model (eq. 1.28). Contrastive divergence (CD-k) draws these by k steps of block Gibbs
sampling from the data; persistent CD (PCD-k) goes on with the chains of the step before.

NOTE: CD-k is biased and may leave modes that no data are near; PCD is not, as long as the learning rate lets the chains
keep up. What either has come to is measured by annealed importance sampling, see ``partition``.

Training Products of Experts by Minimizing Contrastive Divergence (Hinton, 2002),
https://doi.org/10.1162/089976602760128018
Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient (Tieleman, 2008),
https://doi.org/10.1145/1390156.1390290
How to Center Deep Boltzmann Machines (Melchior, Fischer and Wiskott, 2016), https://arxiv.org/abs/1311.1354
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from lightning_modules.base import fused_if_possible
from lightning_modules.callbacks.generation_measure import short_count
from lightning_modules.energy.partition import (
    SALAKHUTDINOV,
    PartitionEstimate,
    RBMPath,
    ReverseEstimate,
    annealed_importance_sampling,
    bernoulli,
    exact_log_partition,
    progress,
    reverse_annealed_importance_sampling,
    temperatures,
)
from lightning_modules.likelihood import LikelihoodModule
from lightning_modules.parts.distributed import gather_objects, rank, world_size
from lightning_modules.parts.likelihoods import bernoulli_log_prob, not_binary
from lightning_modules.parts.noise import fixed_uniform, new_generator
from lightning_modules.parts.sampling import CHUNK, check_num_samples, evaluating
from lightning_modules.parts.schedules import linear_decay

READ_CHUNK = 4096
REFERENCE_SIZE = 2000
"""Training pictures whose free energy that of held-out ones is compared with."""
PSEUDO_PIXELS = 16
MAX_EXACT = 20
"""Units of the smaller layer up to which tests also sum Z exactly: half a minute."""
RAISE_BLOCK = 250
"""Test pictures whose draws belong together; part of the meaning of the number."""
STARTS = ("fantasies", "rates", "annealed")


class RBM(LikelihoodModule):
    """p(v) = exp(-F(v)) / Z over binary pictures, trained by (persistent) contrastive divergence.

    The gradient is centred by default: taken in v - mu and h - 1/2, with the data's rates mu, and mapped back to W, a
    and c. It descends the same likelihood, but pictures and their negatives train alike, and the biases follow the
    weights by themselves.

    Validation logs ``val/pseudo_nll`` (minus the sum of log p(v_i | all others), nats, from 16 fixed pixels of each
    picture), ``val/reconstruction_cross_entropy`` (of v under p(v | E[h | v]), nats) and ``val/free_energy_gap``, the
    mean F of held-out minus that of training pictures: Z cancels in it, and a gap that grows says overfitting. Tests
    estimate the likelihood: ``test/nll-ais`` is of all pictures under log Z by annealed importance sampling, low in
    expectation; ``test/nll-raise-1k`` by reverse annealing from the first ``num_tested`` pictures, high in expectation
    for the annealing's own p_ann; ``test/ais_*`` has log Z, its standard error and its effective sample size.

    Args:
        shape: (C, H, W) of pictures of bits.
        num_hidden: Hidden units.
        cd_steps: k, steps of block Gibbs sampling for each training step.
        persistent: Whether chains go on (PCD-k) or start from the data each time (CD-k).
        centered: Whether the gradient is centred.
        lr: Learning rate of SGD.
        momentum: Of SGD.
        weight_decay: L2 penalty of W, as a share of W in its gradient.
        decay_steps: Batches after which the learning rate has fallen linearly to zero, or ``None``. Chains of PCD only
            catch up with a model that comes to rest.
        sample_steps: Steps of ``sample``.
        start: Where samples start: see ``sample``.
        num_fantasies: Chains of training that are kept in the model's state.
        schedule: Inverse temperatures of the tests: a number in equal steps, or ``"salakhutdinov"``, 14 503 of them.
        num_chains: Chains of the tests' annealed importance sampling.
        num_reversed: Test pictures that reverse annealing starts from; 0 for none.

    Raises:
        ValueError: If a number is out of range.
    """

    kinds = ("image",)
    num_judged = 2000  # each sample is the end of a long chain
    value_range = (0.0, 1.0)
    discrete = True
    base_rates: Tensor
    fantasies: Tensor
    is_initialized: Tensor

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
        super().__init__()
        least_one = {
            "num_hidden": num_hidden,
            "cd_steps": cd_steps,
            "sample_steps": sample_steps,
            "num_fantasies": num_fantasies,
        }
        for name, value in least_one.items():
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if not lr > 0 or not 0 <= momentum < 1 or weight_decay < 0:
            raise ValueError(
                f"lr={lr} must be positive, momentum={momentum} in [0, 1) and weight_decay={weight_decay} not negative."
            )
        if num_chains < 2 or num_reversed < 0:
            raise ValueError(f"num_chains={num_chains} must be at least 2 and num_reversed={num_reversed} at least 0.")
        check_start(start)
        temperatures(schedule)
        self.decay = linear_decay(decay_steps)
        self.save_hyperparameters()
        self.num_visible = math.prod(shape)
        self.weight = nn.Parameter(0.01 * torch.randn(self.num_visible, num_hidden))
        self.visible_bias = nn.Parameter(torch.zeros(self.num_visible))
        self.hidden_bias = nn.Parameter(torch.zeros(num_hidden))
        self.register_buffer("base_rates", torch.full((self.num_visible,), 0.5))
        self.register_buffer("fantasies", torch.zeros(num_fantasies, *shape, dtype=torch.uint8))
        self.register_buffer("is_initialized", torch.tensor(0, dtype=torch.uint8))
        self.chains: Tensor | None = None
        self.reference: Tensor | None = None
        self.partition: PartitionEstimate | None = None
        self.exact: float | None = None
        self.reversed_from: list[tuple[Tensor, Tensor]] = []

    # The model

    def hidden_input(self, x: Tensor) -> Tensor:
        """Returns v W + c, the logits of p(h | v), shape (N, num_hidden)."""
        return torch.addmm(self.hidden_bias, x.flatten(1), self.weight)

    def visible_input(self, hidden: Tensor) -> Tensor:
        """Returns h W' + a, the logits of p(v | h), shape (N, D)."""
        return torch.addmm(self.visible_bias, hidden, self.weight.T)

    def energy(self, x: Tensor) -> Tensor:
        """Returns the free energy F(x) = -log sum_h exp(-E(x, h)) in nats, shape (N,)."""
        return -(x.flatten(1) @ self.visible_bias) - F.softplus(self.hidden_input(x)).sum(1)

    def free_energy(self, x: Tensor) -> Tensor:
        """The same as ``energy``, under the name that it has for RBMs."""
        return self.energy(x)

    def hidden_free_energy(self, hidden: Tensor) -> Tensor:
        """Returns -log sum_v exp(-E(v, h)) in nats, shape (N,), of hidden states (N, num_hidden)."""
        return -(hidden @ self.hidden_bias) - F.softplus(self.visible_input(hidden)).sum(1)

    def joint_energy(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Returns E(v, h) in nats, shape (N,)."""
        return -(x.flatten(1) @ self.visible_bias) - (hidden * self.hidden_input(x)).sum(1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the free energy of x, shape (N,)."""
        return self.energy(x)

    def encode(self, x: Tensor) -> Tensor:
        """Returns p(h = 1 | x), shape (N, num_hidden)."""
        return self.hidden_input(x).sigmoid()

    def reconstruct(self, x: Tensor) -> Tensor:
        """Returns p(v = 1 | E[h | x]), in the shape of x."""
        return self.visible_input(self.encode(x)).sigmoid().view_as(x)

    # Training

    def problem_with(self, batch: Sequence[Tensor]) -> str | None:
        """Says what is wrong with a batch; the units are binary."""
        wrong = super().problem_with(batch)
        if wrong is None and (fault := not_binary(batch[0])):
            return f"{type(self).__name__}: {fault}"
        return wrong

    def on_fit_start(self) -> None:
        """Sets the visible biases to the logits of the data's rates, where the data can be asked for them.

        A model whose units start at their rates has only correlations left to learn.
        """
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None or not hasattr(datamodule, "images"):
            return  # the first batch has to do
        pictures = datamodule.images("train")[0]
        if pictures.shape[1:] != torch.Size(self.hparams["shape"]) or pictures.dtype != torch.uint8:
            return
        self.reference = pictures[:REFERENCE_SIZE].gt(127).float().to(self.device)
        if not self.is_initialized:
            counts = torch.stack([block.gt(127).sum(0) for block in pictures.split(READ_CHUNK)]).sum(0)
            self.initialize(counts, len(pictures))

    @torch.no_grad()
    def initialize(self, counts: Tensor, num_examples: int) -> None:
        """Sets visible biases and base rates: how often each unit was 1 among so many examples."""
        rates = (counts.flatten().to(self.base_rates) + 1) / (num_examples + 2)
        self.base_rates.copy_(rates)
        self.visible_bias.copy_(rates.logit())
        self.is_initialized.fill_(1)

    def first_batch(self, x: Tensor) -> None:
        """Does with the first batch what ``on_fit_start`` could not do with all data."""
        if self.reference is None:
            self.reference = x.detach().clone()
        if not self.is_initialized:
            counts = self.trainer.strategy.reduce(x.sum(0), reduce_op="sum")
            self.initialize(counts, len(x) * world_size())

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """Mean free energy of the data minus that of the chains, whose gradient is eq. 1.28."""
        x = batch[0]
        if batch_idx == 0:
            self.check_batch(batch)
            self.first_batch(x)
        samples = self.negative_samples(x.flatten(1))
        positive, negative = self.energy(torch.cat([x.flatten(1), samples])).split([len(x), len(samples)])
        return self.objective({"contrast": positive.mean() - negative.mean()})

    @torch.no_grad()
    def negative_samples(self, x: Tensor) -> Tensor:
        """Returns states (N, D) after ``cd_steps`` of Gibbs sampling, one chain for each position of the batch."""
        chains = x
        rest = x[:0]
        if self.chains is not None:  # a user's loader may have begun with, or end an epoch with, a shorter batch
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
        """Draws units with training noise, each 1 with probability sigmoid(logits)."""
        return (self.noise.uniform(*logits.shape, device=logits.device) < logits.sigmoid()).to(logits.dtype)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Centres the gradients, which are those of the whole batch by now."""
        if self.hparams["centered"]:
            self.center_gradients()
        super().on_before_optimizer_step(optimizer)

    @torch.no_grad()
    def center_gradients(self) -> None:
        """Takes the gradients in v - mu and h - 1/2, and maps them back to the biases of v and h.

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
        """The chains of this process."""
        return {} if self.chains is None else {"chains": self.chains.to(torch.uint8).cpu()}

    def load_rank_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes the chains back."""
        self.chains = state["chains"].to(self.weight)

    def keep_fantasies(self) -> None:
        """Copies the chains of all processes into ``fantasies``; all must call it together."""
        states = [state["chains"] for state in gather_objects(self.rank_state()) if state]
        if states:
            chains = torch.cat(states)
            repeated = chains[torch.arange(len(self.fantasies)) % len(chains)]
            self.fantasies.copy_(repeated.view_as(self.fantasies))

    def on_train_end(self) -> None:
        """Leaves a module that samples as its checkpoint does."""
        self.keep_fantasies()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the chains of this moment; the file refers to the same memory."""
        self.keep_fantasies()
        super().on_save_checkpoint(checkpoint)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """SGD, with a penalty on the weights alone, its rate falling linearly if ``decay_steps`` is set."""
        groups = [
            {"params": [self.weight], "weight_decay": self.hparams["weight_decay"]},
            {"params": [self.visible_bias, self.hidden_bias], "weight_decay": 0.0},
        ]
        optimizer = fused_if_possible(torch.optim.SGD, groups, lr=self.hparams["lr"], momentum=self.hparams["momentum"])
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.decay)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # Measuring

    def annealing_path(self) -> RBMPath:
        """Returns the path from the rates of the data to this model, for the functions of ``partition``."""
        weight, visible, hidden = (p.detach() for p in (self.weight, self.visible_bias, self.hidden_bias))
        return RBMPath(weight, visible, hidden, self.base_rates.logit())

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
            num_chains: By default the hyperparameter.
            generator: Source of all randomness; ``None`` takes a fresh seed from the system.
        """
        return annealed_importance_sampling(
            self.annealing_path(),
            self.hparams["schedule"] if schedule is None else schedule,
            num_chains=self.hparams["num_chains"] if num_chains is None else num_chains,
            generator=generator,
        )

    def reverse_log_likelihood(
        self,
        x: Tensor,
        schedule: str | int | Sequence[float] | None = None,
        *,
        num_chains: int = 1,
        generator: Generator | None = None,
    ) -> ReverseEstimate:
        """Bounds log p_ann of examples (N, ...) in {0, 1} from below, by reverse annealing; see ``partition``.

        Args:
            x: Examples.
            schedule: As in ``annealed_importance_sampling``; by default the hyperparameter.
            num_chains: Chains an example.
            generator: Source of all randomness; ``None`` takes a fresh seed from the system.
        """
        schedule = self.hparams["schedule"] if schedule is None else schedule
        return reverse_annealed_importance_sampling(
            self.annealing_path(), x.to(self.device), schedule, num_chains=num_chains, generator=generator
        )

    def exact_log_partition(self) -> float:
        """Returns log Z in nats, by enumeration of the smaller layer.

        Raises:
            ValueError: If both layers have more than 25 units.
        """
        num_hidden = self.hparams["num_hidden"]
        few_hidden = num_hidden <= self.num_visible
        return exact_log_partition(
            self.hidden_free_energy if few_hidden else self.energy,
            min(num_hidden, self.num_visible),
            device=self.device,
            dtype=self.weight.dtype,
        )

    def log_prob(self, x: Tensor) -> Tensor:
        """Returns log p(x) in nats, exact, float64 (N,), by enumeration of the smaller layer.

        Raises:
            ValueError: If both layers have more than 25 units.
        """
        return -self.energy(x).double() - self.exact_log_partition()

    def pseudo_nll(self, x: Tensor, pixels: Tensor) -> Tensor:
        """Returns minus the pseudo-log-likelihood, -sum_i log p(v_i | all others), in nats, shape (N,).

        Args:
            x: Examples, (N, ...).
            pixels: int64 (N, M): the units that the sum is estimated from, as D times their mean.
        """
        x, inputs = x.flatten(1), self.hidden_input(x)
        change = 1 - 2 * x.gather(1, pixels)
        flipped = inputs[:, None] + change[:, :, None] * self.weight[pixels]
        # F(x) - F(x with the unit flipped)
        rise = change * self.visible_bias[pixels] + F.softplus(flipped).sum(2) - F.softplus(inputs).sum(1)[:, None]
        return self.num_visible * F.softplus(rise).mean(1)

    def on_validation_epoch_start(self) -> None:
        """Takes the chains of this moment."""
        super().on_validation_epoch_start()
        self.keep_fantasies()

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Logs ``val/pseudo_nll``, ``val/reconstruction_cross_entropy`` and ``val/free_energy_gap``, in nats."""
        super().validation_step(batch, batch_idx)
        x = batch[0].flatten(1)
        indices = self.example_indices(len(x), batch_idx, "val")
        pixels = (fixed_uniform(indices, min(PSEUDO_PIXELS, self.num_visible)) * self.num_visible).long()
        logits = self.visible_input(self.encode(x))
        values = {
            "val/pseudo_nll": self.pseudo_nll(x, pixels).mean(),
            "val/reconstruction_cross_entropy": -bernoulli_log_prob(logits, x).mean(),
        }
        if self.reference is not None:
            values["val/free_energy_gap"] = self.energy(x).mean() - self.energy(self.reference).mean()
        self.log_dict(values, sync_dist=True, batch_size=len(x))

    def negative_log_likelihood(self, x: Tensor, labels: Tensor, indices: Tensor, stage: str) -> dict[str, Tensor]:
        """Returns F(x) + log Z in tests, under annealed importance sampling and, of small models, exact."""
        values: dict[str, Tensor] = {}
        if stage == "test" and self.partition is not None:
            energy = self.energy(x).double()
            values["ais"] = energy + self.partition.log_partition
            if self.exact is not None:
                values["exact"] = energy + self.exact
        return values

    def on_test_epoch_start(self) -> None:
        """Estimates log Z, once and from the same draws on every process."""
        super().on_test_epoch_start()
        self.partition = self.log_partition(generator=self.fixed_generator(0))
        small = min(self.hparams["num_hidden"], self.num_visible) <= MAX_EXACT
        self.exact = self.exact_log_partition() if small else None
        self.reversed_from = []

    def test_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Sums up ``test/nll-ais``, and keeps the examples that reverse annealing starts from."""
        super().test_step(batch, batch_idx)
        indices = self.example_indices(len(batch[0]), batch_idx, "test")
        chosen = indices < self.hparams["num_reversed"]
        if chosen.any():
            self.reversed_from.append((indices[chosen].cpu(), batch[0][chosen].to(torch.uint8).cpu()))

    def on_test_epoch_end(self) -> None:
        """Logs the likelihoods, and what to make of them."""
        self.add_reversed()
        super().on_test_epoch_end()
        estimate = self.partition
        assert estimate is not None
        self.log_dict(
            {
                "test/ais_log_partition": estimate.log_partition,
                "test/ais_standard_error": estimate.standard_error,
                "test/ais_ess": estimate.effective_sample_size,
                "test/ais_chains": float(estimate.num_chains),
                "test/ais_temperatures": float(estimate.num_temperatures),
            }
        )

    def add_reversed(self) -> None:
        """Sums up ``test/nll-raise-<count>`` over blocks of examples, block b on process b modulo their number.

        The draws belong to the block, so that the number depends neither on the batch size nor on the processes.
        """
        kept = [pair for pairs in gather_objects(self.reversed_from) for pair in pairs]
        if not kept:
            return
        indices, x = (torch.cat(parts) for parts in zip(*kept, strict=True))
        x = x[indices.argsort()]
        values = [torch.zeros(0, dtype=torch.float64)]
        for number, block in enumerate(x.split(RAISE_BLOCK)):
            if number % world_size() == rank():
                generator = self.fixed_generator(number + 1)
                values.append(-self.reverse_log_likelihood(block, generator=generator).log_likelihood)
        nll = torch.cat(values)
        sums = torch.stack([torch.ones_like(nll).sum(), nll.sum(), nll.square().sum()])
        self.held_out_sums[f"raise-{short_count(len(x))}"] = sums.to(self.device)

    def fixed_generator(self, seed: int) -> Generator:
        """Returns a generator on the model's device, where thousands of draws need not be moved."""
        return torch.Generator(self.device).manual_seed(seed)

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
        """Draws pictures of bits, shape (num_samples, *shape), by block Gibbs sampling.

        Args:
            num_samples: How many, at least 1.
            labels: Must be ``None``: the model is unconditional.
            generator: Source of all randomness; ``None`` takes a fresh seed from the system.
            steps: Gibbs steps, by default ``sample_steps``.
            mean: Whether to return the probabilities p(v = 1 | h) of the last step instead of its draws.
            temperature: Samples are of p(v, h)^(1 / temperature); below 1 they are more likely ones.
            start: ``"fantasies"``: chains go on from those of training, drawn with replacement, so that samples that
                share a start are alike after few steps. ``"rates"``: units start independently at the data's rates.
                ``"annealed"``: so they do, and the steps lead from there through as many temperatures to the model:
                these are independent draws of the p_ann of annealed importance sampling. By default the
                hyperparameter.

        Raises:
            ValueError: If an argument is out of range.
        """
        check_num_samples(num_samples)
        if labels is not None:
            raise ValueError("labels were given to an unconditional model; an RBM has no classes.")
        steps = self.hparams["sample_steps"] if steps is None else steps
        start = self.hparams["start"] if start is None else start
        check_start(start)
        if steps < 1 or not temperature > 0:
            raise ValueError(f"steps={steps} must be at least 1 and temperature={temperature} positive.")
        generator = generator or new_generator()
        with evaluating(self):
            sizes = [min(CHUNK, num_samples - done) for done in range(0, num_samples, CHUNK)]
            parts = [self.walk(size, steps, start, temperature, mean, generator) for size in sizes]
        return torch.cat(parts).view(num_samples, *self.hparams["shape"])

    def walk(self, num: int, steps: int, start: str, temperature: float, mean: bool, generator: Generator) -> Tensor:
        """Runs ``num`` chains for ``steps`` steps; returns draws or probabilities, (N, D)."""
        base_bias, back = self.base_rates.logit(), self.weight.T.contiguous()
        if start == "fantasies":
            chosen = torch.randint(len(self.fantasies), (num,), generator=generator, device=generator.device)
            visible = self.fantasies[chosen.to(self.device)].flatten(1).to(self.weight.dtype)
        else:
            visible = bernoulli(base_bias.expand(num, -1), generator)
        for step in progress(range(1, steps + 1), "Gibbs sampling"):
            beta = step / steps if start == "annealed" else 1.0
            inputs = torch.addmm(self.hidden_bias, visible, self.weight)
            hidden = bernoulli(beta / temperature * inputs, generator)
            bias = (1 - beta) * base_bias + beta * self.visible_bias
            logits = torch.addmm(bias, hidden, back, alpha=beta) / temperature
            visible = logits.sigmoid() if mean and step == steps else bernoulli(logits, generator)
        return visible

    def fantasy_particles(self) -> Tensor:
        """Returns p(v = 1 | E[h | v]) of the kept chains of training, shape (num_fantasies, *shape)."""
        with evaluating(self):
            return self.reconstruct(self.fantasies.to(self.weight.dtype))

    def filters(self) -> Tensor:
        """Returns the weights of hidden units, (num_hidden, *shape), the largest magnitude of each being 1."""
        weight = self.weight.detach().T
        scaled = weight / weight.abs().amax(1, keepdim=True).clamp(min=1e-12)
        return scaled.reshape(-1, *self.hparams["shape"])


def check_start(start: str) -> None:
    """Raises ValueError unless ``start`` is one of ``STARTS``."""
    if start not in STARTS:
        raise ValueError(f"start={start!r} must be one of {', '.join(STARTS)}.")
