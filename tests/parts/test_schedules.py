"""Schedules of learning rates and weights against values by hand."""

import pytest
import torch

from lightning_modules.parts.optimizers import adam, adamw
from lightning_modules.parts.schedules import (
    Constant,
    Interpolation,
    Schedule,
    WarmupAndDecay,
    changing,
    linear_decay,
    warmup_and_cosine,
)

ROOT_HALF = 0.5**0.5  # cos 45 degrees


def values(schedule: Schedule, *steps: int) -> list[float]:
    return [schedule(step) for step in steps]


def test_linear_decay_reaches_zero_and_stays() -> None:
    factor = linear_decay(4)
    assert [factor(step) for step in range(6)] == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert factor.end == 4
    assert linear_decay(None)(10**9) == 1.0
    assert linear_decay(None).end is None
    with pytest.raises(ValueError, match="decay_steps=0"):
        linear_decay(0)


def test_a_warm_up_rises_in_equal_steps_and_a_cosine_falls_from_its_end() -> None:
    """Four batches of warm-up, then sixteen in which the angle goes from 0 to 180 degrees."""
    factor = warmup_and_cosine(4, 20)
    assert values(factor, 0, 1, 2, 3) == [0.25, 0.5, 0.75, 1.0]
    # at 0, 45, 90, 135 and 180 degrees: (1 + cos) / 2
    expected = [1.0, (1 + ROOT_HALF) / 2, 0.5, (1 - ROOT_HALF) / 2, 0.0]
    assert values(factor, 4, 8, 12, 16, 20) == pytest.approx(expected, abs=1e-15)
    assert values(factor, 21, 10**9) == [0.0, 0.0]
    assert factor.end == 20


def test_a_cosine_without_a_warm_up_begins_at_one() -> None:
    """A third of the way it is at 60 degrees, (1 + 1 / 2) / 2, where a line would be at 2 / 3."""
    assert values(warmup_and_cosine(0, 6), 0, 2, 3, 4, 6) == pytest.approx([1, 0.75, 0.5, 0.25, 0], abs=1e-15)


def test_without_an_end_the_factor_stays_at_one_after_the_warm_up() -> None:
    factor = warmup_and_cosine(5, None)
    assert values(factor, 0, 2, 4, 5, 10**9) == [0.2, pytest.approx(0.6), 1.0, 1.0, 1.0]
    assert factor.end is None


def test_the_first_batch_of_a_warm_up_of_one_is_at_full_rate() -> None:
    assert values(warmup_and_cosine(1, 3), 0, 1, 2, 3) == pytest.approx([1, 1, 0.5, 0], abs=1e-15)


@pytest.mark.parametrize(("warmup", "total"), [(-1, 10), (10, 10), (11, 10), (-1, None)])
def test_a_warm_up_that_does_not_fit_is_refused(warmup: int, total: int | None) -> None:
    with pytest.raises(ValueError, match=f"warmup_steps={warmup}.*decay_steps={total}"):
        warmup_and_cosine(warmup, total)


def test_a_warm_up_may_be_followed_by_a_line() -> None:
    assert values(WarmupAndDecay(2, 6), 0, 1, 2, 3, 5, 6, 7) == [0.5, 1.0, 1.0, 0.75, 0.25, 0.0, 0.0]


def test_a_constant_is_the_same_in_every_batch() -> None:
    assert values(Constant(), 0, 10**9) == [1.0, 1.0]
    assert values(Constant(0.3), 0, 7) == [0.3, 0.3]
    assert Constant().end is None


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("linear", [3.0, 3.0, 2.0, 1.0, 0.0, -1.0, -1.0]),
        # at 0, 45, 90, 135 and 180 degrees from 3 down to -1: 1 + 2 cos
        ("cosine", [3.0, 3.0, 1 + 2 * ROOT_HALF, 1.0, 1 - 2 * ROOT_HALF, -1.0, -1.0]),
    ],
)
def test_an_interpolation_begins_ends_and_stays_where_it_says(shape: str, expected: list[float]) -> None:
    change = Interpolation(3.0, -1.0, steps=8, begin=10, shape=shape)
    assert values(change, 0, 10, 12, 14, 16, 18, 10**9) == pytest.approx(expected, abs=1e-14)
    assert change.end is None


def test_an_interpolation_may_rise_from_the_first_batch_on() -> None:
    assert values(Interpolation(0.0, 1.0, steps=4), 0, 1, 3, 4, 5) == [0.0, 0.25, 0.75, 1.0, 1.0]


def test_an_exponential_interpolation_has_a_constant_ratio() -> None:
    fall = Interpolation(8.0, 0.5, steps=4, shape="exponential")
    assert values(fall, 0, 1, 2, 3, 4, 5) == pytest.approx([8.0, 4.0, 2.0, 1.0, 0.5, 0.5])
    with pytest.raises(ValueError, match=r"stop=0\.0.*exponential"):
        Interpolation(8.0, 0.0, steps=4, shape="exponential")


def test_a_value_changes_over_its_steps_or_not_at_all() -> None:
    assert values(changing(2.0, 1.0, 4, name="n"), 0, 2, 4) == [2.0, 1.5, 1.0]
    assert changing(2.0, 1.0, None, name="n") == Constant(2.0)
    with pytest.raises(ValueError, match="n=0"):
        changing(2.0, 1.0, 0, name="n")


def test_schedules_out_of_range_are_refused() -> None:
    for steps, begin in ((0, 0), (-2, 0), (3, -1)):
        with pytest.raises(ValueError, match=f"steps={steps}.*begin={begin}"):
            Interpolation(0.0, 1.0, steps=steps, begin=begin)
    with pytest.raises(ValueError, match="'cubic'.*linear, cosine"):
        Interpolation(0.0, 1.0, steps=1, shape="cubic")
    with pytest.raises(ValueError, match="'cubic'.*linear, cosine"):
        WarmupAndDecay(shape="cubic")


def test_learning_rates_of_the_two_usual_trainings_follow_their_schedules() -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    for training, expected in (
        (adam(0.1, 4), [0.1, 0.075, 0.05, 0.025, 0.0]),
        (adamw(0.1, 0.01, 1.0, 2, 6), [0.05, 0.1, 0.1, 0.05 * (1 + ROOT_HALF), 0.05]),
    ):
        optimizer = training["optimizer"]([weight])
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, training["lr_schedule"])
        rates = []
        for _ in expected:
            rates.append(optimizer.param_groups[0]["lr"])
            weight.grad = torch.zeros(2, 2)
            optimizer.step()
            schedule.step()
        assert rates == pytest.approx(expected)
