"""What a study is: a claim of the text, the rule by which it holds, and the experiment that the rule is applied to.

A study is one file, read from top to bottom: its docstring says what is done and why, the decorator ``study`` holds the
claim, its place in the text and the rule, and the function below is the experiment. The rule is written before the
experiment is run: a recorded result names the commit that held it. A claim that does not hold is a result like any
other.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from matplotlib.figure import Figure


class Number(NamedTuple):
    """A measured number.

    Attributes:
        value: Its value.
        error: Its standard error, over seeds, over independent samples or by the bootstrap; 0 where none is given,
            because it is exact, or the largest or smallest value, a count or a fit of what was measured.
    """

    value: float
    error: float


@dataclass(frozen=True)
class Outcome:
    """What an experiment has found.

    Attributes:
        holds: Whether the claim holds by the rule.
        numbers: Numbers by name; a name holds the unit.
        figure: The figure.
        seen: What was seen, one to four sentences with the numbers of this run.
        seeds: Seeds of the runs.
    """

    holds: bool
    numbers: Mapping[str, Number]
    figure: Figure
    seen: str
    seeds: Sequence[int]


Experiment = Callable[[bool], Outcome]
"""Maps ``quick`` to an outcome; a quick run takes seconds and shows that the study works, but decides nothing."""


@dataclass(frozen=True, eq=False)
class Study:
    """A claim of the text and its experiment.

    Attributes:
        name: Name on the command line.
        place: Section and equations of the text.
        claim: The sentence of the text in our words.
        rule: The rule by which the claim holds, written before the experiment was run.
        experiment: The experiment.
        checkpoints: Names of the zoo's checkpoints that the experiment reads.
    """

    name: str
    place: str
    claim: str
    rule: str
    experiment: Experiment
    checkpoints: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """The file of the study."""
        return Path(inspect.getfile(self.experiment)).resolve()


def study(*, place: str, claim: str, rule: str, checkpoints: tuple[str, ...] = ()) -> Callable[[Experiment], Study]:
    """Makes a study of an experiment, which gives it its name; arguments as in ``Study``."""
    return lambda experiment: Study(experiment.__name__, place, claim, rule, experiment, checkpoints)


def exact(value: float) -> Number:
    """Returns a number without an error: an exact one, or an extreme value, a count or a fit."""
    return Number(float(value), 0.0)


def mean_of_runs(values: Sequence[float]) -> Number:
    """Returns the mean of independent runs, or examples, and its standard error; ``nan`` for a single one."""
    error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return Number(fmean(values), error)
