"""What `make` says on a machine that lacks something, played by stand-ins for the interpreter."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def setup(folder: Path, interpreter: str) -> subprocess.CompletedProcess[str]:
    stand_in = folder / "python"
    stand_in.write_text(f"#!/bin/sh\n{interpreter}\n")
    stand_in.chmod(0o755)
    command = ["make", "setup", f"PYTHON={stand_in}", f"VENV={folder / 'venv'}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_old_python_is_refused_with_the_remedy(tmp_path: Path) -> None:
    ran = setup(tmp_path, "exit 1")
    assert ran.returncode != 0
    assert re.search(r"\b3\.10\b", ran.stdout)
    assert re.search(r"\bapt-get install python3\s", ran.stdout)
    assert not (tmp_path / "venv").exists()


def test_missing_venv_module_names_the_package_and_leaves_nothing(tmp_path: Path) -> None:
    # Debian's python3 without python3-venv: the version is fine, the folder is begun, ensurepip is missing.
    ran = setup(tmp_path, f'[ "$1" = -c ] || {{ mkdir -p {tmp_path / "venv/bin"}; exit 1; }}')
    assert ran.returncode != 0
    assert "apt-get install python3-venv" in ran.stdout
    assert "3.10" not in ran.stdout
    assert not (tmp_path / "venv").exists()


def test_setup_is_not_repeated(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").touch()
    (venv / ".installed").touch()
    ran = setup(tmp_path, "exit 1")
    assert ran.returncode == 0, ran.stdout
    assert str(venv) not in ran.stdout, "it would be named by what sets it up"
    assert (venv / ".installed").read_bytes() == (venv / "bin/python").read_bytes() == b""
