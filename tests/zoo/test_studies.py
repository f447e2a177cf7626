"""Studies: what is refused, what a run prints and saves, and the commit that a result names."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules import Ring
from lightning_modules import Gaussian
from tests.zoo.running import fails
from tests.zoo.tiny_study import SOURCE
from zoo.__main__ import main
from zoo.errors import ZooError
from zoo.studies import study_registry, study_results
from zoo.studies.quiet_training import fit
from zoo.studies.study import Outcome, Study, exact, mean_of_runs
from zoo.studies.study_figures import curve, labels, panels, png
from zoo.studies.study_registry import MODULES, study_of
from zoo.studies.study_results import commit_of_rule, read_result, stale_results, write_result

FOLDER = Path(study_registry.__file__).parent

# The command


def test_an_unknown_study_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    said = fails(["study", "entropi"], capsys)
    assert "There is no study 'entropi'. Did you mean entropy?" in said
    assert all(name in said for name in MODULES)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "and none was given"),
        (["entropy", "--all"], "not --all and entropy together"),
        (["--list", "--quick"], "--quick has no effect with --list"),
        (["--stale", "--write"], "--write has no effect with --stale"),
        (["entropy", "--quick", "--write"], "leave out --quick"),
        (["entropy", "--write", "--out", "x"], "leave out --out"),
    ],
)
def test_arguments_that_do_not_fit_together(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["study", *words])
    assert said in capsys.readouterr().err


def test_the_list_has_every_study_and_its_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(MODULES)
    for line, name in zip(lines, MODULES, strict=True):
        result = read_result(name)
        said = "not recorded" if result is None else "holds" if result["holds"] else "does not hold"
        assert f"  {said}  " in line


def test_a_run_prints_the_rule_and_saves_the_figure(
    even: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(study_registry, "study_of", lambda name: even)
    assert main(["study", "even", "--out", str(tmp_path / "figures")]) == 0
    said = capsys.readouterr().out
    for line in ("even, 1.1", "Claim: Two is even.", "Rule: The rest is 0.", "rest  0\n", "The claim holds."):
        assert line in said
    assert (tmp_path / "figures" / "even.png").read_bytes().startswith(b"\x89PNG")
    assert main(["study", "even", "--quick", "--out", str(tmp_path / "figures")]) == 0
    assert "The claim holds." not in capsys.readouterr().out


def test_where_figures_cannot_be_written_nothing_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert "is not a writable folder" in fails(["study", "support", "--out", str(tmp_path / "file")], capsys)


def test_where_results_cannot_be_written_nothing_is_run(
    even: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(study_registry, "study_of", lambda name: even)
    monkeypatch.setattr(study_results, "commit_of_rule", lambda study: "c0ffee")
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(study_results, "RESULTS", tmp_path / "file")
    said = fails(["study", "even", "--write"], capsys)
    assert "is not a writable folder.\n" in said
    assert "--out" not in said


def test_a_study_that_fails_does_not_stop_the_others(
    even: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stops(quick: bool) -> Outcome:
        raise ValueError("no data")

    both = {"odd": Study("odd", "1.1", "a.", "b.", stops), "even": even}
    monkeypatch.setattr(study_registry, "MODULES", dict.fromkeys(both, "even"))
    monkeypatch.setattr(study_registry, "study_of", both.__getitem__)
    assert main(["study", "--all", "--quick", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert (tmp_path / "even.png").is_file()
    assert "error: odd: no data" in said.err
    assert "1 of 2 studies failed: odd" in said.err


def test_ctrl_c_in_a_training_ends_the_study_and_leaves_the_handler() -> None:
    """Lightning ends the program with 1 and ignores further signals; a command ends with 130."""
    handler = signal.getsignal(signal.SIGINT)

    class Interrupts(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            fit(Gaussian(shape=[2]), Ring(train_size=8, batch_size=4), 1, Interrupts())
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, handler)


# Recorded results


def test_the_command_tells_what_is_stale(
    even: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(even, even.experiment(False), "c0ffee", 0.5, tmp_path)
    monkeypatch.setattr(study_results, "stale_results", lambda: stale_results(tmp_path))
    assert main(["study", "--stale"]) == 0
    even.file.write_text("")
    assert main(["study", "--stale"]) == 1
    said = capsys.readouterr().out
    assert "No recorded result is stale." in said
    assert "even  even.py has changed" in said
    assert "python -m zoo study even --write" in said


def test_no_recorded_result_is_stale() -> None:
    assert list(stale_results()) == []


@pytest.mark.parametrize("name", MODULES)
def test_a_recorded_figure_is_small_enough_for_a_page(name: str) -> None:
    if (result := read_result(name)) is None:
        pytest.skip(f"{name} has no recorded result yet")
    assert (study_results.RESULTS / result["figure"]).stat().st_size < 150_000


# The commit that held the rule


def test_the_commit_is_the_last_one_of_the_study(even: Study, git: Callable[..., str], tmp_path: Path) -> None:
    git("add", ".")
    git("commit", "--quiet", "-m", "Add a study")
    first = git("rev-parse", "HEAD")
    (tmp_path / "other").write_text("")
    git("add", ".")
    git("commit", "--quiet", "-m", "Add something else")
    assert commit_of_rule(even) == first
    (study_results.RESULTS).mkdir()
    (study_results.RESULTS / "even.json").write_text("{}")  # a result of the study before, not committed yet
    assert commit_of_rule(even) == first


def test_code_that_is_not_committed_records_nothing(even: Study, git: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="zoo/ has changes: commit them"):
        commit_of_rule(even)
    git("add", ".")
    git("commit", "--quiet", "-m", "Add a study")
    even.file.write_text(SOURCE + "\n")
    with pytest.raises(ZooError, match=r"zoo/studies/even\.py has changes: commit them"):
        commit_of_rule(even)


def test_a_shallow_clone_records_nothing(
    even: Study, git: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its one commit would pass for the one that held the rule."""
    git("add", ".")
    git("commit", "--quiet", "-m", "Add a study")
    git("commit", "--quiet", "--allow-empty", "-m", "Add nothing")
    git("clone", "--quiet", "--depth", "1", f"file://{tmp_path}", str(tmp_path / "clone"))
    clone = tmp_path.resolve() / "clone" / "zoo"
    monkeypatch.setattr(study_results, "PACKAGE", clone)
    monkeypatch.setattr(study_results, "RESULTS", clone / "studies" / "results")
    monkeypatch.setattr(Study, "file", clone / "studies" / "even.py")
    with pytest.raises(ZooError, match="a shallow clone does not know"):
        commit_of_rule(even)


def test_a_study_in_no_commit_records_nothing(even: Study, git: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("zoo\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "Add nothing of it")
    with pytest.raises(ZooError, match=r"even\.py is in no commit"):
        commit_of_rule(even)


def test_away_from_a_checkout_nothing_is_recorded(even: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_results, "PACKAGE", tmp_path / "site-packages" / "zoo")
    with pytest.raises(ZooError, match="is not a git checkout of the zoo"):
        commit_of_rule(even)


# Files and figures


def test_every_study_is_found_under_its_name() -> None:
    files = {path.stem for path in FOLDER.glob("*.py") if "\n@study(\n" in path.read_text(encoding="utf-8")}
    assert files == set(MODULES.values())
    assert [study_of(name).name for name in MODULES] == list(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_a_study_can_be_read_at_one_sitting(name: str) -> None:
    study = study_of(name)
    assert 60 <= len(study.file.read_text(encoding="utf-8").splitlines()) <= 150
    assert study.place.startswith("1.")
    assert study.claim.endswith(".")
    assert study.rule.endswith(".")


def test_a_figure_is_a_function_of_what_it_shows() -> None:
    def drawn(height: float) -> bytes:
        figure, (axes,) = panels("one")
        curve(axes, [0, 1], [0, height], 0, "a", [0.1, 0.1])
        labels(axes, "x", "y")
        return png(figure)

    assert drawn(1.0) == drawn(1.0)
    assert drawn(1.0) != drawn(2.0)


def test_numbers_have_the_standard_error_of_a_mean() -> None:
    assert mean_of_runs([1.0, 2.0, 3.0]) == pytest.approx((2.0, 1 / 3**0.5))
    assert exact(2) == (2.0, 0.0)
