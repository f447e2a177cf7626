"""What every autoregressive model of sequences shares: likelihood step by step, carried state, continuation.

p(x_1:T) = p(x_1) prod_t=2^T p(x_t | x_<t). Batches are ``(x, lengths)``, padded at the end, or, in streams whose rows
go on from one batch to the next, ``(x, lengths, continues)``, of which only a row's last window may be padded. Padding
enters neither a loss nor a measure.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm.auto import tqdm

from lightning_modules.autoregressive.build import SequenceNetwork
from lightning_modules.autoregressive.emissions import Categorical
from lightning_modules.base import fused_if_possible
from lightning_modules.likelihood import LikelihoodModule
from lightning_modules.networks.sequence import State, detached
from lightning_modules.parts.capabilities import DataSpec
from lightning_modules.parts.noise import new_generator
from lightning_modules.parts.recorded_spec import RecordedSpec
from lightning_modules.parts.sampling import check_num_samples, choose_labels, evaluating
from lightning_modules.parts.schedules import warmup_and_cosine

CHUNK = 250


class SequenceModule(LikelihoodModule):
    """Abstract: a subclass says how it trains.

    Logged are ``val/nats_per_step-exact`` (all nats over all steps; ``bits_per_step`` in bits) and, where every example
    is one whole sequence of the default length, ``val/nll-exact`` per sequence; ``-exact_state_carried`` instead of
    ``-exact`` where rows go on from batch to batch, and each step is predicted from all before it. The kind also names
    the units of a density, see ``units``; bits are of probabilities only.
    """

    kinds: tuple[str, ...] = ("tokens", "piano_roll", "video")
    discrete = True
    network: SequenceNetwork

    def __init__(self) -> None:
        super().__init__()
        self.carried: dict[str, Tensor] = {}

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Length, shape of a step and vocabulary from the data."""
        values: dict[str, Any] = {"length": spec.shape[0], "step_shape": list(spec.shape[1:])}
        values["vocabulary_size"] = len(spec.vocabulary) if spec.kind == "tokens" else None
        return values | ({"architecture": "conv_lstm"} if spec.kind == "video" else {})

    def check_data(self, spec: DataSpec) -> None:
        """Compares the shape of a step and the vocabulary with the data.

        Raises:
            ValueError: Naming the module's value and the data's.
        """
        self.check_kind(spec)
        self.check_vocabulary(self.data_spec, spec)
        for key, value in self.hyperparameters_for(spec).items():
            if key == "length":  # a model of steps takes sequences of any length
                continue
            own = self.hparams[key]
            if (list(own) if isinstance(own, (list, tuple)) else own) != value:
                raise ValueError(
                    f"{type(self).__name__} was built for {key}={own}, but {spec.name} has {key}={value}: give it that."
                )

    def check_vocabulary(self, learnt: DataSpec | None, spec: DataSpec | None) -> None:
        """Compares data symbol by symbol with those trained on: a token of another text would mean another letter.

        Raises:
            ValueError: Naming the first symbol that differs.
        """
        pairs = zip(getattr(learnt, "vocabulary", ()), getattr(spec, "vocabulary", ()), strict=False)
        for token, (own, other) in enumerate(pairs):
            if own != other:
                raise ValueError(
                    f"{type(self).__name__} has learnt that token {token} is {own!r}, but it is {other!r} in the data: "
                    "train a new model for another vocabulary."
                )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Compares the vocabulary of a run that goes on with that of the data at hand."""
        if checkpoint.get("data_spec") is not None:
            self.check_vocabulary(RecordedSpec.from_json(checkpoint["data_spec"]), self.data_spec)
        super().on_load_checkpoint(checkpoint)

    def problem_with(self, batch: Sequence[Tensor]) -> str | None:
        """Returns what is wrong with a batch, in a sentence."""
        x, name, emission = batch[0], type(self).__name__, self.network.emission
        step_shape = list(emission.start(1, x.device).shape[2:])
        if list(x.shape[2:]) != step_shape:
            return f"{name} was built for step_shape={step_shape}, but a batch is {list(x.shape)}."
        if wrong := emission.problem_with(x):
            return f"{name}: {wrong}"
        if len(batch) < 2 or batch[1].shape != x.shape[:1] or batch[1].min() < 1 or batch[1].max() > x.shape[1]:
            return f"{name}: a batch must be (x, lengths) with lengths in 1..{x.shape[1]}, shape ({len(x)},)."
        return None

    def averaged_networks(self) -> Mapping[str, nn.Module]:
        """Sampling uses the whole network."""
        return {"network": self.network}

    # Likelihood

    def read(self, x: Tensor, carried: tuple[Tensor, State] | None = None) -> tuple[Tensor, State]:
        """Returns the features (N, T, ...) that each step of ``x`` is predicted by, and the state after the last.

        Args:
            x: Sequences (N, T, ...).
            carried: The step before the first, (N, 1, ...), and the state before it is read; ``None`` at the start.
        """
        before, state = (None, None) if carried is None else carried
        return self.network(self.network.inputs(x, before), state)

    def step_log_prob(self, x: Tensor, carried: tuple[Tensor, State] | None = None) -> tuple[Tensor, State]:
        """Returns log p(x_t | x_<t) of every step, nats (N, T), and the state after the last; arguments as ``read``."""
        features, after = self.read(x, carried)
        return self.network.emission.log_prob(features, x), after

    def log_prob(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Returns the exact log p(x) of whole sequences, nats, shape (N,).

        Args:
            x: Shape (N, T, ...), as the datamodule yields them.
            lengths: int64 (N,); by default all T steps count.
        """
        values, _ = self.step_log_prob(x)
        return values.sum(1) if lengths is None else (values * mask(lengths, x.shape[1])).sum(1)

    def negative_log_likelihood(self, x: Tensor, labels: Tensor, indices: Tensor, stage: str) -> dict[str, Tensor]:
        """Returns -log p of each sequence, nats (N,); ``labels`` are the lengths."""
        return {"exact": -self.log_prob(x, labels)}

    def mean_over_steps(self, values: Tensor, valid: Tensor) -> Tensor:
        """Returns the mean over all valid steps of all processes, whose gradient ``ddp`` averages rightly."""
        count = self.trainer.strategy.reduce(valid.sum().float(), reduce_op="mean")
        return (values * valid).sum() / count

    # State that goes on from one batch to the next

    def carried_into(self, batch: Sequence[Tensor], stage: str) -> tuple[Tensor, State] | None:
        """Returns the last step and the state of each row that goes on from the batch before, zeroed where none does.

        Raises:
            ValueError: If a transformer, whose rows share a position, is to reset only some of them.
        """
        names = [name for name in self.carried if name.startswith(f"{stage}.")]
        if len(batch) < 3 or not names or not batch[2].any():
            return None
        before, *state = (self.carried[name] for name in sorted(names))
        if batch[2].all():
            return before, tuple(state)
        if self.hparams["architecture"] in ("transformer", "conv_lstm"):
            raise ValueError("Streams must begin in all rows at once for this architecture: use windows.")
        go_on = batch[2]
        start = self.network.emission.start(len(before), before.device).to(before.dtype)
        kept = torch.where(go_on.view(-1, *[1] * (before.ndim - 1)), before, start)
        return kept, tuple(tensor * go_on.view(1, -1, 1) for tensor in state)

    def carry(self, batch: Sequence[Tensor], state: State, stage: str) -> None:
        """Keeps the last step and the state of a batch of streams."""
        if len(batch) < 3:
            return
        self.carried = {name: value for name, value in self.carried.items() if not name.startswith(f"{stage}.")}
        for i, tensor in enumerate((batch[0][:, -1:], *detached(state))):
            self.carried[f"{stage}.{i:03d}"] = tensor

    def rank_state(self) -> dict[str, Tensor]:
        """Returns the state carried into the next training batch."""
        return {name: value for name, value in self.carried.items() if name.startswith("train.")}

    def load_rank_state(self, state: Any) -> None:
        """Goes on with a carried state."""
        self.carried.update({name: value.to(self.device) for name, value in state.items()})

    # Measures

    def units(self) -> tuple[str, float]:
        """Returns what the kind of a number says of its units, and the nats a step that they add to -log p."""
        return "", 0.0

    def add_held_out(self, batch: Sequence[Tensor], batch_idx: int, stage: str) -> None:
        """Adds examples, nats, their squares, steps and whether all are whole sequences, to the sums of a kind."""
        if batch_idx == 0:
            self.check_batch(batch)
        x, lengths = batch[0], batch[1]
        values, state = self.step_log_prob(x, self.carried_into(batch, stage))
        self.carry(batch, state, stage)
        units, per_step = self.units()
        nll = ((per_step - values) * mask(lengths, x.shape[1])).sum(1).double()
        kind = ("exact" if len(batch) < 3 else "exact_state_carried") + units
        parts = (lengths != self.hparams["length"]).sum() if len(batch) < 3 else torch.tensor(len(x))
        sums = torch.stack([torch.ones_like(nll).sum(), nll.sum(), nll.square().sum(), lengths.sum(), parts.to(nll)])
        self.held_out_sums[kind] = self.held_out_sums[kind] + sums if kind in self.held_out_sums else sums

    def log_held_out(self, stage: str) -> None:
        """Logs nats and bits per step, and per sequence where all are whole."""
        for kind in self.kinds_everywhere():
            zeros = torch.zeros(5, dtype=torch.float64, device=self.device)
            sums = self.trainer.strategy.reduce(self.held_out_sums.get(kind, zeros).clone(), reduce_op="sum")
            count, total, squares, steps, parts = sums.tolist()
            values = {f"{stage}/nats_per_step-{kind}": total / steps}
            if self.discrete:
                values[f"{stage}/bits_per_step-{kind}"] = total / steps / math.log(2)
            if parts == 0:
                values[f"{stage}/nll-{kind}"] = total / count
                if stage == "test":
                    variance = max(squares / count - (total / count) ** 2, 0.0) / max(count - 1, 1)
                    values[f"{stage}/nll_standard_error-{kind}"] = variance**0.5
            self.log_dict(values)
        self.carried = self.rank_state()

    # Generation

    def sample(
        self,
        num_samples: int,
        *,
        length: int | None = None,
        labels: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Draws sequences from the start.

        Args:
            num_samples: How many.
            length: Steps T; by default those of the training examples.
            labels: Must be ``None``: the model knows no classes.
            generator: Source of all randomness.
            temperature: Divides logits (multiplies scales); below 1 likelier steps become likelier still.
            top_k: Tokens: draws among the k likeliest only.
            top_p: Tokens: draws among the fewest that hold probability p.
            progress: Whether to show a progress bar.

        Returns:
            Shape (num_samples, T, ...), as the datamodule yields them.

        Raises:
            ValueError: If a number is out of range, or labels are given.
        """
        check_num_samples(num_samples)
        generator = generator or new_generator()
        choose_labels(labels, num_samples, None, generator)
        start = self.network.emission.start(num_samples, self.device)[:, :0]
        return self.continue_sequence(
            start,
            self.hparams["length"] if length is None else length,
            generator=generator,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            progress=progress,
        )

    def continue_sequence(
        self,
        prefix: Tensor,
        length: int,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Draws p(x_{t+1:t+length} | x_{1:t}): the prefix is read once, and then each step costs one step.

        Args:
            prefix: Shape (N, t, ...), t >= 0.
            length: Steps to draw.
            generator: Source of all randomness.
            temperature: As in ``sample``.
            top_k: As in ``sample``.
            top_p: As in ``sample``.
            progress: Whether to show a progress bar.

        Returns:
            Shape (N, t + length, ...): the prefix and what follows it.

        Raises:
            ValueError: If a number is out of range or the prefix holds what the model does not know.
        """
        choice = self.check_choice(length, temperature, top_k, top_p)
        if len(prefix) and prefix.shape[1] and (problem := self._problem_with_prefix(prefix)):
            raise ValueError(problem)
        generator = generator or new_generator()

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device=generator.device).to(self.device)

        with evaluating(self):
            parts = prefix.to(self.device).split(CHUNK)
            return torch.cat([self._continued(part, length, uniform, choice, progress) for part in parts])

    def _continued(
        self, prefix: Tensor, length: int, uniform: Callable[..., Tensor], choice: dict[str, Any], progress: bool
    ) -> Tensor:
        start = self.network.emission.start(len(prefix), prefix.device)
        features, state = self.network(torch.cat([start.to(prefix.dtype), prefix], 1))
        steps = [prefix]
        for t in tqdm(range(length), disable=not progress, leave=False, unit="step"):
            step = self.network.emission.sample(features[:, -1:], uniform, **choice)
            steps.append(step)
            if t + 1 < length:
                features, state = self.network(step, state)
        return torch.cat(steps, 1)

    def check_choice(self, length: int, temperature: float, top_k: int | None, top_p: float | None) -> dict[str, Any]:
        """Returns what the emission's ``sample`` is told.

        Raises:
            ValueError: If a number is out of range, or ``top_k`` or ``top_p`` is given where there are no symbols.
        """
        if not isinstance(length, int) or length < 1:
            raise ValueError(f"length={length!r} must be a positive integer.")
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ValueError(f"temperature={temperature} must be a positive number; for the likeliest steps take 0.01.")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k={top_k} must be at least 1.")
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"top_p={top_p} must lie in (0, 1].")
        if isinstance(self.network.emission, Categorical):
            return {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        if top_k is not None or top_p is not None:
            raise ValueError("top_k and top_p choose among symbols, and these steps are none: use temperature.")
        return {"temperature": temperature}

    def _problem_with_prefix(self, prefix: Tensor) -> str | None:
        lengths = torch.full((len(prefix),), prefix.shape[1], dtype=torch.long)
        return self.problem_with((prefix, lengths))

    # Training

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stops at what is not finite, then shortens the network's gradient, which is equal on all processes."""
        super().on_before_optimizer_step(optimizer)
        if self.hparams["clip_norm"] is not None and getattr(self.trainer.precision_plugin, "scaler", None) is None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.hparams["clip_norm"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, with linear warm-up and, where ``decay_steps`` says so, a cosine down to zero."""
        optimizer = self.build_optimizer()
        factor = warmup_and_cosine(self.hparams["warmup_steps"], self.hparams["decay_steps"])
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def build_optimizer(self) -> Optimizer:
        """Returns AdamW over the network, whose weight decay is on matrices alone."""
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.hparams["weight_decay"]},
            {"params": others, "weight_decay": 0.0},
        ]
        return fused_if_possible(torch.optim.AdamW, groups, lr=self.hparams["lr"], betas=(0.9, 0.99))


def check_clip_norm(clip_norm: float | None) -> None:
    """Raises ValueError unless a bound of the gradient's norm is positive, or there is none."""
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm={clip_norm} must be positive, or null for no bound.")


def mask(lengths: Tensor, steps: int) -> Tensor:
    """Returns 1 where a step lies within its sequence and 0 on the padding, float (N, steps)."""
    return (torch.arange(steps, device=lengths.device) < lengths[:, None]).float()
