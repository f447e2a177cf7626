"""Schedules as functions of the number of batches alone: nothing to save, nothing to lose on resume."""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class EveryNth:
    """The generator moves after every ``critic_steps``-th critic step."""

    critic_steps: int = 1

    def __post_init__(self) -> None:
        if self.critic_steps < 1:
            raise ValueError(f"critic_steps={self.critic_steps}: the critic needs at least 1 step a generator step.")

    def generator_updates(self, batches: int) -> int:
        """Returns the number of generator steps taken after ``batches`` critic steps."""
        return batches // self.critic_steps


@dataclass(frozen=True)
class Bursts:
    """Long runs of critic steps at the start and now and then, as in the authors' WGAN code (not in the paper).

    Generator step n is preceded by ``burst`` critic steps if n < ``warm_up`` or n is a multiple of ``period``,
    else by ``critic_steps``.
    """

    critic_steps: int = 5
    burst: int = 100
    warm_up: int = 25
    period: int = 500

    def __post_init__(self) -> None:
        if min(self.critic_steps, self.burst) < 1 or not 1 <= self.warm_up <= self.period:
            raise ValueError(f"{self}: steps must be at least 1 and 1 <= warm_up <= period.")

    def generator_updates(self, batches: int) -> int:
        """Returns the number of generator steps taken after ``batches`` critic steps."""
        if batches < self.warm_up * self.burst:
            return batches // self.burst
        first_period = self.warm_up * self.burst + (self.period - self.warm_up) * self.critic_steps
        if batches < first_period:
            return self.warm_up + (batches - self.warm_up * self.burst) // self.critic_steps
        one_period = self.burst + (self.period - 1) * self.critic_steps
        periods, rest = divmod(batches - first_period, one_period)
        within = 0 if rest < self.burst else 1 + (rest - self.burst) // self.critic_steps
        return self.period * (1 + periods) + within


CriticSchedule = EveryNth | Bursts


def linear_decay(total: int | None) -> Callable[[int], float]:
    """Returns the factor 1 - step / total, not below 0, as a function of the step; 1 where total is None."""
    if total is None:
        return lambda step: 1.0
    if total < 1:
        raise ValueError(f"decay_steps={total} must be a positive number of batches, or null for no decay.")
    return lambda step: max(0.0, 1 - step / total)


def warmup_and_cosine(warmup: int, total: int | None) -> Callable[[int], float]:
    """Returns a factor that rises linearly over ``warmup`` steps and falls as a cosine to 0 at ``total``.

    Args:
        warmup: Steps of the rise; 0 for none.
        total: Step at which it is 0, or ``None`` for no fall.

    Raises:
        ValueError: Unless 0 <= warmup < total.
    """
    if warmup < 0 or (total is not None and total <= warmup):
        raise ValueError(f"warmup_steps={warmup} must be at least 0 and less than decay_steps={total}.")

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if total is None:
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / (total - warmup), 1.0)))

    return factor


@dataclass(frozen=True)
class TruthProbability:
    """epsilon_i, the probability that step i of training reads the truth instead of the model's own draw.

    Args:
        kind: ``"linear"``: max(floor, start - slope i); ``"exponential"``: k^i; ``"inverse_sigmoid"``:
            k / (k + exp(i / k)); ``"constant"``: start.
        start: epsilon_0 of ``"linear"``, and the value of ``"constant"``.
        slope: c of ``"linear"``, a step.
        k: k of the others: below 1 for ``"exponential"``, at least 1 for ``"inverse_sigmoid"``.
        floor: The least value, in all kinds.

    Raises:
        ValueError: If the schedule would leave [0, 1].

    Scheduled Sampling (Bengio et al., 2015), https://arxiv.org/abs/1506.03099
    """

    kind: str = "inverse_sigmoid"
    start: float = 1.0
    slope: float = 0.0
    k: float = 1000.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "exponential", "inverse_sigmoid", "constant"):
            raise ValueError(f"decay={self.kind!r} is not linear, exponential, inverse_sigmoid or constant.")
        if not 0 <= self.floor <= 1 or not 0 <= self.start <= 1 or self.slope < 0:
            raise ValueError(
                f"start={self.start}, floor={self.floor} and slope={self.slope}: a probability stays in [0, 1]: "
                "start and floor must lie there, and slope must not be negative."
            )
        if self.kind == "exponential" and not 0 < self.k < 1:
            raise ValueError(f"k={self.k}: k^i stays in [0, 1] and falls only for 0 < k < 1.")
        if self.kind == "inverse_sigmoid" and not self.k >= 1:
            raise ValueError(f"k={self.k}: k / (k + exp(i / k)) needs k >= 1.")

    def __call__(self, step: int) -> float:
        """Returns epsilon after ``step`` batches."""
        if self.kind == "linear":
            value = self.start - self.slope * step
        elif self.kind == "exponential":
            value = self.k**step
        elif self.kind == "inverse_sigmoid":
            value = self.k / (self.k + math.exp(min(step / self.k, 700.0)))
        else:
            value = self.start
        return max(self.floor, value)
