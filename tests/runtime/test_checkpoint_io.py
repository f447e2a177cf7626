"""Checkpoint files that cannot be resumed from, each refused by one sentence that names the file."""

import os
import pickle
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import save_file

from lightning_modules import WGANGP, MinimaxGAN
from lightning_modules.runtime.checkpoint_checks import MismatchedCheckpoint
from lightning_modules.runtime.checkpoint_entries import ENTRIES, wrong_entry
from lightning_modules.runtime.checkpoint_io import AtomicCheckpointIO, DamagedCheckpoint, UnusableCheckpoint
from tests.training import train
from zoo.errors import ZooError
from zoo.exporting import export

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a short run."""
    folder = tmp_path_factory.mktemp("written")
    train("MinimaxGAN", 2, str(folder / "run"))
    return folder / "run/last.ckpt"


def places(file: Path) -> list[tuple[str, int, int]]:
    """Returns name, offset and length of the bytes of every entry that holds some."""
    with zipfile.ZipFile(file) as archive:
        found = []
        for entry in archive.infolist():
            with archive.open(entry) as opened:
                found.append((entry.filename, opened._orig_compress_start, entry.file_size))  # type: ignore[attr-defined]
    return found


def refused(path: Path | str, error: type[Exception]) -> str:
    """Returns the sentence with which a file is refused, the same by a resume and by loading the module."""
    with pytest.raises(error) as resumed:
        train("MinimaxGAN", 4, "rest", ckpt_path=str(path))
    with pytest.raises(error) as loaded:
        MinimaxGAN.load_from_checkpoint(path)
    assert str(resumed.value) == str(loaded.value)
    for advice in ("weights_only", "add_safe_globals", "torch.load"):
        assert advice not in str(resumed.value)
    return str(resumed.value)


def test_every_entry_is_checked(written: Path, tmp_path: Path) -> None:
    """Zeros in the middle of any entry, which torch would load."""
    whole, generator = written.read_bytes(), random.Random(0)
    entries = [place for place in places(written) if any(whole[place[1] : place[1] + place[2]])]
    assert len(entries) > 20
    for name, start, size in generator.sample(entries, 8) + [max(entries, key=lambda place: place[2])]:
        damaged = bytearray(whole)
        damaged[start : start + size] = bytes(size)
        (tmp_path / "last.ckpt").write_bytes(damaged)
        with pytest.raises(DamagedCheckpoint, match=r"last\.ckpt"):
            AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")
        assert name
    (tmp_path / "last.ckpt").write_bytes(whole)
    AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")


def test_an_overwritten_checkpoint_is_not_resumed(written: Path, tmp_path: Path) -> None:
    damaged = bytearray(written.read_bytes())
    _, start, size = max(places(written), key=lambda place: place[2])
    damaged[start : start + size] = bytes(size)
    (tmp_path / "last.ckpt").write_bytes(damaged)
    assert "last.ckpt" in refused("last.ckpt", DamagedCheckpoint)


def test_files_without_checksums_are_read(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = torch.load(written, weights_only=True)
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(content, "without.ckpt")
    finally:
        torch.serialization.set_crc32_options(before)
    assert AtomicCheckpointIO().load_checkpoint("without.ckpt")["global_step"] == 2


class Foreign:
    """An object that is no tensor."""


def a_folder(content: dict[str, Any]) -> None:
    Path("foreign").mkdir()


def safetensors(content: dict[str, Any]) -> None:
    save_file({key: value.contiguous() for key, value in content["state_dict"].items()}, "foreign")


def a_state_dict(content: dict[str, Any]) -> None:
    torch.save(content["state_dict"], "foreign")


def another_programs(content: dict[str, Any]) -> None:
    torch.save({"model": content["state_dict"], "epoch": 3}, "foreign")


def a_tensor(content: dict[str, Any]) -> None:
    torch.save(torch.zeros(3), "foreign")


def with_objects(content: dict[str, Any]) -> None:
    torch.save({**content, "extra": Foreign()}, "foreign")


@pytest.mark.parametrize(
    ("write", "facts"),
    [
        (a_folder, ["folder"]),
        (safetensors, ["safetensors"]),
        (a_state_dict, ["state_dict"]),
        (another_programs, ["'state_dict'"]),
        (a_tensor, ["Tensor"]),
        (with_objects, ["objects", "code"]),
    ],
)
def test_other_files_are_named(write: Callable[[dict[str, Any]], None], facts: list[str], written: Path) -> None:
    write(torch.load(written, weights_only=True))
    message = refused("foreign", UnusableCheckpoint)
    for fact in ["foreign", *facts]:
        assert fact in message


def test_weights_alone_are_loaded_but_not_resumed(written: Path) -> None:
    content = torch.load(written, weights_only=True)
    for key in ("loops", "optimizer_states", "lr_schedulers"):
        torch.save({name: value for name, value in content.items() if name != key}, "weights.ckpt")
        with pytest.raises(MismatchedCheckpoint, match=key):
            train("MinimaxGAN", 4, "rest", ckpt_path="weights.ckpt")
    torch.save({**content, "loops": {}}, "weights.ckpt")
    with pytest.raises(MismatchedCheckpoint, match="fit_loop"):
        train("MinimaxGAN", 4, "rest", ckpt_path="weights.ckpt")
    assert MinimaxGAN.load_from_checkpoint("weights.ckpt").hparams["shape"] == [2]


def test_another_width_or_method_is_told_with_both_values(written: Path) -> None:
    width = torch.load(written, weights_only=True)["hyper_parameters"]["width"]
    with pytest.raises(MismatchedCheckpoint) as caught:
        train("MinimaxGAN", 4, "rest", ckpt_path=str(written), overrides={"width": width + 1})
    assert f"width={width} (now {width + 1})" in str(caught.value)
    assert str(written) in str(caught.value)
    with pytest.raises(MismatchedCheckpoint, match=rf"{4 * width}, 64\b.*{4 * (width + 1)}, 64\b"):  # of a tensor
        MinimaxGAN.load_from_checkpoint(written, width=width + 1)
    with pytest.raises(MismatchedCheckpoint, match=r"MinimaxGAN\b.*\bWGANGP"):
        train("WGANGP", 4, "rest", ckpt_path=str(written))
    with pytest.raises(MismatchedCheckpoint, match=r"MinimaxGAN\b.*\bWGANGP"):
        WGANGP.load_from_checkpoint(written)


def test_checkpoints_of_former_versions_do_not_name_their_method(written: Path) -> None:
    """Then the first tensor of another shape is named."""
    content = torch.load(written, weights_only=True)
    former = {key: value for key, value in content.items() if key not in ("method", "hyper_parameters")}
    torch.save(former, "former.ckpt")
    train("MinimaxGAN", 3, "rest", ckpt_path="former.ckpt")
    key, tensor = next((key, value) for key, value in content["state_dict"].items() if value.dim())
    torch.save({**former, "state_dict": {**content["state_dict"], key: tensor[:1]}}, "former.ckpt")
    with pytest.raises(MismatchedCheckpoint) as caught:
        train("MinimaxGAN", 4, "rest", ckpt_path="former.ckpt")
    for fact in (repr(key), str(list(tensor.shape)), str(list(tensor[:1].shape))):
        assert fact in str(caught.value)


def test_evaluation_reads_the_same_files(written: Path) -> None:
    Path("foreign").mkdir()
    trainer = Trainer(logger=False, enable_progress_bar=False, accelerator="cpu", enable_model_summary=False)
    with pytest.raises(UnusableCheckpoint, match="foreign"):
        trainer.validate(MinimaxGAN(shape=[2], architecture="mlp"), [torch.zeros(2, 2)], ckpt_path="foreign")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_is_named_with_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *args, **kw: opened(Path("/dev/full"), *args, **kw))
    for size in (10, 1_000_000):  # in one piece, and in several
        with pytest.raises(OSError, match="No space left") as caught:
            AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(size)}, "run/last.ckpt")
        assert caught.value.filename == os.path.join("run", "last.ckpt")
    assert list(Path("run").iterdir()) == []


@pytest.mark.parametrize("kept", [0, 1])
def test_a_checkpoint_without_the_states_of_all_optimizers_is_refused(written: Path, kept: int) -> None:
    """Lightning would begin the others anew."""
    content = torch.load(written, weights_only=True)
    assert len(content["optimizer_states"]) == 2
    torch.save({**content, "optimizer_states": content["optimizer_states"][:kept]}, "cut.ckpt")
    with pytest.raises(ValueError, match=rf"\b{kept} optimizers.*MinimaxGAN has 2"):
        train("MinimaxGAN", 4, "rest", ckpt_path="cut.ckpt")


def test_an_empty_state_of_the_training_is_refused(written: Path) -> None:
    content = torch.load(written, weights_only=True)
    torch.save({**content, "loops": {"fit_loop": {}}}, "empty.ckpt")
    with pytest.raises(MismatchedCheckpoint, match="empty.ckpt"):
        train("MinimaxGAN", 4, "rest", ckpt_path="empty.ckpt")


def test_weights_that_are_not_finite_are_told(written: Path) -> None:
    content = torch.load(written, weights_only=True)
    key = next(key for key, value in content["state_dict"].items() if value.dim() > 1)
    content["state_dict"][key][0] = torch.nan
    torch.save(content, "nan.ckpt")
    with pytest.raises(MismatchedCheckpoint, match=rf"nan.ckpt.*{key}.*NaN"):
        train("MinimaxGAN", 4, "rest", ckpt_path="nan.ckpt")
    with pytest.warns(UserWarning, match=r"nan.ckpt.*NaN"):
        MinimaxGAN.load_from_checkpoint("nan.ckpt", weights_only=True)


def legacy(path: Path) -> None:
    torch.save({"state_dict": {}}, path, _use_new_zipfile_serialization=False)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": {}}))


@pytest.mark.parametrize(
    ("write", "fact"),
    [
        (legacy, "a file of torch before 1.6"),
        (pickled, "a pickle"),
        (lambda path: path.write_text('{"state_dict": {}}'), "does not begin as one"),
        (lambda path: path.write_text("weights"), "does not begin as one"),
        (lambda path: path.write_bytes(b""), "empty"),
    ],
)
def test_files_of_other_formats_are_not_called_damaged(write: Callable[[Path], Any], fact: str) -> None:
    write(Path("foreign"))
    message = refused("foreign", DamagedCheckpoint)
    assert message.startswith("foreign is no checkpoint that this version reads, or its beginning was overwritten")
    assert fact in message


def numpy_archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, weights=np.zeros(3))


def document(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")


def torchscript(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"linear/{name}", "")


def empty_archive(path: Path) -> None:
    zipfile.ZipFile(path, "w").close()


@pytest.mark.parametrize("write", [numpy_archive, document, torchscript, empty_archive])
def test_other_archives_are_named(write: Callable[[Path], None]) -> None:
    write(Path("foreign"))
    assert "foreign is not a checkpoint of Lightning, but" in refused("foreign", UnusableCheckpoint)


def test_an_archive_whose_content_is_no_pickle_is_refused(written: Path) -> None:
    with zipfile.ZipFile(written) as whole, zipfile.ZipFile("foreign", "w") as archive:
        for entry in whole.infolist():
            content = b"\x80\x02." if entry.filename.endswith("data.pkl") else whole.read(entry)
            archive.writestr(entry.filename, content)
    assert "foreign" in refused("foreign", DamagedCheckpoint)


@pytest.mark.parametrize("entry", ENTRIES)
def test_entries_of_other_types_are_named(entry: str, written: Path) -> None:
    """Whatever reads the file: resuming, loading, exporting; and what is fine stays so."""
    content = torch.load(written, weights_only=True)
    assert wrong_entry(content) is None
    wanted, _ = ENTRIES[entry]
    fine = {"text": wanted.startswith("a string"), None: wanted.endswith("or None")}
    keys = {} if wanted.startswith(("a mapping of fields", "a mapping, ")) or entry == "MixedPrecision" else {3: 4}
    for value in (*(given for given in ("text", None) if not fine[given]), [1], 1.5, *([keys] if keys else [])):
        torch.save({**content, entry: value}, "changed.ckpt")
        with pytest.raises(UnusableCheckpoint, match=rf"changed\.ckpt.*{entry}.*must be.*but is") as resumed:
            AtomicCheckpointIO().load_checkpoint("changed.ckpt")
        with pytest.raises(UnusableCheckpoint) as loaded:
            MinimaxGAN.load_from_checkpoint("changed.ckpt")
        with pytest.raises(ZooError, match=re.escape(str(resumed.value))):
            export(Path("changed.ckpt"), Path("out"))
        assert str(resumed.value) == str(loaded.value)
        assert str(resumed.value).count(". ") == 0


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"optimizer_states": [{"state": {}}]}, "optimizer_states"),
        ({"state_dict": {"a": 1}}, "'a' in state_dict.*the int 1"),
        ({"losses": {"a": "1"}}, "'a' in losses.*the str '1'"),
        ({"callbacks": {"EMA": {"images": 3}}}, "'averages' of the callback EMA.*None"),
        ({"callbacks": {"RandomStates": {"processes": 3}}}, "'processes' of the callback RandomStates.*the int 3"),
        ({"pytorch-lightning_version": "two"}, "'two'"),
    ],
)
def test_what_is_inside_of_entries_is_checked(changes: dict[str, Any], match: str, written: Path) -> None:
    torch.save(torch.load(written, weights_only=True) | changes, "changed.ckpt")
    assert re.search(match, refused("changed.ckpt", UnusableCheckpoint))


def test_a_state_of_a_datamodule_or_loader_of_another_type_is_refused(written: Path) -> None:
    content = torch.load(written, weights_only=True)
    torch.save({**content, "TinyData": [3]}, "changed.ckpt")
    with pytest.raises(MismatchedCheckpoint, match=r"changed\.ckpt.*'TinyData'.*list of int"):
        train("MinimaxGAN", 4, "rest", ckpt_path="changed.ckpt")
    torch.save({**content, "TinyData": {"training_loader": {}}}, "changed.ckpt")
    with pytest.raises(ValueError, match="epoch=None"):
        train("MinimaxGAN", 4, "rest", ckpt_path="changed.ckpt")


@pytest.mark.parametrize("found", [0, 2])
def test_a_checkpoint_without_the_states_of_all_schedulers_is_refused(found: int) -> None:
    """Lightning would begin the others anew, and forget those too many."""
    train("VAE", 2, "scheduled", overrides={"decay_steps": 20})
    content = torch.load("scheduled/last.ckpt", weights_only=True)
    assert len(content["lr_schedulers"]) == 1
    torch.save({**content, "lr_schedulers": content["lr_schedulers"] * found}, "cut.ckpt")
    with pytest.raises(ValueError, match=rf"cut\.ckpt has the states of {found} .*VAE has 1"):
        train("VAE", 4, "rest", ckpt_path="cut.ckpt", overrides={"decay_steps": 20})
