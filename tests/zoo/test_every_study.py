"""Every study runs, cut short to seconds, and reads no checkpoint but those whose digests a result records."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.sources import find
from datamodules.sources.find import DataNotFoundError
from zoo import loading
from zoo.studies.study_figures import DOTS, PANEL, png
from zoo.studies.study_registry import MODULES, study_of
from zoo.studies.study_runs import run_study


@pytest.mark.parametrize("name", MODULES)
def test_a_quick_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study, loaded = study_of(name), set()

    def load_folder(folder: Path, *arguments: Any, **settings: Any) -> Any:
        loaded.add(folder.name)
        return original(folder, *arguments, **settings)

    original = loading.load_folder
    monkeypatch.setattr(loading, "load_folder", load_folder)
    state = torch.get_rng_state()
    monkeypatch.setattr(find, "_fetch", lambda *arguments: False)
    try:
        outcome, _ = run_study(study, quick=True)
    except DataNotFoundError as error:
        pytest.skip(str(error))
    assert loaded == set(study.checkpoints)
    assert outcome.numbers
    assert all(math.isfinite(number.value) and not number.error < 0 for number in outcome.numbers.values())
    assert outcome.seeds
    assert outcome.seen.endswith(".")
    for axes in outcome.figure.axes:
        across = [text.get_window_extent().width for text in (axes.title, axes.xaxis.label)]
        room = 0.9 * DOTS * PANEL[0], 0.9 * DOTS * PANEL[1]  # beside ticks, which move the middle of the axes
        assert max(across) <= room[0], f"{axes.get_title()!r} or {axes.get_xlabel()!r} is too long for its panel"
        assert axes.yaxis.label.get_window_extent().height <= room[1], f"{axes.get_ylabel()!r} is too long"
    outcome.figure.set_layout_engine("none")  # a second for each figure, for where its labels go
    assert png(outcome.figure).startswith(b"\x89PNG")
    assert torch.equal(torch.get_rng_state(), state)
