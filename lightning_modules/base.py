"""What every method shares: the data it was built for, finite losses, honest step counts and exact resume."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor
from torch.optim import Optimizer

from lightning_modules.callbacks.random_states import RandomStates
from lightning_modules.parts.capabilities import DataSpec
from lightning_modules.parts.checkpoint_io import write_atomically
from lightning_modules.parts.distributed import (
    all_reduce_gradients,
    broadcast_buffers,
    gather_objects,
    raise_together,
    rank,
    refuse_unsupported_strategy,
)
from lightning_modules.parts.noise import Noise
from lightning_modules.parts.recorded_spec import RecordedSpec
from lightning_modules.tracking import TrackingState

Method = TypeVar("Method", bound="GenerativeModule")


class NonFiniteLoss(FloatingPointError):
    """A loss became NaN or infinite; the message names the step, the term and the last good checkpoint."""


class GenerativeModule(LightningModule):
    """Base of every method. Abstract: it has no networks and no loss.

    Hyperparameters are JSON-plain, so that a checkpoint rebuilds the module without any code of its own. Every
    random number of a training step is drawn from ``noise``; ``trainer.global_step`` counts batches whatever the
    number of optimizers, because ``descend`` lets only the one named by ``counts`` report its step.
    """

    kinds: tuple[str, ...] = ("image", "points")
    """The kinds of data that the method models, as data specs name them."""
    value_range: tuple[float, float] | None = None
    """Range of the pictures that the method models, compared with the data's before training."""
    num_judged: int = 10_000
    """Pictures that its FID and Inception Score are of: 2 000 where 10 000 would take over half an hour."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = Noise()
        self.data_spec: DataSpec | None = None
        self.objective_terms: dict[str, Tensor] = {}

    @classmethod
    def hyperparameters_for(cls, spec: DataSpec) -> dict[str, Any]:
        """Returns the hyperparameters that the data decide: its shape. Families override this to add theirs."""
        return {"shape": list(spec.shape)}

    @classmethod
    def for_data(cls: type[Method], spec: DataSpec, **overrides: Any) -> Method:
        """Builds the method for a datamodule's ``spec``; ``overrides`` are further hyperparameters."""
        cls.check_kind(spec)
        module = cls(**{**cls.hyperparameters_for(spec), **overrides})
        module.check_data(spec)
        module.data_spec = spec
        return module

    @classmethod
    def check_kind(cls, spec: DataSpec) -> None:
        """Raises ValueError unless the method models data of this kind."""
        if spec.kind not in cls.kinds:
            raise ValueError(f"{cls.__name__} models {' and '.join(cls.kinds)}, but {spec.name} yields {spec.kind}.")

    def check_data(self, spec: DataSpec) -> None:
        """Compares shape, classes and range with the data.

        Raises:
            ValueError: Naming the module's value and the data's.
        """
        self.check_kind(spec)
        name, shape = type(self).__name__, tuple(self.hparams.get("shape", spec.shape))
        if shape != tuple(spec.shape):
            raise ValueError(f"{name} was built for shape={list(shape)}, but {spec.name} yields {list(spec.shape)}.")
        num_classes = self.hparams.get("num_classes")
        if num_classes is not None and num_classes != spec.num_classes:
            raise ValueError(f"{name} was built for num_classes={num_classes}, but {spec.name} has {spec.num_classes}.")
        if self.value_range and spec.value_range and tuple(spec.value_range) != self.value_range:
            low, high = self.value_range
            raise ValueError(
                f"{name} models pictures in [{low:g}, {high:g}], but {spec.name} yields {list(spec.value_range)}; "
                "build the datamodule without binarize."
            )

    def setup(self, stage: str) -> None:
        """Takes the data spec from the trainer's datamodule, and refuses strategies that would train wrongly."""
        spec = getattr(getattr(self.trainer, "datamodule", None), "spec", None)
        if spec is not None:
            self.check_data(spec)
            self.data_spec = spec
        if stage == "fit" and not self.automatic_optimization:
            refuse_unsupported_strategy(self.trainer, num_optimizers=2)
            # It advises to keep copies of the weights before each step; the state after it is the one that is meant.
            warnings.filterwarnings("ignore", "Using ModelCheckpoint with manual optimization", UserWarning)
        write_atomically(self.trainer)

    def configure_callbacks(self) -> Sequence[Callback]:
        """Attaches what exact resume needs, so that a bare ``Trainer.fit`` has it."""
        return [RandomStates(), TrackingState()]

    def on_validation_start(self) -> None:
        """In manual optimization nothing else keeps batch statistics equal over processes."""
        broadcast_buffers(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the data spec in the file: a checkpoint samples without its data."""
        broadcast_buffers(self)
        checkpoint["data_spec"] = None if self.data_spec is None else self.data_spec.to_json()
        if own := self.rank_state():
            checkpoint["rank_states"] = gather_objects(own)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the data spec back, unless a datamodule has given one already."""
        if self.data_spec is None and checkpoint.get("data_spec") is not None:
            self.data_spec = RecordedSpec.from_json(checkpoint["data_spec"])
        states = checkpoint.get("rank_states", [])
        if rank() < len(states):  # another number of processes is refused when the run is resumed
            self.load_rank_state(states[rank()])

    def rank_state(self) -> dict[str, Tensor]:
        """Returns what each process has of its own and goes on from: persistent chains, replay buffers.

        Not buffers of the module, which process 0 would overwrite on all others.
        """
        return {}

    def load_rank_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what ``rank_state`` returned on this process."""

    def check_batch(self, batch: Sequence[Tensor]) -> None:
        """Checks a first batch, on all processes together: what data without a spec would get wrong in silence.

        Raises:
            ValueError: If shape, range, labels or a NaN say that these are not the data that were meant.
        """
        raise_together(self.problem_with(batch))

    def problem_with(self, batch: Sequence[Tensor]) -> str | None:
        """Returns what is wrong with a batch, in a sentence."""
        x, name = batch[0], type(self).__name__
        shape = tuple(self.hparams.get("shape", x.shape[1:]))
        if tuple(x.shape[1:]) != shape:
            return f"{name} was built for shape={list(shape)}, but a batch has {list(x.shape[1:])}."
        if not torch.isfinite(x).all():
            return f"{name}: the first batch holds NaN or infinite values."
        if self.value_range is not None and len(shape) == 3:
            low, high = self.value_range
            if x.min() < low - 1e-4 or x.max() > high + 1e-4:
                span = f"[{x.min():.4g}, {x.max():.4g}]"
                return f"{name} expects pictures in [{low:g}, {high:g}], but a batch spans {span}."
        num_classes = self.hparams.get("num_classes")
        if num_classes is None:
            return None
        labels = batch[1] if len(batch) > 1 else None
        if labels is None or labels.shape != x.shape[:1] or labels.is_floating_point():
            return f"{name} was built for num_classes={num_classes}; a batch must be (x, integer labels of shape (N,))."
        if labels.min() < 0 or labels.max() >= num_classes:
            return (
                f"{name} was built for num_classes={num_classes}, but the labels of a batch span "
                f"[{labels.min()}, {labels.max()}]."
            )
        return None

    def descend(
        self, optimizer: LightningOptimizer, losses: Mapping[str, Tensor], island: Mapping[str, Tensor] | None = None
    ) -> None:
        """One step of one optimizer down the sum of ``losses``, equal on every process.

        Gradients are averaged in one flat reduction after the backward pass, instead of inside it, so that plain
        ``ddp`` works however many optimizers there are. The loss terms ride along: all processes see the same
        ones, and all stop when one of them is not finite, before the weights have changed.

        Args:
            optimizer: The optimizer that steps; its gradients are cleared first.
            losses: Name to scalar; the names are logged under ``train/``.
            island: Further terms whose backward pass runs in full precision under mixed precision.

        Raises:
            NonFiniteLoss: If a term is NaN or infinite on any process.
        """
        optimizer.zero_grad()
        with self.without_gradient_sync():
            self.manual_backward(torch.stack(list(losses.values())).sum())
            if island:
                with torch.autocast(self.device.type, enabled=False):
                    self.manual_backward(torch.stack(list(island.values())).sum())
        terms = {**losses, **(island or {})}
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        (reduced,) = all_reduce_gradients(parameters, torch.stack([value.detach().float() for value in terms.values()]))
        terms = dict(zip(terms, reduced, strict=True))
        self.check_finite(terms | self.gradient_norm(parameters))
        optimizer.step()
        self.log_losses(terms, equal_everywhere=True)

    def objective(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Returns the sum of ``terms``, the loss of a ``training_step`` under automatic optimization, and logs them."""
        self.objective_terms = {name: value.detach() for name, value in terms.items()}
        self.log_losses(terms)
        return torch.stack(list(terms.values())).sum()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stops before a non-finite step under automatic optimization: gradients are already equal on all processes."""
        if self.automatic_optimization:
            norm = self.gradient_norm(self.parameters())
            if not all(torch.isfinite(value) for value in norm.values()):
                self.stop_as_not_finite(self.objective_terms | norm)

    def gradient_norm(self, parameters: Iterable[Tensor]) -> dict[str, Tensor]:
        """Returns the norm of all gradients, or nothing under gradient scaling, which skips steps that overflow."""
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            return {}
        return {"gradient_norm": torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])}

    def without_gradient_sync(self) -> AbstractContextManager[None]:
        """Keeps DDP from reducing gradients inside the backward pass."""
        strategy = self.trainer.strategy
        return strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) else nullcontext()

    def check_finite(self, terms: Mapping[str, Tensor]) -> None:
        """Raises ``NonFiniteLoss`` if one of ``terms``, equal on every process, is NaN or infinite."""
        if not torch.isfinite(torch.stack(list(terms.values()))).all():
            self.stop_as_not_finite(terms)

    def stop_as_not_finite(self, terms: Mapping[str, Tensor]) -> None:
        """Raises ``NonFiniteLoss`` with the step, the terms and the last good checkpoint."""
        broken = ", ".join(f"{name}={value.item():g}" for name, value in terms.items())
        saved = getattr(self.trainer.checkpoint_callback, "last_model_path", "") or getattr(
            self.trainer.checkpoint_callback, "best_model_path", ""
        )
        raise NonFiniteLoss(
            f"Training stopped at batch {self.batches_trained}: {broken}. The weights are those before this step; "
            + (f"the last checkpoint is {saved}." if saved else "no checkpoint was written yet.")
            + " A lower learning rate is the usual remedy."
        )

    @property
    def batches_trained(self) -> int:
        """Batches that have ended; unlike ``global_step`` it does not change within a training step."""
        return self.trainer.fit_loop.epoch_loop._batches_that_stepped

    def log_losses(self, terms: Mapping[str, Tensor], *, equal_everywhere: bool = False) -> None:
        """Logs scalars under ``train/``, averaged over processes, on the steps that the logger keeps.

        ``self.log`` costs half a millisecond a key, also on steps that are then dropped.

        Args:
            terms: Name to scalar.
            equal_everywhere: Whether they are means over all processes already.
        """
        if (self.batches_trained + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            values = {f"train/{name}": value.detach() for name, value in terms.items()}
            self.log_dict(values, sync_dist=not equal_everywhere)


def do_nothing() -> None:
    """Stands in for the hooks by which an optimizer's step would count."""


def count_batches_by(counting: LightningOptimizer, *others: LightningOptimizer) -> None:
    """Lets ``trainer.global_step`` rise by one a batch: only the steps of ``counting`` are counted.

    Lightning counts the steps of all optimizers, which would let ``max_steps``, checkpoints and schedules run at
    a speed that depends on the method. It sets these hooks anew at the start of every ``training_step``.
    """
    for optimizer in others:
        optimizer._on_before_step = optimizer._on_after_step = do_nothing


def fused_if_possible(optimizer: type[Optimizer], parameters: Any, **settings: Any) -> Optimizer:
    """Builds Adam, AdamW or SGD fused (3 times faster on small networks); RMSprop has no such form."""
    if optimizer in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD):
        settings["fused"] = True
    return optimizer(parameters, **settings)
