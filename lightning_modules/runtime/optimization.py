"""Steps of one or several optimizers: equal on every process, stopped at a non-finite loss, counted by batches."""

import functools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_modules.parts.schedules import Constant, Schedule
from lightning_modules.runtime.distributed import all_reduce_gradients, without_gradient_sync
from lightning_modules.runtime.flags import check_schedules, stop_at_end, warn_undecayed, warn_unfinished
from lightning_modules.runtime.loss_log import LossLoggingModule
from lightning_modules.runtime.optimizer_settings import (
    BatchSchedule,
    Settings,
    check_same_optimizers,
    settings_of,
    settle,
)
from lightning_modules.runtime.resuming import METHOD, changed_hyperparameters, is_resuming


class NonFiniteLoss(FloatingPointError):
    """A loss became NaN or infinite; the message names the step, the term and the last good checkpoint."""


class OptimizedModule(LossLoggingModule):
    """Abstract: a ``training_step`` returns ``objective(terms)``, or under manual optimization calls ``descend``.

    Args:
        lr_schedule: Factor of all learning rates, a function of the batch.
        clip_norm: Largest norm of the gradient; larger gradients are scaled down to it. ``None`` for no bound. Not
            applied under 16-bit gradient scaling, where gradients are still scaled. With one optimizer,
            ``Trainer(gradient_clip_val=...)`` has precedence.
    """

    def __init__(self, lr_schedule: Schedule | None = None, clip_norm: float | None = None) -> None:
        super().__init__()
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(f"clip_norm={clip_norm} must be positive, or null for no bound.")
        self.clip_norm, self.lr_schedule = clip_norm, lr_schedule or Constant()
        self.objective_terms: dict[str, Tensor] = {}
        self.configured_settings: Settings | None = None
        self.changes: list[str] = []
        self._resumed: dict[str, Any] | None = None

    # The run: its length, and how it continues

    def horizons(self) -> Mapping[str, int | None]:
        """Hook: returns by name the hyperparameters that are numbers of batches of schedules which end within a run."""
        return {}

    def on_fit_start(self) -> None:
        """Refuses a run that does not fit the method's schedules, or continues with other optimizers."""
        if self.trainer.ckpt_path is None:  # otherwise the Trainer's estimate would read data before their position
            check_schedules(self.trainer, self.lr_schedule.end, self.horizons())
            self.changes = []
        elif self._resumed and self._resumed["optimizer_settings"] and self.configured_settings:
            check_same_optimizers(self._resumed["optimizer_settings"], self.configured_settings)
        if self._resumed is not None and self._resumed["num_states"] != len(self.trainer.optimizers):
            raise ValueError(
                f"The checkpoint {self.trainer.ckpt_path} has the states of {self._resumed['num_states']} optimizers, "
                f"but {type(self).__name__} has {len(self.trainer.optimizers)}: it is incomplete. Resume another."
            )
        if self._resumed is not None:
            self._check_number_of_schedulers(self._resumed)

    def on_train_start(self) -> None:
        """Refuses a resumed run as a new one, and gives its optimizers the settings that the method has now."""
        if self._trainer is not None:  # without one there are no optimizers either
            check_schedules(self.trainer, self.lr_schedule.end, self.horizons())
            warn_undecayed(self.trainer, self.lr_schedule.end)
            self._set_optimizers()

    def on_train_end(self) -> None:
        """Warns of schedules that have not ended."""
        super().on_train_end()
        if self._trainer is not None:
            warn_unfinished(self.trainer, self.horizons())

    def on_fit_end(self) -> None:
        """Does the same where a resumed run had no batch left to train: what is saved then has the settings, too."""
        if self._resumed is not None:
            self._set_optimizers()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stops a run of unknown length, such as one limited by time, where the learning rate reaches zero."""
        end = self.lr_schedule.end
        if end is not None and self.trainer.global_step >= end:
            stop_at_end(self.trainer, end)

    def on_validation_model_zero_grad(self) -> None:
        """Keeps the gradients of a window of batches, which Lightning would clear before a validation within it."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds method, precision, the settings of the optimizers, and what resumed runs have changed."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[METHOD], checkpoint["precision"] = type(self).__name__, str(self.trainer.precision)
        checkpoint["optimizer_settings"], checkpoint["changes"] = self.configured_settings, self.changes

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Compares a run to resume with the module, and says which hyperparameters have changed.

        Raises:
            ValueError: If the weights do not fit the module.
        """
        super().on_load_checkpoint(checkpoint)
        self.changes = list(checkpoint.get("changes", []))
        if not is_resuming(self._trainer):
            return
        changed = changed_hyperparameters(self, checkpoint)
        self._resumed = {key: checkpoint.get(key) for key in ("optimizer_settings", "lr_schedulers", "global_step")}
        self._resumed |= {"changed": bool(changed), "num_states": len(checkpoint["optimizer_states"])}
        began, now = checkpoint.get("precision", "unknown"), str(self.trainer.precision)
        if began not in (now, "unknown"):
            self._say_changed(checkpoint["global_step"], {"precision": f"{now} (was {began})"})
        if changed:
            values = {key: f"{now} (was {before})" for key, (before, now) in changed.items()}
            self._say_changed(checkpoint["global_step"], values)

    def _check_number_of_schedulers(self, resumed: Mapping[str, Any]) -> None:
        """Refuses a checkpoint that lacks the state of a scheduler, or has one too many: Lightning would ignore it."""
        found, now = len(resumed["lr_schedulers"]), len(self.trainer.lr_scheduler_configs)
        allowed = {now}
        # A schedule may be begun or left out on resume, and former versions kept states that are no longer needed.
        if resumed["changed"] or resumed["optimizer_settings"] is None or not self.hparams:
            allowed |= {0, len(self.trainer.optimizers)}
        if found not in allowed:
            raise ValueError(
                f"The checkpoint {self.trainer.ckpt_path} has the states of {found} learning-rate schedulers, but "
                f"{type(self).__name__} has {now}: it is incomplete or was changed. Resume another."
            )

    def _set_optimizers(self) -> None:
        if self._resumed is not None and self.configured_settings is not None:
            self._use_own_settings(self._resumed, self.configured_settings)
        self._resumed = None
        for scheduler in [config.scheduler for config in self.trainer.lr_scheduler_configs]:
            if isinstance(scheduler, BatchSchedule):
                scheduler.move_to(self.trainer.global_step)

    def _use_own_settings(self, resumed: dict[str, Any], configured: Settings) -> None:
        applied = settle(self.trainer.optimizers, configured, resumed, bool(self.trainer.lr_scheduler_configs))
        if applied and not resumed["changed"]:  # by a module that was built directly, without hyperparameters
            self._say_changed(resumed["global_step"], applied)

    def _say_changed(self, batches: int, values: Mapping[str, Any]) -> None:
        listed = ", ".join(f"{key}={value}" for key, value in values.items())
        self.changes.append(f"Resumed after {batches} batches with {listed}.")
        rank_zero_info(self.changes[-1])

    # One optimizer, stepped by Lightning

    def scheduled(self, optimizer: Optimizer) -> Any:
        """Returns what ``configure_optimizers`` returns for one optimizer under the learning-rate schedule."""
        self.configured_settings = settings_of([optimizer])
        if self.lr_schedule == Constant():
            return optimizer
        schedule = BatchSchedule(optimizer, self.lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_factor(self, step: int) -> float:
        """Returns the factor of the learning rate after ``step`` batches."""
        return self.lr_schedule(step)

    def objective(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Returns the sum of ``terms``, the loss of a ``training_step`` under automatic optimization, and logs them."""
        self.objective_terms = {name: value.detach() for name, value in terms.items()}
        self.log_losses(terms)
        self.publish_losses()
        return functools.reduce(torch.add, terms.values())

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Under automatic optimization, stops before a non-finite step, else clips the gradient.

        At this point gradients are equal on all processes.
        """
        if not self.automatic_optimization:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = self.gradient_norm(parameters)
        if norm and not torch.isfinite(norm["gradient_norm"]):
            self.stop_as_not_finite(self.objective_terms | norm)
        if norm and self.clip_norm is not None and not self.trainer.gradient_clip_val:
            clip_gradients(parameters, self.clip_norm, norm["gradient_norm"])

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips as the Trainer was told to, by value or norm; Lightning itself refuses fused optimizers in bfloat16.

        Raises:
            ValueError: If gradients are scaled, under 16-bit precision, and the fused optimizer scales them back.
        """
        plugin = self.trainer.precision_plugin
        if not gradient_clip_val or not isinstance(plugin, MixedPrecision) or not optimizer.defaults.get("fused"):
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        if plugin.scaler is not None:
            raise ValueError(
                f"Trainer(gradient_clip_val={gradient_clip_val}) cannot be applied under precision="
                f"{self.trainer.precision!r}, where gradients are scaled: use 'bf16-mixed', or do not clip."
            )
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if gradient_clip_algorithm == "value":
            torch.nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        else:
            torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    # Several optimizers, stepped by the method

    def scheduled_manually(self, *optimizers: Optimizer) -> Any:
        """Returns what ``configure_optimizers`` returns for several optimizers; ``counted_batch`` sets their rates.

        A scheduler object would count the steps of its own optimizer, which may not make one per batch.
        """
        self.configured_settings = settings_of(optimizers)
        return list(optimizers)

    @contextmanager
    def counted_batch(self, *scheduled: LightningOptimizer) -> Iterator[None]:
        """Counts all optimizer steps inside as one batch, and sets the learning rates of the optimizers given.

        Lightning counts the steps of all optimizers, so that ``max_steps``, checkpoints and schedules would depend on
        the number of steps that a method makes per batch. The counting hooks are replaced here; Lightning sets them
        again before every ``training_step``.
        """
        optimizers: list[LightningOptimizer] = self.optimizers()  # type: ignore[assignment]
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        count_start, count_end = optimizers[0]._on_before_step, optimizers[0]._on_after_step
        for optimizer in optimizers:
            optimizer._on_before_step = optimizer._on_after_step = do_nothing
        factor = self.lr_schedule(self.batches_trained)
        for group in [group for optimizer in scheduled for group in optimizer.param_groups]:
            group["lr"] = group["initial_lr"] * factor
        yield
        self.publish_losses()
        count_start()
        count_end()

    def descend(
        self,
        optimizer: LightningOptimizer,
        losses: Mapping[str, Tensor],
        fp32_terms: Mapping[str, Tensor] | None = None,
        *,
        clip_norm: float | None = None,
    ) -> None:
        """Makes one step of one optimizer on the sum of ``losses``, equal on every process.

        Gradients are averaged in one flat reduction after the backward pass, instead of inside it, so that plain
        ``ddp`` works however many optimizers there are. The loss terms are part of that reduction: all processes see
        the same values, and all stop when one is not finite, before the weights change.

        Args:
            optimizer: The optimizer that steps; its gradients are cleared first.
            losses: Name to scalar; the names are logged under ``train/``.
            fp32_terms: Further terms, whose backward pass runs in float32 under mixed precision.
            clip_norm: Largest norm of the gradient, or ``None``.

        Raises:
            NonFiniteLoss: If a term is NaN or infinite on any process.
        """
        optimizer.zero_grad()
        self.accumulate(losses, fp32_terms)
        self.take_step(optimizer, {**losses, **(fp32_terms or {})}, clip_norm=clip_norm)

    def accumulate(
        self, losses: Mapping[str, Tensor], fp32_terms: Mapping[str, Tensor] | None = None, batches: int = 1
    ) -> None:
        """Adds the gradients of the sum of all terms, divided by ``batches``, to the existing gradients.

        Args:
            losses: As in ``descend``.
            fp32_terms: As in ``descend``.
            batches: Number of batches whose gradients are averaged for one step.
        """
        with without_gradient_sync(self.trainer):
            self.manual_backward(torch.stack(list(losses.values())).sum() / batches)
            if fp32_terms:
                with torch.autocast(self.device.type, enabled=False):
                    self.manual_backward(torch.stack(list(fp32_terms.values())).sum() / batches)

    def take_step(
        self, optimizer: LightningOptimizer, terms: Mapping[str, Tensor], *, clip_norm: float | None = None
    ) -> None:
        """Averages gradients over processes, checks that all values are finite, clips, steps and logs ``terms``."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        (reduced,) = all_reduce_gradients(parameters, torch.stack([value.detach().float() for value in terms.values()]))
        terms = dict(zip(terms, reduced, strict=True))
        norm = self.gradient_norm(parameters)
        self.check_finite(terms | norm)
        if norm and clip_norm is not None:
            clip_gradients(parameters, clip_norm, norm["gradient_norm"])
        optimizer.step()
        self.log_losses(terms, equal_everywhere=True)

    # Both

    def gradient_norm(self, parameters: Iterable[Tensor]) -> dict[str, Tensor]:
        """Returns the norm of all gradients, or nothing under gradient scaling, which skips steps that overflow."""
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            return {}
        norms = torch._foreach_norm([p.grad for p in parameters if p.grad is not None])
        return {"gradient_norm": torch.linalg.vector_norm(torch.stack(norms))}

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


def check_parameters(optimizers: Iterable[Optimizer | LightningOptimizer], *networks: nn.Module) -> None:
    """Raises ValueError unless the optimizers hold exactly the parameters of the networks."""
    stepped = {p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    if stepped != {p for network in networks for p in network.parameters()}:
        raise ValueError(
            "The networks have other parameters than when training began, and the optimizers do not hold the new ones: "
            "build all layers at the start, and change only values and buffers later."
        )


def do_nothing() -> None:
    """Replaces the hooks with which Lightning counts the steps of an optimizer."""


def clip_gradients(parameters: Iterable[Tensor], clip_norm: float, norm: Tensor) -> None:
    """Scales gradients, whose total norm is given, down to ``clip_norm``."""
    torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
