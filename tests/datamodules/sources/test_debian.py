"""Fetching a Debian package: apt in folders of its own, and its errors; apt is a script that stands in for it."""

from pathlib import Path

import pytest

from datamodules.sources import debian
from datamodules.sources.debian import DebianError


def fake_programs(folder: Path, monkeypatch: pytest.MonkeyPatch, apt: str) -> None:
    for name, body in (("apt-get", apt), ("dpkg-deb", 'mkdir -p "$3/usr"; echo "$2" > "$3/usr/unpacked"')):
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {folder}/calls\n{body}\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_apt_works_in_folders_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    work = tmp_path / "work"
    work.mkdir()
    download = 'for last; do :; done; case "$*" in *download*) touch "${last}_1_all.deb";; *) exit 100;; esac'
    fake_programs(tmp_path / "bin", monkeypatch, download)
    root = debian.unpack_package("some-package", work)
    assert (root / "usr/unpacked").read_text().strip().endswith("some-package_1_all.deb")
    update, fetch, _ = (tmp_path / "bin/calls").read_text().splitlines()
    assert update.endswith(" update")
    assert fetch.endswith(" download some-package")
    for call in (update, fetch):
        assert f"Dir::State={work}/state" in call
        assert f"Dir::Cache={work}/cache" in call


def test_the_error_of_apt_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_programs(tmp_path, monkeypatch, 'echo "E: Unable to locate package x" >&2; exit 100')
    with pytest.raises(DebianError, match="^E: Unable to locate package x$"):
        debian.unpack_package("x", tmp_path / "work")


def test_a_system_without_apt_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DebianError, match="apt-get"):
        debian.unpack_package("x", tmp_path)
