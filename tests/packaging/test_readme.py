"""What the README says is so: its python runs, its commands parse, its tables are those of the cards."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.readme_tables import README, ROOT, written
from zoo.__main__ import build_parser

TEXT = README.read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = re.findall(r"^(?:srun )?python -m (zoo .*?)(?:\s+#.*)?$", TEXT, re.MULTILINE)


def test_tables_are_up_to_date() -> None:
    assert written(TEXT) == TEXT, "run `make readme`"


@pytest.mark.parametrize("code", PYTHON, ids=["load", "train", "continue"])
@pytest.mark.usefixtures("fashion_mnist")
def test_python_runs(code: str, tmp_path: Path) -> None:
    short = code.replace("max_steps=20_000", 'max_steps=2, accelerator="cpu"')
    ran = subprocess.run([sys.executable, "-c", short], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr
    if short != code:
        assert (tmp_path / "runs/my-gan/zoo/model.safetensors").is_file()


def test_python_is_found() -> None:
    assert len(PYTHON) == 3
    assert "max_steps=20_000" in PYTHON[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    _, *arguments = shlex.split(command, comments=True)
    parsed, overrides = build_parser().parse_known_args(arguments)
    assert parsed.command == arguments[0]
    assert parsed.command == "train" or not overrides


def test_commands_are_found() -> None:
    shown = {shlex.split(command)[1] for command in COMMANDS}
    assert shown >= {"list", "show", "sample", "evaluate", "train", "fine-tune"}


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT) + re.findall(r'src="([^"]+)"', TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
