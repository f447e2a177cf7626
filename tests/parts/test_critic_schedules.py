"""Schedules of critic and generator steps against the loops that they stand for."""

import pytest

from lightning_modules.parts.critic_schedules import Bursts, EveryNth


def batches_by_simulation(total: int, critic_steps: int, burst: int, warm_up: int, period: int) -> list[int]:
    """The authors' loop: before generator step n come ``burst`` or ``critic_steps`` critic steps."""
    updates = 0
    counts: list[int] = []
    while len(counts) < total:
        steps = burst if updates < warm_up or updates % period == 0 else critic_steps
        counts.extend([updates] * (steps - 1))
        updates += 1
        counts.append(updates)
    return counts[:total]


@pytest.mark.parametrize(
    ("critic_steps", "burst", "warm_up", "period"), [(5, 100, 25, 500), (2, 7, 3, 5), (1, 4, 1, 3)]
)
def test_bursts_equal_the_authors_loop(critic_steps: int, burst: int, warm_up: int, period: int) -> None:
    total = 12_000 if period == 500 else 200
    schedule = Bursts(critic_steps, burst, warm_up, period)
    expected = batches_by_simulation(total, critic_steps, burst, warm_up, period)
    assert [schedule.generator_updates(batches) for batches in range(1, total + 1)] == expected


def test_every_nth_moves_once_in_n() -> None:
    assert [EveryNth(3).generator_updates(batches) for batches in range(8)] == [0, 0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("critic_steps", [0, -1])
def test_no_critic_step_is_refused(critic_steps: int) -> None:
    with pytest.raises(ValueError, match=f"critic_steps={critic_steps}"):
        EveryNth(critic_steps)
    with pytest.raises(ValueError, match=f"critic_steps={critic_steps}"):
        Bursts(critic_steps)
