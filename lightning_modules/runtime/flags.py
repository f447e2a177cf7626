"""Flags of the Trainer: refuses those that a method does not support, and follows the length of the run from them."""

import math
from collections.abc import Callable, Mapping

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from lightning_modules.parts.critic_schedules import Bursts, CriticSchedule


def refuse_unsupported_flags(trainer: Trainer, module: LightningModule) -> None:
    """Refuses flags that would have no effect, and those that Lightning does not support under manual optimization.

    Args:
        trainer: The trainer that is about to run.
        module: The module that it runs.

    Raises:
        ValueError: Naming the flag and, where there is one, the hyperparameter that does the same.
    """
    if trainer.state.fn != TrainerFn.FITTING:
        return
    if trainer.gradient_clip_algorithm == "value" and not trainer.gradient_clip_val:
        raise ValueError(
            "Trainer(gradient_clip_algorithm='value') has no effect without a bound: give gradient_clip_val, too. The "
            "clip_norm of a method bounds the norm."
        )
    if module.automatic_optimization:
        return
    name = type(module).__name__
    for flag, unused, own in (
        ("gradient_clip_val", (None, 0), "clip_norm"),
        ("accumulate_grad_batches", (1,), "accumulate_batches"),
    ):
        value = getattr(trainer, flag)
        if value in unused:
            continue
        remedy = (
            f"Give the method {own}={value} (--model.{own} {value}) in its place."
            if hasattr(module, own)
            else f"{name} has no such setting."
        )
        raise ValueError(
            f"Trainer({flag}={value}) is not applied to {name}, which alternates steps of several optimizers. {remedy}"
        )


def refuse_unsupported_strategy(trainer: Trainer, num_optimizers: int) -> None:
    """Refuses a strategy that cannot alternate steps of several optimizers.

    Args:
        trainer: The trainer that is about to fit.
        num_optimizers: Number of optimizers of the method.

    Raises:
        ValueError: If there are several optimizers and the strategy shards the model, is DeepSpeed's, or
            is DDP with a static graph.
    """
    if num_optimizers < 2:
        return
    strategy = trainer.strategy
    static_graph = isinstance(strategy, DDPStrategy) and strategy._ddp_kwargs.get("static_graph", False)
    if static_graph:
        named = "DDPStrategy(static_graph=True) expects the same backward pass at every step"
    elif isinstance(strategy, DeepSpeedStrategy):
        named = "DeepSpeed drives a single optimizer"
    elif isinstance(strategy, (FSDPStrategy, ModelParallelStrategy)):
        named = f"{type(strategy).__name__} shards networks that are used in several backward passes per step"
    else:
        return
    raise ValueError(
        f"{named}, but {type(trainer.lightning_module).__name__} alternates steps of {num_optimizers} optimizers."
        ' Use Trainer(strategy="ddp").'
    )


def refuse_half_precision(trainer: Trainer, module: LightningModule, problem: str | None) -> None:
    """Refuses weights and data of 16 bits where they do not suffice; mixed precision keeps both in float32.

    Args:
        trainer: The trainer that is about to fit.
        module: The module that it trains.
        problem: Why 16 bits do not suffice for the method, as a sentence, or ``None``.

    Raises:
        ValueError: Naming the precision and others that suffice.
    """
    if str(trainer.precision) not in ("16-true", "bf16-true"):
        return
    if len(module.hparams.get("step_shape") or ()) == 3:
        problem = "16 bits do not represent the 256 grey values of a frame."
    if problem is not None:
        raise ValueError(
            f"precision={trainer.precision!r} does not suffice for {type(module).__name__}: {problem} "
            "Use 'bf16-mixed' or '32-true'."
        )


def refuse_coarse_precision(trainer: Trainer, penalised: bool) -> None:
    """Refuses precisions of adversarial training that are too coarse.

    Args:
        trainer: The trainer that is about to fit.
        penalised: Whether there is a penalty, which is on a gradient.

    Raises:
        ValueError: Naming the precision and others that suffice.
    """
    precision = str(trainer.precision)
    if precision == "16-true":
        raise ValueError("precision='16-true' overflows in the steps of two players; use 'bf16-mixed' or '32-true'.")
    if penalised and precision in ("16-mixed", "bf16-true"):
        raise ValueError(
            f"precision={precision!r} is too coarse for a penalty on a network's changes; use 'bf16-mixed', which "
            "computes the penalty in full precision."
        )


def planned_batches(trainer: Trainer) -> int | None:
    """Returns the number of batches that follows from the trainer's steps or epochs; ``None`` if neither is limited."""
    if trainer.limit_train_batches == 0:
        return 0
    if trainer.max_steps != -1 and (trainer.max_epochs is None or trainer.max_epochs == -1):
        return trainer.max_steps
    if trainer.max_epochs in (None, -1):
        return None
    planned = trainer.estimated_stepping_batches
    return int(planned) if math.isfinite(planned) and planned >= 0 else None  # -1 for data without a length


def check_schedules(trainer: Trainer, end: int | None, horizons: Mapping[str, int | None]) -> None:
    """Refuses a run that is longer than its learning rate lasts, or shorter than its schedules; see the two below."""
    check_length(trainer, end)
    check_horizons(trainer, horizons)


def check_length(trainer: Trainer, end: int | None) -> None:
    """Refuses a run that would continue after the learning rate has reached zero.

    Args:
        trainer: The trainer that is about to train.
        end: Number of batches after which the learning rate is zero, or ``None``.

    Raises:
        ValueError: If the run is planned, or its least length set, beyond the end, or a resumed run has reached it.
    """
    if end is None:
        return
    planned = max(planned_batches(trainer) or 0, _least_batches(trainer))
    reached = trainer.global_step
    if planned > end:
        raise ValueError(
            f"The run is planned for {planned} batches, which is beyond decay_steps={end}, where the learning rate "
            f"reaches zero; set decay_steps={planned} (--model.decay_steps), or null."
        )
    if reached >= end:
        raise ValueError(
            f"The run has reached decay_steps={end} after {reached} batches, where the learning rate is zero; set "
            "decay_steps to its new length (--model.decay_steps), or null."
        )


def check_horizons(trainer: Trainer, horizons: Mapping[str, int | None]) -> None:
    """Refuses schedules that would not have ended when the run has.

    Args:
        trainer: The trainer that is about to train; ``fast_dev_run`` only tries a module out, and is not refused.
        horizons: Name to number of batches of each schedule, ``None`` for a value that does not change.

    Raises:
        ValueError: Naming the schedule's number of batches and the run's.
    """
    planned = planned_batches(trainer)
    for name, steps in horizons.items():
        if steps is not None and planned is not None and steps > planned and not getattr(trainer, "fast_dev_run", 0):
            raise ValueError(
                f"The schedule of {name}={steps} batches would not end within the run, which is planned for {planned}; "
                f"set {name}={planned} (--model.{name}), or train longer."
            )


def warn_undecayed(trainer: Trainer, end: int | None) -> None:
    """Warns of a run that ends before its learning rate has fallen to zero, as a short try-out of a recipe does."""
    planned = planned_batches(trainer)
    if end is not None and planned and planned < end and not getattr(trainer, "fast_dev_run", 0):
        rank_zero_warn(
            f"The learning rate falls to zero at decay_steps={end}, but the run is planned for {planned} batches: set "
            f"decay_steps={planned} (--model.decay_steps), or null, unless it is to be resumed."
        )


def warn_unfinished(trainer: Trainer, horizons: Mapping[str, int | None]) -> None:
    """Warns of schedules that had not ended when a run did whose length was not known at its start."""
    if planned_batches(trainer) is not None and not trainer.should_stop:
        return
    for name, steps in horizons.items():
        if steps is not None and trainer.global_step < steps and not getattr(trainer, "fast_dev_run", 0):
            rank_zero_warn(
                f"The schedule of {name}={steps} batches had not ended when the run did, after {trainer.global_step}. "
                f"Resume it, or set {name} to the number of batches that it has (--model.{name})."
            )


def warn_unreached(
    trainer: Trainer,
    schedule: CriticSchedule,
    generator_steps: Callable[[int], int],
    penalties: Mapping[str, int],
    generator_penalties: Mapping[str, int],
    accumulate_batches: int = 1,
) -> None:
    """Warns of a run of two players that is too short for a step of one of them, or for a lazy penalty.

    Args:
        trainer: The trainer that is about to train; ``fast_dev_run`` only tries a module out.
        schedule: When the generator makes its steps.
        generator_steps: Returns their number in so many batches.
        penalties: Name to period, in batches, of the penalties on the discriminator.
        generator_penalties: Name to period, in its steps, of those on the generator.
        accumulate_batches: Batches of one step of the discriminator.
    """
    planned = planned_batches(trainer)
    if not planned or getattr(trainer, "fast_dev_run", False):
        return
    steps = generator_steps(planned)
    never = {name: every for name, every in penalties.items() if every > planned}
    never |= {name: every for name, every in generator_penalties.items() if every > steps > 0}
    problems = [(f"lazy_every={every}", f"never computes the penalty {name}") for name, every in never.items()]
    window = f"accumulate_batches={accumulate_batches}"
    if planned < accumulate_batches:
        problems.append((window, "makes no step"))
    elif planned % accumulate_batches:
        problems.append((window, f"makes no step with its last {planned % accumulate_batches}"))
    if steps == 0 and planned >= accumulate_batches:
        setting = "bursts=true" if isinstance(schedule, Bursts) else f"critic_steps={schedule.critic_steps}"
        problems.append((setting, "makes no step of the generator"))
    for setting, what in problems:
        rank_zero_warn(
            f"With {setting} the run, which is planned for {planned} batches, {what}: train longer, or change it."
        )


def stop_at_end(trainer: Trainer, end: int) -> None:
    """Stops a run whose learning rate has reached zero after ``end`` batches, unless it ends there by itself."""
    if planned_batches(trainer) != end and not trainer.should_stop:
        trainer.should_stop = True
        rank_zero_info(
            f"Training stops after {trainer.global_step} batches: the learning rate has reached zero at "
            f"decay_steps={end}. Set decay_steps to train longer."
        )


def _least_batches(trainer: Trainer) -> int:
    epochs, batches = trainer.min_epochs or 0, trainer.num_training_batches
    whole = math.ceil(batches / trainer.accumulate_grad_batches) * epochs if math.isfinite(batches) else 0
    return max(trainer.min_steps or 0, whole)
