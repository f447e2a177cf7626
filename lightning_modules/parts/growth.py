"""When a growing network gets its next layers, as a function of the number of batches."""

from bisect import bisect_right
from typing import NamedTuple


class Stage(NamedTuple):
    """How far a network has grown.

    Attributes:
        level: The highest resolution in use, from 0.
        alpha: Its share in (0, 1], less than 1 while it is faded in.
    """

    level: int
    alpha: float


class Growth:
    """Alternates training at a resolution with fading in the next one, in phases of equal length.

    NOTE: With fewer batches than phases, some phases are empty. All batches that follow train the last resolution.

    Args:
        num_levels: Number of resolutions.
        steps: Batches until the last one is faded in; may be set later.
    """

    def __init__(self, num_levels: int, steps: int = 0) -> None:
        self.num_levels, self.steps = num_levels, steps

    @property
    def num_phases(self) -> int:
        """Number of phases before the last resolution is faded in: two for each of the others."""
        return 2 * (self.num_levels - 1)

    def at(self, step: int) -> Stage:
        """Returns the stage in the batch after ``step`` others."""
        if step >= self.steps or self.num_phases == 0:
            return Stage(self.num_levels - 1, 1.0)
        begins = [number * self.steps // self.num_phases for number in range(self.num_phases + 1)]
        phase = bisect_right(begins, step) - 1
        if phase % 2 == 0:
            return Stage(phase // 2, 1.0)
        begin, end = begins[phase], begins[phase + 1]
        return Stage(phase // 2 + 1, (step - begin + 1) / (end - begin + 1))
