"""A checkpoint appears whole or not at all, and an older one stays until it does."""

import os
import re
import shutil
from pathlib import Path

import pytest
import torch

import lightning_modules
import zoo
import zoo.checkpoint_folder
import zoo.saving
from lightning_modules.parts.files import replace_file
from tests.processes import started
from tests.zoo.tiny import TinyGAN


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(NotADirectoryError, match=r"not a folder that x\.png could be in.*taken"):
        replace_file(tmp_path / "taken/x.png", b"")


@pytest.mark.parametrize(
    "step", ["to_bytes", "file_sha256", "load_folder", "render_samples", "replace_file", "readme", "flush_folder"]
)
@pytest.mark.parametrize("existing", [True, False])
def test_failures_leave_no_trace(
    step: str, existing: bool, module: TinyGAN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    if existing:
        zoo.save(TinyGAN(width=2), home / "tiny")
    else:
        home.mkdir()
    before = contents(home)

    def fail(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(zoo.checkpoint_folder if step == "flush_folder" else zoo.saving, step, fail)
    with pytest.raises(OSError, match="No space"):
        zoo.save(module, home / "tiny")
    assert contents(home) == before
    assert [path.name for path in home.iterdir()] == (["tiny"] if existing else [])


def test_a_failing_swap_puts_the_old_one_back(
    checkpoint: Path, module: TinyGAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, rename, calls = contents(checkpoint), Path.rename, []

    def second_fails(self: Path, target: Path) -> Path:
        calls.append(self.name)
        if len(calls) == 2:
            raise OSError("Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(OSError, match="Input/output"):
        zoo.save(module, checkpoint)
    assert calls == [checkpoint.name, "new", "old"]
    assert contents(checkpoint) == before
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]


def test_a_new_checkpoint_takes_the_place_of_the_old(checkpoint: Path, module: TinyGAN) -> None:
    (checkpoint / "statistics").mkdir()
    (checkpoint / "statistics/old.safetensors").touch()
    old = zoo.card(checkpoint).sha256
    zoo.save(module, checkpoint)
    assert zoo.card(checkpoint).sha256 != old
    assert sorted(path.name for path in checkpoint.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "samples.png",
    ]  # fmt: skip
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]


def test_folders_that_are_no_checkpoint_are_left_alone(module: TinyGAN, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("two years")
    for target in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(zoo.ZooError, match=re.escape(str(target))):
            zoo.save(module, target)
    assert contents(tmp_path) == {"thesis.tex": b"two years"}


def test_measured_numbers_are_written_without_touching_the_weights(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(checkpoint)
    card = zoo.saving.update_metrics(checkpoint, {"test/fid-tiny-2k": 3.0})
    assert card.metrics == {"test/fid-tiny-10k": 12.5, "test/fid-tiny-2k": 3.0}
    assert "| test/fid-tiny-2k | 3 |" in (checkpoint / "README.md").read_text()
    after = contents(checkpoint)
    assert {name for name in before if before[name] != after[name]} == {"config.json", "README.md"}
    zoo.load(str(checkpoint))

    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("Input/output error")))
    with pytest.raises(OSError, match="Input/output"):
        zoo.saving.update_metrics(checkpoint, {"test/fid-tiny-2k": 4.0})
    assert contents(checkpoint) == after


def save_again_and_again(target: str) -> None:
    lightning_modules.METHODS["TinyGAN"] = TinyGAN
    for width in range(10_000):
        zoo.save(TinyGAN(width=1 + width % 2), target, samples=False)


def test_killed_in_the_middle(tmp_path: Path, registered: None) -> None:
    """Whenever ``kill -9`` comes, what lies there loads, or lies unharmed in the scratch folder beside it."""
    target = tmp_path / "home/tiny"
    process, _ = started(save_again_and_again, str(target))
    try:
        while not target.exists() or not [*target.parent.glob(".tiny.saving-*")]:  # it is saving over another
            assert process.is_alive(), "it ended by itself"
    finally:
        process.kill()
        process.join()
    found = target if target.exists() else next(target.parent.glob(".tiny.*/old"))
    state = zoo.load(str(found)).state_dict()
    assert all(torch.isfinite(value).all() for value in state.values())


def killed_between_the_renames(checkpoint: Path) -> Path:
    """Leaves what ``kill -9`` leaves after the older checkpoint was moved away and before the new one came."""
    scratch = checkpoint.parent / f".{checkpoint.name}.saving-abc123_x"
    (scratch / "new").mkdir(parents=True)
    (scratch / "new/model.safetensors").write_bytes(b"half")
    checkpoint.rename(scratch / "old")
    return scratch


def test_the_next_save_puts_back_what_a_killed_one_has_left(
    checkpoint: Path, module: TinyGAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(checkpoint)
    killed_between_the_renames(checkpoint)
    (checkpoint.parent / ".tiny.other").mkdir()
    (checkpoint.parent / ".tiny.x.saving-abc123_x").mkdir()
    monkeypatch.setattr(zoo.saving, "load_folder", lambda *_: (_ for _ in ()).throw(OSError("No space left")))
    with pytest.raises(OSError, match="No space"):
        zoo.save(module, checkpoint)
    assert contents(checkpoint) == before
    left = [path.name for path in checkpoint.parent.iterdir()]
    assert sorted(left) == [".tiny.other", ".tiny.x.saving-abc123_x", "tiny"], "folders of others are not swept"


def test_what_a_killed_save_has_left_never_replaces_a_checkpoint(checkpoint: Path, module: TinyGAN) -> None:
    old = zoo.card(checkpoint).sha256
    scratch = killed_between_the_renames(checkpoint)
    shutil.copytree(scratch / "old", checkpoint)
    assert zoo.save(module, checkpoint).sha256 == zoo.card(checkpoint).sha256 != old
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]


def test_targets_are_checked_without_writing(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("two years")
    for target in (tmp_path, tmp_path / "thesis.tex", tmp_path / "thesis.tex/tiny"):
        with pytest.raises(zoo.ZooError, match=re.escape(str(target))):
            zoo.checkpoint_folder.check_target(target)
    zoo.checkpoint_folder.check_target(tmp_path / "a/b")
    assert contents(tmp_path) == {"thesis.tex": b"two years"}
