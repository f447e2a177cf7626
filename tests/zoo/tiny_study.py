"""The source of a study whose experiment takes no time."""

SOURCE = """
from zoo.studies.study import Outcome, exact, study
from zoo.studies.study_figures import panels


@study(place="1.1", claim="Two is even.", rule="The rest is 0.", checkpoints=("ebm.ring8",))
def even(quick):
    return Outcome(True, {"rest": exact(2 % 2)}, panels("nothing")[0], "The rest is 0.", (0,))
"""
