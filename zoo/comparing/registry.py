"""The comparisons by name."""

from zoo.comparing.comparison import Comparison
from zoo.comparing.family_table import NAME
from zoo.comparing.fashion_gans import GANS
from zoo.comparing.mode_coverage import MODES
from zoo.errors import UnknownNameError
from zoo.paths import did_you_mean

COMPARISONS = {comparison.name: comparison for comparison in (GANS, MODES)}


def comparison_of(name: str) -> Comparison:
    """Returns a comparison.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    if name not in COMPARISONS:
        raise UnknownNameError(
            f"There is no comparison {name!r}.{did_you_mean(name, [*COMPARISONS, NAME])} "
            f"There are {', '.join([*COMPARISONS, NAME])}."
        )
    return COMPARISONS[name]
