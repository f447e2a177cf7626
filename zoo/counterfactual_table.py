"""The counterfactual figures of a card as a table: what was asked, and how unseen captions fare beside seen ones."""

import re
from collections.abc import Mapping

FIGURE = re.compile(
    r"test/counterfactual_(?P<measure>\w+?)_(?P<side>unseen|seen|difference)"
    r"(?:_(?P<scale>real|neighbour))?(?P<error>_standard_error)?-(?P<extractor>.+)-(?P<num>\w+)"
)
"""Name of a figure; see ``counterfactual_figures``."""
MEASURES = {
    "nearer": "nearer to the truth than the nearest seen image",
    "nearest_tone": "nearest to the truth among its five skin tones (chance 0.2)",
    "retrieved_1": "the truth is the nearest of all real images",
    "retrieved_5": "the truth is among the five nearest of all real images",
}
SCALES = {"real": "of the real images", "neighbour": "of the seen image nearest to the truth"}
COLUMNS = ("share of captions", "unseen", "seen", "unseen - seen", "real or neighbour, unseen", "captions")
EXPLANATION = (
    "One sample of each caption that training held out (unseen), and of a seen one of another skin tone or person, "
    "from the same random numbers; with bootstrap standard errors. Distances are those of the features of {extractor}. "
    "For scale: attributes named in the real images of the unseen captions, and what a model gets that repeats the "
    "seen image nearest to the truth."
)


def meaning(metric: str) -> str:
    """Returns what a counterfactual figure is, in words; empty for other metrics."""
    if (found := FIGURE.fullmatch(metric)) is None:
        return ""
    what = ("standard error of the share: " if found["error"] else "share: ") + _described(found["measure"])
    sides = {"unseen": "unseen captions", "seen": "seen captions", "difference": "unseen minus seen"}
    scale = f", {SCALES[found['scale']]}" if found["scale"] else ""
    return f"{what}; {sides[found['side']]}{scale}"


def counterfactual_rows(metrics: Mapping[str, float]) -> dict[str, list[list[str]]]:
    """Returns the rows of a table with ``COLUMNS`` for each extractor; empty without such figures."""
    tables: dict[str, list[list[str]]] = {}
    for name in metrics:
        found = FIGURE.fullmatch(name)
        if found is None or found["side"] != "unseen" or found["scale"] or found["error"]:
            continue
        measure, protocol = found["measure"], f"-{found['extractor']}-{found['num']}"
        shown = [_with_error(metrics, f"{measure}_{side}", protocol) for side in ("unseen", "seen", "difference")]
        scales = [_with_error(metrics, f"{measure}_unseen_{scale}", protocol) for scale in SCALES]
        row = [_described(measure), *shown, next(filter(None, scales), ""), found["num"]]
        tables.setdefault(found["extractor"], []).append(row)
    return tables


def _described(measure: str) -> str:
    return MEASURES.get(measure, f"the classifier names the {measure}")


def _with_error(metrics: Mapping[str, float], name: str, protocol: str) -> str:
    value = metrics.get(f"test/counterfactual_{name}{protocol}")
    error = metrics.get(f"test/counterfactual_{name}_standard_error{protocol}")
    return "" if value is None or error is None else f"{value:.3f} ± {error:.3f}"
