"""The schedule of growth: every level in turn, in equal phases."""

import pytest

from lightning_modules.parts.growth import Growth, Stage


def test_levels_are_trained_and_faded_in_in_turn() -> None:
    growth = Growth(3, 12)
    stages = [growth.at(step) for step in range(14)]
    assert [stage.level for stage in stages] == 3 * [0] + 6 * [1] + 5 * [2]
    assert [stage.alpha for stage in stages] == pytest.approx(
        [1, 1, 1, 0.25, 0.5, 0.75, 1, 1, 1, 0.25, 0.5, 0.75, 1, 1]
    )


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 7, 8, 100])
@pytest.mark.parametrize("num_levels", [1, 2, 3, 5])
def test_growth_ends_on_time_and_never_goes_back(num_levels: int, steps: int) -> None:
    growth = Growth(num_levels, steps)
    stages = [growth.at(step) for step in range(steps + 3)]
    assert stages[steps] == stages[-1] == Stage(num_levels - 1, 1.0)
    assert all(0 < stage.alpha <= 1 for stage in stages)
    # How much there is of all levels together never falls.
    assert stages == sorted(stages, key=lambda stage: stage.level - 1 + stage.alpha)
    if steps >= growth.num_phases > 0:
        assert {stage.level for stage in stages} == set(range(num_levels))
        assert stages[0] == Stage(0, 1.0)
