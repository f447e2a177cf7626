"""How many critic steps precede each generator step, as a function of the number of batches alone."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EveryNth:
    """The generator makes a step after every ``critic_steps``-th critic step."""

    critic_steps: int = 1

    def __post_init__(self) -> None:
        if self.critic_steps < 1:
            raise ValueError(f"critic_steps={self.critic_steps} must be at least 1 per generator step.")

    def generator_updates(self, batches: int) -> int:
        """Returns the number of generator steps taken after ``batches`` critic steps."""
        return batches // self.critic_steps


@dataclass(frozen=True)
class Bursts:
    """Bursts of critic steps at the start and at regular intervals, as in the authors' WGAN code (not in the paper).

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
