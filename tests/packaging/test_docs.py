"""The documentation: its Python runs, its commands parse, and its made pages hold every method, study and module."""

import re
import shlex
from pathlib import Path

import pytest

from docs import pages
from lightning_modules import FAMILIES
from tests.processes import execute, output_of
from zoo.arguments import build_parser
from zoo.studies.study_registry import MODULES
from zoo.studies.study_results import read_result

WRITTEN = {path: path.read_text(encoding="utf-8") for path in sorted(pages.DOCS.rglob("*.md"))}
PYTHON = {str(path): re.findall(r"```python\n(.*?)```", text, re.DOTALL) for path, text in WRITTEN.items()}
COMMANDS = [
    command
    for text in WRITTEN.values()
    for command in re.findall(r"^(?:srun )?python -m (zoo .*?)(?:\s+#.*)?$", text, re.MULTILINE)
]


def test_python_runs(tmp_path: Path) -> None:
    blocks = [(name, code) for name, codes in PYTHON.items() for code in codes]
    assert len(blocks) >= len(FAMILIES) + 4
    returned, _, error = output_of(execute, blocks, folder=str(tmp_path))
    assert returned == 0, error


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    _, *arguments = shlex.split(command)
    parsed, overrides = build_parser().parse_known_args(arguments)
    assert parsed.command == arguments[0]
    assert parsed.command in ("train", "resume") or not overrides


def test_every_family_has_a_page_with_all_of_its_methods() -> None:
    for family, methods in FAMILIES.items():
        text = WRITTEN[pages.DOCS / f"families/{family}.md"]
        made = pages.filled(text, f"families/{family}.md")
        assert [method.__name__ for method in methods if f"### {method.__name__}\n" not in made] == []
        assert "<!-- methods -->" not in made


def test_every_study_is_shown_and_what_was_found() -> None:
    made = pages.studies()
    for name in MODULES:
        assert f"## {name}\n" in made
        result = read_result(name)
        assert result is None or (result["seen"] in made and f"(images/{result['figure']})" in made)
        assert result is None or f"the rule is that of {result['commit'][:7]}" in made
    assert re.search(r"\| 0 \|$", made, re.MULTILINE) is None  # an error that is not given is no error of 0


def test_every_module_of_a_family_or_of_data_is_in_the_reference() -> None:
    shown = {module for places in pages.REFERENCE.values() for place in places for module in pages.modules(place)}
    files = [*(pages.ROOT / "lightning_modules").rglob("*.py"), *(pages.ROOT / "datamodules").rglob("*.py")]
    names = {".".join(file.relative_to(pages.ROOT).with_suffix("").parts) for file in files}
    missing = {name for name in names if not name.endswith("__init__")} - shown
    assert missing <= {"lightning_modules.tracking"}  # a former place


def test_all_pages_are_in_the_navigation_and_links_between_them_lead_somewhere() -> None:
    in_navigation = set(re.findall(r"[\w/]+\.md", str(pages.navigation())))
    made = pages.made_pages()
    there = {str(path.relative_to(pages.DOCS)) for path in WRITTEN} | made.keys()
    assert in_navigation == {place for place in there if not place.startswith("source/")}
    for path, text in WRITTEN.items():
        place = str(path.relative_to(pages.DOCS))
        for link in re.findall(r"\]\((?!https?:)([^)#\s]+\.(?:md|gif|png))\)", pages.filled(text, place)):
            target = (path.parent / link).resolve().relative_to(pages.DOCS)
            assert str(target) in there | pages.images().keys() or (pages.DOCS / target).is_file(), (place, link)


def test_tables_leave_out_columns_that_are_always_empty() -> None:
    rows = [("a", "", "1"), ("b", "", "")]
    assert pages.table(("name", "likelihood", "FID"), rows) == ["| name | FID |", "|---|---|", "| a | 1 |", "| b |  |"]
