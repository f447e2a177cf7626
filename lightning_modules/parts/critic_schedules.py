"""How many critic steps precede each generator step, as a function of the number of batches alone."""

from dataclasses import dataclass

from lightning_modules.parts.checks import check_counts


@dataclass(frozen=True)
class EveryNth:
    """The generator makes a step after every ``critic_steps``-th critic step."""

    critic_steps: int = 1

    def __post_init__(self) -> None:
        check_counts(critic_steps=self.critic_steps)

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
        check_counts(critic_steps=self.critic_steps, burst=self.burst, warm_up=self.warm_up, period=self.period)
        if self.warm_up > self.period:
            raise ValueError(f"warm_up={self.warm_up} must be at most period={self.period}.")

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
