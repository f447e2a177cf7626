"""From names, patterns, paths and Hub ids to checkpoints."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

import zoo
import zoo.model_card
import zoo.paths
from zoo.__main__ import main
from zoo.hub import FILES
from zoo.saving import update_metrics


@pytest.fixture
def shelf(saved_once: Path, registered: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of checkpoints in place of the zoo's own."""
    folder = tmp_path / "shelf"
    for name in ("wgan.ring8", "wgan_gp.ring8", "sngan.images.conditional"):
        shutil.copytree(saved_once, folder / name)
    (folder / "not_a_checkpoint").mkdir()
    for module in (zoo.paths, zoo.hub, zoo.model_card):
        monkeypatch.setattr(module, "checkpoints_dir", lambda: folder)
    return folder


def test_names_match_a_pattern(shelf: Path) -> None:
    assert zoo.names() == ["sngan.images.conditional", "wgan.ring8", "wgan_gp.ring8"]
    assert zoo.names("wgan*") == ["wgan.ring8", "wgan_gp.ring8"]
    assert zoo.names("nothing*") == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, ["sngan.images.conditional", "wgan.ring8", "wgan_gp.ring8"]),
        ({"filter": "wgan*"}, ["wgan.ring8", "wgan_gp.ring8"]),
        ({"filter": ["*images*", "*_gp*"]}, ["sngan.images.conditional", "wgan_gp.ring8"]),
        ({"filter": "*gan*", "exclude_filters": "*ring8"}, ["sngan.images.conditional"]),
        ({"exclude_filters": ["wgan.*", "sngan.*"]}, ["wgan_gp.ring8"]),
        ({"filter": "ring8"}, []),
        ({"method": "TinyGAN", "filter": "wgan.*"}, ["wgan.ring8"]),
        ({"method": "WGANGP"}, []),
        ({"data": "nowhere"}, []),
    ],
)
def test_models_are_listed_by_patterns_method_and_data(
    arguments: dict[str, Any], expected: list[str], shelf: Path
) -> None:
    assert zoo.list_models(**arguments) == expected
    if arguments.get("method") == "TinyGAN":
        assert zoo.list_models(data=zoo.card("wgan.ring8").data) == zoo.list_models()


def test_the_version_is_that_of_the_package() -> None:
    assert zoo.__version__ == version("generative-zoo")
    assert "__version__" in dir(zoo)


def test_a_name_loads_and_names_its_card(shelf: Path) -> None:
    assert zoo.load("wgan.ring8").sample(2).shape == (2, 1, 8, 8)
    assert zoo.card("wgan.ring8").name == "wgan.ring8"
    assert zoo.card("wgan.ring8").path == shelf / "wgan.ring8"


def test_unknown_names_are_key_errors_that_list_the_near_ones(shelf: Path) -> None:
    with pytest.raises(KeyError) as caught:
        zoo.load("wgan-gp.ring8")
    assert isinstance(caught.value, zoo.ZooError)
    message = str(caught.value)
    assert "'wgan-gp.ring8'" in message
    near, _, others = message.partition("wgan_gp.ring8")
    assert "sngan.images.conditional" in others, "the near one comes first, then all there are"
    assert "sngan.images.conditional" not in near


def test_a_model_card_loads_by_name_only_what_the_zoo_finds_by_it(
    shelf: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shelf)
    for folder in (shelf / "wgan.ring8", Path("wgan.ring8")):
        update_metrics(folder, {"fid": 1.0})
        assert 'zoo.load("wgan.ring8")' in (folder / "README.md").read_text()
    update_metrics(checkpoint, {"fid": 1.0})
    assert 'zoo.load("path/to/this/folder")' in (checkpoint / "README.md").read_text()


@pytest.mark.parametrize(
    ("metrics", "heading"),
    [
        (["val/fid-x-2500", "test/fid-x-1k", "test/fid-x-10k"], "test/fid-x-10k"),
        (["val/fid-x-10k", "test/inception_score-x-10k", "test/fid-x-1k"], "test/fid-x-1k"),
        (["val/accuracy", "test/fid_of_training_pictures-x-10k", "test/accuracy"], "test/accuracy"),
        (["val/modes-2500", "test/modes_hit-2500", "test/modes-2500"], "test/modes-2500"),
        (["val/loss", "val/fid-x-2500"], "val/fid-x-2500"),
        (["test/other"], "test/other"),
    ],
)
def test_a_list_shows_the_number_that_can_be_compared(
    metrics: list[str], heading: str, shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((shelf / "wgan.ring8/config.json").read_text())
    config["metrics"] = {name: 1.0 for name in metrics}
    (shelf / "wgan.ring8/config.json").write_text(json.dumps(config))
    assert main(["list", "wgan.ring8"]) == 0
    assert f"  {heading} 1\n" in capsys.readouterr().out


def test_a_recipe_without_checkpoint_says_how_to_make_one(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo.hub, "recipe_names", lambda: ["ebm.rings"])
    with pytest.raises(KeyError, match=r"python -m zoo train ebm\.rings"):
        zoo.load("ebm.rings")


def test_the_zoo_goes_before_a_folder_of_the_same_name(shelf: Path, tmp_path: Path) -> None:
    (tmp_path / "wgan.ring8").mkdir()
    zoo.load("wgan.ring8")
    with pytest.raises(zoo.ZooError, match=r"config\.json"):
        zoo.load("./wgan.ring8")


@pytest.mark.parametrize("kind", [str, Path])
def test_paths(checkpoint: Path, kind: type) -> None:
    assert zoo.card(kind(checkpoint)).name == "tiny"
    zoo.load(kind(checkpoint))


def test_a_relative_path(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkpoint.parent)
    zoo.load("tiny")
    monkeypatch.chdir(checkpoint)
    zoo.load("./")


def snapshot(cache: Path, source: Path) -> Path:
    """Lays files out as the Hub's cache does: links into ``blobs``."""
    folder = cache / "models--someone--gan/snapshots/abc"
    blobs = cache / "models--someone--gan/blobs"
    folder.mkdir(parents=True)
    blobs.mkdir()
    for index, path in enumerate(sorted(source.iterdir())):
        shutil.copy(path, blobs / str(index))
        (folder / path.name).symlink_to(os.path.relpath(blobs / str(index), folder))
    return folder


@pytest.mark.parametrize(
    ("name", "repo", "revision"),
    [
        ("someone/gan", "someone/gan", None),
        ("hf://someone/gan", "someone/gan", None),
        ("hf://someone/gan@v1.0", "someone/gan", "v1.0"),
        ("someone/gan@refs/pr/1", "someone/gan", "refs/pr/1"),
    ],
)
def test_hub_ids(
    name: str, repo: str, revision: str | None, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, Any]] = []
    folder = snapshot(tmp_path / "cache", checkpoint)

    def download(repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        calls.append((repo_id, revision))
        assert allow_patterns == FILES
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    zoo.load(name).sample(1)
    assert zoo.card(name).name == repo
    assert calls == [(repo, revision)] * 2


def test_a_snapshot_may_link_to_its_blobs_only(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = snapshot(tmp_path / "cache", checkpoint)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(folder))
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(checkpoint / "config.json")
    with pytest.raises(zoo.ZooError, match=r"abc/config\.json"):
        zoo.load("someone/gan")


def test_a_hub_without_network_is_one_sentence() -> None:
    """``HF_HUB_OFFLINE`` is set for the tests; this is what the library really raises then."""
    with pytest.raises(zoo.ZooError, match="someone/no-such-gan") as caught:
        zoo.load("someone/no-such-gan")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("failure", "reason"), [("connection", "no route"), ("refused", "401")])
def test_a_failing_download_is_one_sentence(failure: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class TransportError(Exception):
        """As an HTTP library raises it: of no class that one could name for all versions."""

    error = {"connection": TransportError("no route\nto host"), "refused": PermissionError("401")}[failure]

    def download(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(zoo.ZooError, match=reason) as caught:
        zoo.load("hf://someone/gan")
    assert "someone/gan" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_importing_and_listing_import_neither_torch_nor_lightning() -> None:
    code = (
        "import sys, zoo; from zoo import Card, ZooError; import zoo.__main__; zoo.names('*')\n"
        "from zoo.__main__ import main; main(['list'])\n"
        "heavy = {'torch', 'lightning', 'numpy', 'torchvision', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_unknown_attributes_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="lode"):
        zoo.lode  # noqa: B018


def test_every_checkpoint_of_the_zoo_has_a_readable_card() -> None:
    for name in zoo.names():
        assert zoo.card(name).name == name


@pytest.mark.parametrize("name", zoo.names())
def test_every_checkpoint_of_the_zoo_loads_and_counts_its_parameters(name: str) -> None:
    module, card = zoo.load(name), zoo.card(name)
    counted = {key: sum(p.numel() for p in child.parameters()) for key, child in module.named_children()}
    counted["module"] = sum(p.numel() for p in module.parameters(recurse=False))
    assert {key: count for key, count in counted.items() if count} == card.networks
    assert type(module).__name__ == card.method
    assert module.data_spec.name == card.data
    assert card.metrics, f"{name} was not measured"
    assert card.recipe in zoo.paths.recipe_names()
