"""Commands that are printed can be pasted into a shell, whatever the names of files in them are."""

import re
import shlex
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

import zoo
import zoo.commands
from datamodules.images.folder import ImageFolder
from lightning_modules import WGANGP
from tests.datamodules.small_data import image_folder
from tests.zoo.running import RECIPE, fails
from zoo.__main__ import main
from zoo.data import datamodule_of
from zoo.data_record import record_of

FOLDER = "it's my folder"


def words_after(beginning: str, text: str) -> list[str]:
    """The words of the command, as a shell takes them, that a line of a text ends in."""
    (line,) = (line for line in text.splitlines() if beginning in line)
    return shlex.split(line.partition(beginning)[2])


def test_a_training_file_is_named_to_export_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = fails(["sample", f"{FOLDER}/last.ckpt"], capsys)
    assert words_after("python -m zoo ", error) == ["export", f"{FOLDER}/last.ckpt", "FOLDER"]


def test_what_was_saved_is_named_to_sample_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    zoo.save(WGANGP(width=2), FOLDER)
    zoo.commands._trained(lambda: zoo.card(Path(FOLDER)))
    assert words_after(" or python -m zoo ", capsys.readouterr().out) == ["sample", FOLDER]


def test_a_recipe_is_named_in_its_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(f"{FOLDER}.yaml").write_text(RECIPE)
    zoo.commands.train(Namespace(recipe=f"{FOLDER}.yaml", help=True, overrides=[], save_to=None))
    first = capsys.readouterr().out.splitlines()[0]
    assert words_after("python -m zoo ", first)[:2] == ["train", f"{FOLDER}.yaml"]
    with pytest.raises(SystemExit):
        main(["train", f"{FOLDER}.yaml", "--model.widht", "2"])
    assert words_after("python -m zoo ", capsys.readouterr().err) == ["train", f"{FOLDER}.yaml", "--help"]


def test_changed_data_are_named_to_use_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = image_folder(tmp_path / FOLDER)
    record = record_of(ImageFolder(str(folder), image_size=8))
    card = replace(zoo.save(WGANGP(width=2), tmp_path / "saved"), datamodule=record)
    next(folder.rglob("*.png")).unlink()
    with pytest.raises(zoo.ZooError, match="has changed since") as error:
        datamodule_of(card)
    assert words_after(" name it with ", str(error.value)) == ["--data-dir", f"{folder}."]


def test_commands_are_put_together_in_one_place() -> None:
    package = Path(zoo.__file__).parent
    for path in (*package.glob("*.py"), *package.parent.glob("lightning_modules/**/*.py")):
        if path.name != "paths.py":
            assert not re.findall(r"python -m zoo [^`\"']*\{.*", path.read_text()), path
