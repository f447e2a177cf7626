"""Base class of autoregressive models of sequences: likelihood per step, carried state, continuation.

p(x_1:T) = p(x_1) prod_t=2^T p(x_t | x_<t). Batches have ``lengths`` and are padded at the end. Batches of streams,
whose rows continue from one batch to the next, have ``continues``; there only the last window of a row may be padded.
Padding enters neither a loss nor a metric.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from datamodules.spec import Batch, DataSpec
from lightning_modules.autoregressive.sequence_network import SequenceNetwork
from lightning_modules.autoregressive.sequence_sampling import SamplesSequences
from lightning_modules.autoregressive.sequence_steps import vocabulary_problem
from lightning_modules.base import as_json
from lightning_modules.networks.sequence_cores import State, detached
from lightning_modules.parts.batches import lengths_of as lengths_of
from lightning_modules.parts.batches import step_mask as step_mask
from lightning_modules.parts.optimizers import BuildOptimizer
from lightning_modules.parts.precision import in_finest
from lightning_modules.parts.sampling import measuring
from lightning_modules.parts.schedules import Schedule
from lightning_modules.parts.support import checked, problem_with_numbers, problem_with_step_shape
from lightning_modules.runtime.held_out import Mean, Weighted


class SequenceModule(SamplesSequences):
    """Abstract: a subclass defines the training; the network may be any ``SequenceNetwork``.

    It logs ``val/nats_per_step-exact`` (the nats of all steps over their number; ``bits_per_step`` in bits) and, if
    every example is a whole sequence of the default length, ``val/nll-exact`` per sequence. If rows continue from batch
    to batch, so that each step is predicted from all steps before it, ``-exact_state_carried`` replaces ``-exact``. For
    a density the name also has its units, see ``units``; bits are logged for probabilities only.

    Args:
        network: Maps the past to the distribution of the next step.
        length: Default number of steps of ``sample``.
        optimizer: Builds the network's optimizer.
        lr_schedule: Factor of the learning rate, a function of the batch.
        clip_norm: Largest norm of the network's gradient, or ``None``; not applied under 16-bit gradient scaling.
        num_classes: Number of classes of whole sequences, for a network that was built with as many; or ``None``.
    """

    kinds: tuple[str, ...] = ("tokens", "piano_roll", "video")
    batch_fields = ("x", "lengths", "continues")
    discrete = True

    def __init__(
        self,
        network: SequenceNetwork,
        length: int,
        optimizer: BuildOptimizer,
        lr_schedule: Schedule | None = None,
        clip_norm: float | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(num_classes, lr_schedule, clip_norm)
        if num_classes is not None:
            self.batch_fields = ("x", "labels", "lengths")
        if length < 1:
            raise ValueError(f"length={length} must be at least 1.")
        of_network = None if network.classes is None else network.classes.num_embeddings
        if of_network != num_classes:
            raise ValueError(f"num_classes={num_classes} is not that of the network, {of_network}: build both alike.")
        self.network, self.length, self.build_optimizer = network, length, optimizer
        start = network.emission.start(1, torch.device("cpu"))
        # () for tokens, (88,) for frames of a piano roll, (3,) for strokes, (C, H, W) for video
        self.symbols, self.step_shape = not start.is_floating_point(), tuple(start.shape[2:])
        self.carried: dict[str, Tensor] = {}

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Returns length, shape of a step and size of the vocabulary."""
        values: dict[str, Any] = {"length": spec.shape[0], "step_shape": list(spec.shape[1:])}
        values["vocabulary_size"] = len(spec.vocabulary) if spec.kind == "tokens" else None
        return values | ({"architecture": "conv_lstm"} if spec.kind == "video" else {})

    def data_problem(self, spec: DataSpec) -> str | None:
        """Compares the vocabulary, symbol by symbol, and the shape of a step with the data."""
        if self.has_data_spec and (problem := vocabulary_problem(self.data_spec, spec)):
            return problem
        for key, value in self.hyperparameters_for(spec).items():
            own = as_json(tuple(v) if isinstance(v := self.hparams.get(key, value), list) else v)
            if key != "length" and own != value:  # a model of steps supports sequences of any length
                return f"was built for {key}={own}, but {spec.name} has {key}={value}: build it with the latter."
        return None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Compares the vocabulary of a resumed run with that of the present data.

        Raises:
            ValueError: If they differ; the message names the first symbol that does.
        """
        if checkpoint.get("data_spec") is not None and self.has_data_spec:
            trained_on = DataSpec.from_json(checkpoint["data_spec"])
            if problem := vocabulary_problem(trained_on, self.data_spec):
                raise ValueError(f"{type(self).__name__} {problem}")
        super().on_load_checkpoint(checkpoint)

    def batch_problem(self, batch: Batch) -> str | None:
        """Returns what is wrong with the steps of a batch or their number, if anything is."""
        x, emission = batch.x, self.network.emission
        problem = problem_with_step_shape(x, self.step_shape) or problem_with_numbers(x) or emission.problem_with(x)
        if problem is not None:
            return problem
        lengths = lengths_of(batch)
        if lengths.is_floating_point() or lengths.dtype == torch.bool:
            return f"lengths must be integers, not {lengths.dtype}."
        if lengths.shape != x.shape[:1] or lengths.min() < 1 or lengths.max() > x.shape[1]:
            return f"a batch must be (x, lengths) with lengths in 1..{x.shape[1]}, shape ({len(x)},)."
        return None

    def averaged_networks(self) -> Mapping[str, nn.Module]:
        """Returns the whole network, which sampling uses."""
        return {"network": self.network}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns the network's optimizer under the learning-rate schedule, and further ones of the method."""
        optimizer = self.build_optimizer(self.network.parameters())
        if self.automatic_optimization:
            return self.scheduled(optimizer)
        return self.scheduled_manually(optimizer, *self.further_optimizers())

    def further_optimizers(self) -> list[Optimizer]:
        """Hook: returns optimizers of further networks, whose steps the method makes itself."""
        return []

    # Likelihood

    def read(self, x: Tensor, carried: tuple[Tensor, State] | None = None) -> tuple[Tensor, State]:
        """Returns the features (N, T, ...) from which each step of ``x`` is predicted, and the state after the last.

        Args:
            x: Sequences (N, T, ...).
            carried: The step before the first, (N, 1, ...), and the state before that step; ``None`` at the start of
                a sequence without a class.
        """
        before, state = (None, None) if carried is None else carried
        return self.network(self.network.inputs(x, before), state)

    def step_log_prob(self, x: Tensor, carried: tuple[Tensor, State] | None = None) -> tuple[Tensor, State]:
        """Returns log p(x_t | x_<t) of every step, nats (N, T), and the last state; arguments as in ``read``.

        Training calls it: it checks nothing, and dropout is on in training mode, which ``log_prob`` turns off.
        """
        features, after = self.read(x, carried)
        return self.network.emission.log_prob(features, x), after

    def log_prob(self, x: Tensor, lengths: Tensor | None = None, *, labels: Tensor | None = None) -> Tensor:
        """Returns the exact log p(x) of whole sequences, nats, shape (N,), with gradients.

        It is that of evaluation mode, whatever the mode of the module, which does not change: without dropout.

        Args:
            x: Shape (N, T, ...), as the datamodule yields them; any type that holds the values.
            lengths: Integers (N,); by default all T steps count. Steps after an end that is marked never do.
            labels: Classes, int64 (N,), of a class-conditional model: the result is log p(x | class).

        Raises:
            ValueError: If ``x`` is of another form or holds what is no step, a length is not in 1 to T, or labels are
                missing or do not fit.
        """
        lengths = None if lengths is None else torch.as_tensor(lengths)
        x = self.sequences(x, lengths)
        if (until_end := self.lengths_in(x)) is not None:
            lengths = until_end if lengths is None else torch.minimum(lengths.to(x.device), until_end)
        labels = self.labels_for(len(x), labels)
        with measuring(self):
            values, _ = self.step_log_prob(x, self.beginning(labels))
        return values.sum(1) if lengths is None else (values * step_mask(lengths.to(x.device), x.shape[1])).sum(1)

    def sequences(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Returns sequences of a caller (N, T, ...), checked, on the model's device and in the type of its steps.

        Raises:
            ValueError: If they are of another form, hold what is no step, or a length is not in 1 to T.
        """
        checked(x, self, lambda data: self.problem_with_data(Batch(data, lengths=lengths)))
        return self.network.emission.steps(x.to(self.device))

    def mean_over_steps(self, values: Tensor, valid: Tensor) -> Tensor:
        """Returns the mean over valid steps, scaled so that the average over processes is the mean over all steps."""
        count = self.trainer.strategy.reduce(valid.sum().float(), reduce_op="mean")
        return (values * valid).sum() / count

    def likelihood_loss(self, batch: Batch, values: Tensor) -> Tensor:
        """Returns the mean of -log p over the steps of a batch, nats; ``values`` are log p of each step, (N, T)."""
        return self.mean_over_steps(self.units()[1] - values, step_mask(lengths_of(batch), batch.x.shape[1]))

    def units(self) -> tuple[str, float]:
        """Hook: returns the suffix that names the units of a density, and the nats per step that they add to -log p."""
        return "", 0.0

    # State that is carried from one batch to the next, or belongs to a class

    def beginning(self, labels: Tensor | None) -> tuple[Tensor, State] | None:
        """Returns the first input and the state of sequences of classes (N,); ``None`` without classes."""
        if labels is None:
            return None
        return self.network.emission.start(len(labels), labels.device), self.network.initial(labels)

    def carried_into(self, batch: Batch, stage: str) -> tuple[Tensor, State] | None:
        """Returns the last step and the state of each row; rows that do not continue the previous batch start anew.

        Sequences of classes are whole: all begin with the state of their class.

        Raises:
            ValueError: If rows share a position, as in a transformer, and only some of them start anew.
        """
        if self.num_classes is not None:
            return self.beginning(self.condition(batch))
        names = [name for name in self.carried if name.startswith(f"{stage}.")]
        if batch.continues is None or not names or not batch.continues.any():
            return None
        before, *state = (self.carried[name] for name in sorted(names))
        if batch.continues.all():
            return before, tuple(state)
        start = self.network.emission.start(len(before), before.device).to(before.dtype)
        kept = torch.where(batch.continues.view(-1, *[1] * (before.ndim - 1)), before, start)
        return kept, self.network.keep_rows(tuple(state), batch.continues)

    def carry(self, batch: Batch, state: State, stage: str) -> None:
        """Keeps the last step and the state of a batch of streams."""
        if batch.continues is None:
            return
        self.carried = {name: value for name, value in self.carried.items() if not name.startswith(f"{stage}.")}
        for i, tensor in enumerate((batch.x[:, -1:], *detached(state))):
            self.carried[f"{stage}.{i:03d}"] = tensor

    def rank_state(self) -> dict[str, Tensor]:
        """Returns the state carried into the next training batch."""
        return {name: value for name, value in self.carried.items() if name.startswith("train.")}

    def load_rank_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores a carried state."""
        self.carried.update({name: value.to(self.device) for name, value in state.items()})

    # Held-out data

    def held_out(self, batch: Batch, indices: Tensor, stage: str) -> Mapping[str, Weighted]:
        """Measures nats per step, and per sequence for whole sequences of the default length."""
        lengths = lengths_of(batch)
        values, state = self.step_log_prob(batch.x, self.carried_into(batch, stage))
        self.carry(batch, state, stage)
        units, per_step = self.units()
        nll = ((per_step - values) * step_mask(lengths, batch.x.shape[1])).sum(1)
        nll = in_finest(nll)
        if batch.continues is not None:
            return {f"nats_per_step-exact_state_carried{units}": (nll / lengths, lengths)}
        kind = f"exact{units}"
        parts = lengths != self.length
        return {f"nats_per_step-{kind}": (nll / lengths, lengths), f"_nll-{kind}": nll, "_parts": parts}

    def end_held_out(self, means: Mapping[str, Mean], stage: str) -> Mapping[str, float]:
        """Returns bits per step, and nats per sequence if all are whole."""
        values: dict[str, float] = {}
        for name, mean in means.items():
            metric, _, kind = name.partition("-")
            if metric == "nats_per_step" and self.discrete:
                values[f"bits_per_step-{kind}"] = mean.mean / math.log(2)
            if metric == "_nll" and means["_parts"].mean == 0:
                values[f"nll-{kind}"] = mean.mean
                if stage == "test":
                    values[f"nll_standard_error-{kind}"] = mean.standard_error
        self.carried = self.rank_state()
        return values
