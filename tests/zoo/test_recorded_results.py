"""Recorded results: what a file holds, what damages it, and what makes it stale."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.zoo.tiny_study import SOURCE
from zoo.__main__ import main
from zoo.errors import ZooError
from zoo.studies import study_registry, study_results
from zoo.studies.study import Outcome, Study, mean_of_runs
from zoo.studies.study_figures import panels, png
from zoo.studies.study_results import read_result, result_file, shared_files, stale_results, write_result


def reasons(folder: Path) -> list[str]:
    """Why the result of the study is stale."""
    return [reason for name, reason in stale_results(folder) if name == "even"]


def test_a_result_is_read_as_it_was_written(even: Study, tmp_path: Path) -> None:
    path = write_result(even, even.experiment(False), "c0ffee", 0.5, tmp_path)
    result = read_result("even", tmp_path)
    assert result is not None
    assert path == result_file("even", tmp_path)
    assert result["rule"] == "The rest is 0."
    assert result["commit"] == "c0ffee"
    assert result["numbers"] == {"rest": {"value": 0.0, "error": 0.0}}
    assert result["checkpoints"] == {"ebm.ring8": zoo.card("ebm.ring8").sha256}
    assert result["versions"].keys() >= {"python", "torch", "lightning", "generative-zoo"}
    assert (tmp_path / result["figure"]).read_bytes().startswith(b"\x89PNG")
    assert list(stale_results(tmp_path)) == []


def test_numbers_that_are_none_leave_the_former_result(even: Study, tmp_path: Path) -> None:
    write_result(even, even.experiment(False), "c0ffee", 0.5, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("even.*")}
    broken = Outcome(True, {"rest": mean_of_runs([1.0])}, panels("other")[0], "", (0,))
    with pytest.raises(ZooError, match=r"numbers\.rest\.error is nan"):
        write_result(even, broken, "c0ffee", 0.5, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("even.*")} == before


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 1}', "\xff"])
def test_a_damaged_result_says_how_to_record_it_again(content: str, tmp_path: Path) -> None:
    result_file("even", tmp_path).write_text(content, encoding="latin-1")
    with pytest.raises(ZooError, match=r"python -m zoo study even --write records the result again"):
        read_result("even", tmp_path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"format": 2}, "has format 2, not 1"),
        ({"holds": "false"}, "is damaged in holds"),
        ({"checkpoints": None}, "is damaged in checkpoints"),
        ({"minutes": True}, "is damaged in minutes"),
        ({"numbers": {"rest": 0.0}}, "is damaged in rest"),
        ({"numbers": {"rest": {"value": "0", "error": 0.0}}}, "is damaged in rest"),
        ({"study": "odd"}, "is that of odd"),
        ({"figure": "../even.png"}, "with the figure ../even.png"),
    ],
)
def test_fields_that_are_not_what_was_written_are_damage(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    fields = {"format": 1, "study": "even", "holds": True, "numbers": {}, "seen": "", "figure": "even.png"}
    fields |= {"study_sha256": "", "checkpoints": {}, "seeds": [0], "commit": "", "minutes": 0.1, "date": ""}
    result_file("even", tmp_path).write_text(json.dumps(fields))
    assert read_result("even", tmp_path) == fields
    result_file("even", tmp_path).write_text(json.dumps({**fields, **changed}))
    with pytest.raises(ZooError, match=said):
        read_result("even", tmp_path)


def test_a_result_is_stale_when_what_it_used_has_changed(even: Study, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    path = write_result(even, even.experiment(False), "c0ffee", 0.5, folder)
    recorded = json.loads(path.read_text())
    assert reasons(folder) == []

    path.write_text(json.dumps({**recorded, "checkpoints": {"ebm.ring8": "0" * 64}}))
    assert reasons(folder) == ["the checkpoint ebm.ring8 has changed"]
    path.write_text(json.dumps({**recorded, "checkpoints": {"no_such_one": "0" * 64}}))
    assert reasons(folder) == [
        "it used other checkpoints than the study names",
        "the checkpoint no_such_one has changed",
    ]
    path.write_text(json.dumps(recorded))
    even.file.write_text(SOURCE.replace("The rest is 0.", "The rest is 1."))
    (folder / "even.png").unlink()
    assert reasons(folder) == ["even.py has changed", "its figure even.png is missing"]
    path.write_text("{")
    assert reasons(folder) == ["it is damaged"]
    path.rename(folder / "odd.json")
    assert list(stale_results(folder)) == [("odd", "there is no such study any more")]


def test_a_figure_without_its_result_or_of_another_run_is_stale(even: Study, tmp_path: Path) -> None:
    """As an interruption between the two files leaves it."""
    path = write_result(even, even.experiment(False), "c0ffee", 0.5, tmp_path)
    (tmp_path / "even.png").write_bytes(png(panels("another run")[0]))
    assert reasons(tmp_path) == ["its figure even.png is another"]
    path.unlink()
    assert reasons(tmp_path) == ["its figure is here, but no result"]


def test_a_result_is_stale_when_what_studies_share_has_changed(even: Study, tmp_path: Path) -> None:
    path = write_result(even, even.experiment(False), "c0ffee", 0.5, tmp_path)
    recorded = json.loads(path.read_text())
    assert recorded["shared_sha256"] == {}
    path.write_text(json.dumps({**recorded, "shared_sha256": {"garments.py": "0" * 64}}))
    assert reasons(tmp_path) == ["garments.py, which it shares with others, has changed"]
    study = study_registry.study_of("fid_corruption")
    assert [file.name for file in shared_files(study.file)] == ["garments.py", "image_corruptions.py"]


def test_digests_are_those_of_before_the_run(
    even: Study, git: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is edited while its study runs, for an hour maybe, is not what was run."""
    git("add", ".")
    git("commit", "--quiet", "-m", "Add a study")
    experiment, file = even.experiment, even.file

    def edits(quick: bool) -> Outcome:
        file.write_text(SOURCE.replace("The rest is 0.", "The rest is 1."))
        return experiment(quick)

    object.__setattr__(even, "experiment", edits)
    monkeypatch.setattr(Study, "file", file)
    monkeypatch.setattr(study_registry, "study_of", lambda name: even)
    assert main(["study", "even", "--write"]) == 0
    assert reasons(study_results.RESULTS) == ["even.py has changed"]
